//! The way back from a layer's state in host memory.

use burn::tensor::{Device, Tensor, TensorData};

use super::{AttentionState, HostLayerState, LayerState, ProjectionState, TitansLayer};
use crate::error::StateError;
use crate::memory::{HostState, MemoryState};

impl TitansLayer {
    /// The state that [`LayerState::to_host`] copied, bit for bit.
    ///
    /// # Errors
    /// [`StateError`] when a memory or a tensor of this layer is missing or of another
    /// shape.
    pub fn state_from_host(&self, host: &HostLayerState) -> Result<LayerState, StateError> {
        let mut state = self.initial_state(host.batch);
        let device = self.device();
        if let (Some(block), Some(layer)) = (&mut state.block, self.block()) {
            let memories = |hosts: &[HostState]| -> Result<Vec<MemoryState>, StateError> {
                let states = hosts.iter().cloned();
                let states: Vec<_> = states
                    .map(|host| layer.memory().state_from_host(host))
                    .collect::<Result<_, _>>()?;
                match states.len() == host.batch {
                    true => Ok(states),
                    false => Err(missing("memory")),
                }
            };
            block.memories = memories(&host.memories)?;
            block.position = host.position;
            if state.segment_start.is_some() {
                state.segment_start = Some(memories(&host.segment_start)?);
            }
            if let Some(ProjectionState { tails }) = &mut block.projection {
                let names = ["query_tail", "key_tail", "value_tail"];
                for (tail, name) in tails.iter_mut().zip(names) {
                    *tail = like(host, name, tail)?;
                }
            }
            if let Some(row) = &mut block.delayed {
                *row = like(host, "block_delayed", row)?;
            }
        }
        if let Some(row) = &mut state.delayed {
            *row = like(host, "delayed", row)?;
        }
        if let Some(attention) = &mut state.attention {
            *attention = AttentionState::from_tensors(host.position as usize, |name| {
                find(host, name, &device)
            });
        }
        state.position = host.position;
        Ok(state)
    }
}

fn missing(name: &str) -> StateError {
    StateError::Missing {
        what: "tensor",
        name: name.to_owned(),
    }
}

fn find(host: &HostLayerState, name: &str, device: &Device) -> Option<Tensor<3>> {
    let (_, shape, values) = host.tensors.iter().find(|(found, _, _)| found == name)?;
    let data = TensorData::new(values.clone(), *shape);
    (values.len() == shape.iter().product::<usize>()).then(|| Tensor::from_data(data, device))
}

/// The tensor of this name, in the shape of `expected`.
fn like(host: &HostLayerState, name: &str, expected: &Tensor<3>) -> Result<Tensor<3>, StateError> {
    let tensor = find(host, name, &expected.device()).ok_or_else(|| missing(name))?;
    match tensor.dims() == expected.dims() {
        true => Ok(tensor),
        false => Err(StateError::Shape {
            name: name.to_owned(),
            expected: expected.dims().to_vec(),
            found: tensor.dims().to_vec(),
        }),
    }
}
