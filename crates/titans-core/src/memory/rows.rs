//! The fast path: a memory that is a matrix over sparse features, written row by row.

use burn::tensor::{Int, Tensor, TensorData};

use super::host_state::StateRole;
use super::learned::Learned;
use super::neural_memory::NeuralMemory;
use super::state::{MemoryState, WriteReport};
use super::state_delta::{SparseDelta, StateDelta};
use crate::miras::MemoryArchitecture;
use crate::ops::{ActiveChannels, WriteRule, Written};

impl NeuralMemory {
    /// `M(query)`, `[tokens, value_dim]`.
    pub(super) fn read_rows(&self, learned: &Learned, queries: Tensor<2>) -> Tensor<2> {
        let weights = learned.accumulators[0].clone().squeeze_dim(0);
        self.rules
            .ops
            .read(&weights, &self.active_channels(queries))
    }

    /// Writes the tokens that surprise the memory, in order, and nothing else.
    ///
    /// ```text
    /// error_t    = value_t - f_t @ W
    /// surprise_t = ||error_t|| / ||value_t||
    /// W[j]       = retention_t * W[j] + step_size * f_tj * error_t     for active channels j,
    ///              if surprise_t > surprise_threshold
    /// ```
    ///
    /// This is the delta rule `W <- a W + step k (v - W k)` of Titans (arXiv:2501.00663,
    /// eq. 13-14, linear in the learned layer) with the decay confined to the written
    /// rows.
    ///
    /// Keys and values are finite. Weights that are nobody else's are written in place.
    ///
    /// # Shapes
    /// - `keys`: `[memories, tokens, key_dim]`
    /// - `values`: `[memories, tokens, value_dim]`
    pub(super) fn write_rows(
        &self,
        rule: &WriteRule,
        states: &mut [MemoryState],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Vec<WriteReport> {
        let [memories, tokens, key_dim] = keys.dims();
        let active = self.active_channels(keys.reshape([memories * tokens, key_dim]));
        let smoothed: Vec<f32> = states.iter().map(|s| s.smoothed_surprise()).collect();
        let weights = states
            .iter_mut()
            .map(|state| state.learned.accumulators.remove(0).squeeze_dim(0))
            .collect();
        let written = (self.rules.ops).write_batch(weights, &smoothed, &active, values, rule);
        (states.iter_mut().zip(written))
            .map(|(state, written)| apply(state, written, tokens))
            .collect()
    }

    fn active_channels(&self, keys: Tensor<2>) -> ActiveChannels {
        let (Some(expansion), MemoryArchitecture::SparseChannelMlp(mlp)) =
            (&self.expansion, self.config().miras.architecture)
        else {
            return every_row(keys);
        };
        self.rules
            .ops
            .activate(keys, expansion, mlp.active_channels)
    }
}

/// Puts what was written into its state.
fn apply(state: &mut MemoryState, written: Written, tokens: usize) -> WriteReport {
    let [channels, value_dim] = written.weights.dims();
    let smoothed_surprise = &mut state.learned.smoothed_surprise;
    *smoothed_surprise =
        Tensor::from_data([[written.smoothed_surprise]], &smoothed_surprise.device());
    state
        .learned
        .accumulators
        .push(written.weights.unsqueeze_dim(0));
    state.tokens_seen += tokens as u64;
    state.tokens_written += written.tokens_written as u64;

    let changed = SparseDelta {
        name: state.rules.tensors[0].name.clone(),
        role: StateRole::Weights,
        shape: vec![channels, value_dim],
        width: value_dim,
        indices: written.touched_rows,
        values: None,
    };
    WriteReport {
        surprise: written.surprise,
        tokens_written: written.tokens_written,
        delta: Some(StateDelta {
            tensors: Some(changed)
                .filter(|c| !c.is_empty())
                .into_iter()
                .collect(),
            removed: Vec::new(),
        }),
    }
}

/// A plain matrix: every key coordinate is a row.
fn every_row(keys: Tensor<2>) -> ActiveChannels {
    let [tokens, key_dim] = keys.dims();
    let indices: Vec<i32> = (0..tokens).flat_map(|_| 0..key_dim as i32).collect();
    let indices: Tensor<2, Int> =
        Tensor::from_data(TensorData::new(indices, [tokens, key_dim]), &keys.device());
    ActiveChannels {
        indices,
        features: keys,
    }
}
