//! What one memory has learned, on the device; from there to host memory and back.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::host_state::{
    BASE_PREFIX, HostReader, HostState, INITIAL_PREFIX, Named, PENDING_KEYS, SMOOTHED_SURPRISE,
    StateRole, StateTensor, momentum_prefix, named, named_set, pending_to_host, take_only_scalar,
};
use super::learned::Learned;
use super::plan::Engine;
use super::rules::Rules;
use super::state_delta::StateDelta;
use crate::error::StateError;
use crate::ops::host_floats;

/// The learned part of one memory: bounded in size, whatever it has read.
///
/// Cloning shares the tensors; a write to one of the clones leaves the others as they were.
#[derive(Clone, Debug)]
pub struct MemoryState {
    pub(super) rules: Arc<Rules>,
    /// One memory, so every tensor begins with a 1.
    pub(super) learned: Learned,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens written so far.
    pub tokens_written: u64,
}

impl MemoryState {
    pub(super) fn new(rules: Arc<Rules>, learned: Learned) -> Self {
        Self {
            rules,
            learned,
            tokens_seen: 0,
            tokens_written: 0,
        }
    }

    /// Tokens that wait for their update to be complete.
    pub fn tokens_pending(&self) -> usize {
        self.learned.pending_tokens()
    }

    /// The learned tensors, `[rows, columns]` each, as the retention gate accumulates
    /// them. Without copying; part of the graph under autodiff.
    pub fn tensors(&self) -> Vec<Tensor<2>> {
        self.learned
            .accumulators
            .iter()
            .map(|tensor| tensor.clone().squeeze_dim(0))
            .collect()
    }

    /// The momentum buffers, first order first, one `[rows, columns]` per learned tensor.
    pub fn momenta(&self) -> Vec<Vec<Tensor<2>>> {
        self.learned
            .momenta
            .iter()
            .map(|buffers| {
                buffers
                    .iter()
                    .map(|tensor| tensor.clone().squeeze_dim(0))
                    .collect()
            })
            .collect()
    }

    /// The state with other momentum buffers, laid out as [`momenta`](Self::momenta).
    ///
    /// # Panics
    /// If the buffers are not as many and as large as those of this state.
    #[must_use]
    pub fn with_momenta(mut self, momenta: Vec<Vec<Tensor<2>>>) -> Self {
        let shapes = |buffers: &[Tensor<3>]| -> Vec<[usize; 3]> {
            buffers.iter().map(Tensor::dims).collect()
        };
        let new: Vec<Vec<Tensor<3>>> = momenta
            .into_iter()
            .map(|buffers| buffers.into_iter().map(|b| b.unsqueeze_dim(0)).collect())
            .collect();
        let expected: Vec<_> = self.learned.momenta.iter().map(|b| shapes(b)).collect();
        let found: Vec<_> = new.iter().map(|b| shapes(b)).collect();
        assert_eq!(
            found, expected,
            "momenta are {found:?}, expected {expected:?}"
        );
        self.learned.momenta = new;
        self
    }

    /// The article's scalar momentum: surprise of the stream, smoothed.
    pub fn smoothed_surprise(&self) -> f32 {
        host_floats(self.learned.smoothed_surprise.clone())[0]
    }

    pub(super) fn tokens_in_weights(&self) -> u64 {
        self.tokens_seen - self.tokens_pending() as u64
    }
}

/// What one call of [`write`](crate::NeuralMemory::write) did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteReport {
    /// Relative error of each given token at the weights that its gradient is taken at;
    /// 1 means that nothing was known.
    pub surprise: Vec<f32>,
    /// How many tokens were written, including earlier ones whose update was completed.
    pub tokens_written: usize,
    /// Where the state changed; its new values are in the state. `None` where a write may
    /// change everything: for a memory that writes densely, or decays as a whole.
    pub delta: Option<StateDelta>,
}

impl MemoryState {
    /// A copy in host memory: everything that a file must keep.
    pub fn to_host(&self) -> HostState {
        self.copied(host_floats)
    }

    /// [`to_host`](Self::to_host) without the values of the learned tensors: what stays of a
    /// copy when a delta tells all values that have changed.
    pub fn outline(&self) -> HostState {
        self.copied(|_| Vec::new())
    }

    fn copied(&self, values: impl Fn(Tensor<3>) -> Vec<f32>) -> HostState {
        let (rules, learned) = (&self.rules, &self.learned);
        let initial = learned.initial.iter();
        let initial =
            initial.flat_map(|set| named_set(rules, INITIAL_PREFIX, StateRole::Pending, set));
        let mut tensors: Vec<StateTensor> = (named(rules, learned).chain(initial))
            .map(|named| StateTensor {
                name: named.name,
                role: named.role,
                shape: named.shape,
                values: values(named.tensor.clone()),
            })
            .collect();
        if let Some(pending) = &learned.pending {
            tensors.extend(pending_to_host(pending));
        }
        let scalars = [(SMOOTHED_SURPRISE, self.smoothed_surprise())];
        HostState {
            tensors,
            scalars: scalars
                .map(|(name, value)| (name.to_owned(), f64::from(value)))
                .into(),
            tokens_seen: self.tokens_seen,
            tokens_written: self.tokens_written,
        }
    }

    /// Brings a state up to date with `newer`, from which it differs as `delta` says: the
    /// same bits as `*self = newer.clone()`, and no tensor shared with it where that can be
    /// had without allocating one.
    ///
    /// That is so for a memory on the CPU that is written row by row, and it is worth having
    /// because a write copies a tensor that is shared. Where this state is nobody else's, the
    /// next write is made in place then.
    ///
    /// # Panics
    /// If the states are not of one configuration.
    pub fn catch_up(&mut self, newer: &Self, delta: &StateDelta) {
        assert_eq!(
            self.rules.config, newer.rules.config,
            "the states are of different memories"
        );
        let own = std::mem::replace(self, newer.clone()).learned.accumulators;
        let own = <[Tensor<3>; 1]>::try_from(own);
        let (Some(rows), Ok([own])) = (newer.rows_changed(delta), own) else {
            return;
        };
        self.learned.accumulators = vec![copy_rows(&newer.learned.accumulators[0], own, rows)];
    }

    /// A delta of the write that led to this state, with the new values of all that it lists:
    /// those that it does not hold are gathered on the device, and nothing else is copied.
    ///
    /// `None` where that is more than half of the learned numbers, or tokens wait for their
    /// update: [`to_host`](Self::to_host) is the better way then.
    pub fn with_values(&self, delta: &StateDelta) -> Option<StateDelta> {
        let tensors: Vec<Named> = named(&self.rules, &self.learned).collect();
        let numbers: usize = tensors
            .iter()
            .map(|named| named.tensor.shape().num_elements())
            .sum();
        if 2 * delta.len() > numbers {
            return None;
        }
        let mut told = delta.clone();
        for changed in &mut told.tensors {
            if changed.values.is_none() {
                let is_it =
                    |named: &&Named| named.role == changed.role && named.name == changed.name;
                let named = tensors.iter().find(is_it)?;
                changed.values = Some(rows_of(named.tensor, changed.width, &changed.indices));
            }
        }
        Some(told)
    }

    /// The rows that changed, if this is a memory that is written row by row in host memory.
    fn rows_changed<'a>(&self, delta: &'a StateDelta) -> Option<&'a [u32]> {
        let [spec] = &self.rules.tensors[..] else {
            return None;
        };
        let is_in_host_memory = self.learned.accumulators[0].device() == Device::flex();
        let is_written_by_row = matches!(self.rules.plan.engine, Engine::Rows(_));
        if !is_in_host_memory || !is_written_by_row || !delta.removed.is_empty() {
            return None;
        }
        match &delta.tensors[..] {
            [] => Some(&[]),
            [rows] if rows.role == StateRole::Weights && rows.width == spec.columns => {
                Some(&rows.indices)
            }
            _ => None,
        }
    }

    pub(super) fn from_host(
        rules: &Arc<Rules>,
        host: HostState,
        device: &Device,
    ) -> Result<Self, StateError> {
        let mut reader = HostReader::new(host.tensors, device)?;
        let mut take_set = |prefix: &str, role| -> Result<Vec<Tensor<3>>, StateError> {
            rules
                .tensors
                .iter()
                .map(|spec| {
                    let name = format!("{prefix}{}", spec.name);
                    let tensor: Tensor<2> = reader.take(&name, role, [spec.rows, spec.columns])?;
                    Ok(tensor.unsqueeze_dim(0))
                })
                .collect()
        };
        let accumulators = take_set("", StateRole::Weights)?;
        let momenta = (0..rules.momentum_orders())
            .map(|order| take_set(momentum_prefix(order), StateRole::Momentum))
            .collect::<Result<_, _>>()?;
        let base = rules
            .keeps_base()
            .then(|| take_set(BASE_PREFIX, StateRole::Pending))
            .transpose()?;
        let initial = rules
            .keeps_initial()
            .then(|| take_set(INITIAL_PREFIX, StateRole::Pending))
            .transpose()?;
        let pending = reader.take_pending(rules)?;
        reader.finish()?;
        let smoothed = take_only_scalar(host.scalars, SMOOTHED_SURPRISE)?;
        let learned = Learned {
            accumulators,
            momenta,
            base,
            initial,
            smoothed_surprise: Tensor::from_data([[smoothed as f32]], device),
            pending,
        };
        if (learned.pending_tokens() as u64) > host.tokens_seen {
            return Err(StateError::Unexpected {
                what: "pending token count",
                name: PENDING_KEYS.to_owned(),
            });
        }
        Ok(Self {
            rules: rules.clone(),
            learned,
            tokens_seen: host.tokens_seen,
            tokens_written: host.tokens_written,
        })
    }
}

/// Rows that are read at once: a tensor that is shared can only be read by copying.
const ROWS_AT_ONCE: usize = 256;

/// `to` with the listed rows of `from`, both `[1, rows, columns]`; ascending.
fn copy_rows(from: &Tensor<3>, to: Tensor<3>, rows: &[u32]) -> Tensor<3> {
    let shape = to.dims();
    let [_, all, columns] = shape;
    let device = to.device();
    let mut values = host_floats(to);
    let mut rows = rows.iter().map(|row| *row as usize).peekable();
    while let Some(first) = rows.peek().copied() {
        let count = ROWS_AT_ONCE.min(all - first);
        let block = host_floats(from.clone().narrow(1, first, count));
        while let Some(row) = rows.next_if(|row| *row < first + count) {
            let new = &block[(row - first) * columns..][..columns];
            values[row * columns..][..columns].copy_from_slice(new);
        }
    }
    Tensor::from_data(TensorData::new(values, shape), &device)
}

/// The listed rows of `width` numbers of a tensor of one memory, one after the other.
fn rows_of(tensor: &Tensor<3>, width: usize, rows: &[u32]) -> Vec<f32> {
    let all = tensor.shape().num_elements() / width;
    let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let count = rows.len();
    let rows = TensorData::new(rows, [count]);
    let rows = Tensor::<1, Int>::from_data(rows, (&tensor.device(), DType::I32));
    host_floats(tensor.clone().reshape([all, width]).select(0, rows))
}
