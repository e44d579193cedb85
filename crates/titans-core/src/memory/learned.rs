//! What a batch of memories has learned, as tensors.

use burn::tensor::Tensor;

use super::tokens::GatedTokens;

/// The learned tensors of some memories: memory `i` is row `i` of every tensor.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    /// What the retention gate turns into weights; one per tensor of the architecture.
    pub(crate) accumulators: Vec<Tensor<3>>,
    /// One set of buffers per order of momentum.
    pub(crate) momenta: Vec<Vec<Tensor<3>>>,
    /// Accumulators at the gradient base, where that is not the start of the update.
    pub(crate) base: Option<Vec<Tensor<3>>>,
    /// Accumulators that the memory began with, where a gate or the base needs them.
    pub(crate) initial: Option<Vec<Tensor<3>>>,
    /// Smoothed surprise, `[memories, 1]`.
    pub(crate) smoothed_surprise: Tensor<2>,
    /// Tokens of an unfinished update.
    pub(crate) pending: Option<GatedTokens>,
}

impl Learned {
    /// Everything in which a number that is not finite would stay.
    pub(crate) fn numbers(&self) -> Vec<Tensor<3>> {
        let tensors = self.accumulators.iter();
        let tensors = tensors.chain(self.momenta.iter().flatten()).cloned();
        let smoothed = self.smoothed_surprise.clone().unsqueeze_dim(2);
        tensors.chain([smoothed]).collect()
    }

    /// How many tokens wait for their update to be complete.
    pub(crate) fn pending_tokens(&self) -> usize {
        self.pending.as_ref().map_or(0, GatedTokens::len)
    }

    /// Memories side by side. All must be equally far in their update.
    pub(crate) fn stack(memories: &[&Self]) -> Self {
        let first = memories[0];
        if memories.len() == 1 {
            return first.clone();
        }
        let tensors = |of: &dyn Fn(&Self) -> &Vec<Tensor<3>>| -> Vec<Tensor<3>> {
            (0..of(first).len())
                .map(|tensor| {
                    Tensor::cat(memories.iter().map(|m| of(m)[tensor].clone()).collect(), 0)
                })
                .collect()
        };
        let optional = |of: &dyn Fn(&Self) -> &Option<Vec<Tensor<3>>>| {
            of(first)
                .as_ref()
                .map(|_| tensors(&|m| of(m).as_ref().expect("states of one configuration")))
        };
        Self {
            accumulators: tensors(&|m| &m.accumulators),
            momenta: (0..first.momenta.len())
                .map(|order| tensors(&|m| &m.momenta[order]))
                .collect(),
            base: optional(&|m| &m.base),
            initial: optional(&|m| &m.initial),
            smoothed_surprise: Tensor::cat(
                memories
                    .iter()
                    .map(|m| m.smoothed_surprise.clone())
                    .collect(),
                0,
            ),
            pending: GatedTokens::stack(memories.iter().map(|m| m.pending.as_ref())),
        }
    }

    /// One memory of a batch.
    pub(crate) fn memory(&self, memory: usize) -> Self {
        let [memories, _, _] = self.accumulators[0].dims();
        if memories == 1 {
            return self.clone();
        }
        let one = |tensor: &Tensor<3>| tensor.clone().narrow(0, memory, 1);
        let all = |tensors: &Vec<Tensor<3>>| tensors.iter().map(one).collect::<Vec<_>>();
        Self {
            accumulators: all(&self.accumulators),
            momenta: self.momenta.iter().map(all).collect(),
            base: self.base.as_ref().map(all),
            initial: self.initial.as_ref().map(all),
            smoothed_surprise: self.smoothed_surprise.clone().narrow(0, memory, 1),
            pending: self.pending.as_ref().map(|tokens| tokens.memory(memory)),
        }
    }
}
