//! What a layer carries from piece to piece, on the device and in host memory.

use burn::tensor::Tensor;

use super::{AttentionState, BlockState};
use crate::memory::{HostState, MemoryState};
use crate::ops::host_floats;

/// State of a [`TitansLayer`](crate::TitansLayer) for a batch of texts.
#[derive(Clone, Debug)]
pub struct LayerState {
    pub(super) batch: usize,
    pub(super) block: Option<BlockState>,
    /// The memories as the current segment found them: what memory as context reads.
    pub(super) segment_start: Option<Vec<MemoryState>>,
    pub(super) attention: Option<AttentionState>,
    /// The last row, where attention pairs keys with the next value.
    pub(super) delayed: Option<Tensor<3>>,
    pub(super) position: u64,
}

/// A [`LayerState`] as names, shapes and numbers, without a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostLayerState {
    /// Texts in the batch.
    pub batch: usize,
    /// Tokens read so far.
    pub position: u64,
    /// The memories, as a store keeps them.
    pub memories: Vec<HostState>,
    /// The memories at the beginning of the segment, if the wiring needs them.
    pub segment_start: Vec<HostState>,
    /// Name, shape and values of what else is carried.
    pub tensors: Vec<(String, [usize; 3], Vec<f32>)>,
}

impl LayerState {
    /// Tokens read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The memories, one for each text; empty for a layer without.
    pub fn memories(&self) -> &[MemoryState] {
        self.block.as_ref().map_or(&[], |block| &block.memories)
    }

    /// Replaces the memories, for example by those that a store kept.
    ///
    /// # Panics
    /// If they are not as many as there are texts.
    pub fn set_memories(&mut self, memories: Vec<MemoryState>) {
        assert_eq!(memories.len(), self.batch, "one memory for each text");
        if self.segment_start.is_some() {
            self.segment_start = Some(memories.clone());
        }
        if let Some(block) = &mut self.block {
            block.memories = memories;
        }
    }

    /// Bytes of everything that is carried, counted from the tensors.
    pub fn bytes(&self) -> usize {
        let memory = |memory: &MemoryState| -> usize {
            let host = memory.to_host();
            let numbers: usize = host.tensors.iter().map(|tensor| tensor.values.len()).sum();
            (numbers + host.scalars.len()) * size_of::<f32>()
        };
        let memories = self.memories().iter().map(memory).sum::<usize>();
        let start = self
            .segment_start
            .iter()
            .flatten()
            .map(memory)
            .sum::<usize>();
        let numbers: usize = (self.tensors().iter())
            .map(|(_, tensor)| tensor.dims().iter().product::<usize>())
            .sum();
        memories + start + numbers * size_of::<f32>()
    }

    /// A copy without a device.
    pub fn to_host(&self) -> HostLayerState {
        let start = self.segment_start.iter().flatten();
        HostLayerState {
            batch: self.batch,
            position: self.position,
            memories: self.memories().iter().map(MemoryState::to_host).collect(),
            segment_start: start.map(MemoryState::to_host).collect(),
            tensors: (self.tensors().into_iter())
                .map(|(name, tensor)| (name.to_owned(), tensor.dims(), host_floats(tensor)))
                .collect(),
        }
    }

    fn tensors(&self) -> Vec<(&'static str, Tensor<3>)> {
        let mut tensors = Vec::new();
        if let Some(block) = &self.block {
            if let Some(projection) = &block.projection {
                let names = ["query_tail", "key_tail", "value_tail"];
                tensors.extend(names.into_iter().zip(projection.tails.iter().cloned()));
            }
            tensors.extend(
                block
                    .delayed
                    .iter()
                    .map(|row| ("block_delayed", row.clone())),
            );
        }
        tensors.extend(self.delayed.iter().map(|row| ("delayed", row.clone())));
        if let Some(attention) = &self.attention {
            tensors.extend(attention.tensors());
        }
        tensors
    }
}
