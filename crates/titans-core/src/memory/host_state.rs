//! What one memory has learned, as names, shapes and numbers in host memory.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::learned::Learned;
use super::rules::Rules;
use super::tokens::{GATE_NAMES, GatedTokens};
use crate::error::StateError;
use crate::ops::host_floats;

/// Name of the smoothed surprise among the scalars of a [`HostState`].
pub(super) const SMOOTHED_SURPRISE: &str = "smoothed_surprise";
/// Names of the pending tensors; gates follow under their own names.
pub(super) const PENDING_KEYS: &str = "keys";
const PENDING_VALUES: &str = "values";

/// A [`MemoryState`](crate::MemoryState) as names, shapes and numbers, without a device.
///
/// [`NeuralMemory::state_from_host`](crate::NeuralMemory::state_from_host) is the way back;
/// there and back gives the same bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostState {
    /// The tensors, always in the same order for one configuration.
    pub tensors: Vec<StateTensor>,
    /// Numbers that belong to no tensor; each is an `f32` kept as an `f64`.
    pub scalars: BTreeMap<String, f64>,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens written so far.
    pub tokens_written: u64,
}

/// One tensor of a [`HostState`].
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Its name, unique within its role.
    pub name: String,
    /// What it is to the memory.
    pub role: StateRole,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// As many values as the shape has coordinates, in row-major order.
    pub values: Vec<f32>,
}

/// What a tensor is to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StateRole {
    /// What the memory has learned.
    Weights,
    /// The accumulated surprise of the learning algorithm.
    Momentum,
    /// What an unfinished update still needs: its tokens, and the weights at which
    /// gradients are taken or to which weights decay.
    Pending,
}

pub(super) const BASE_PREFIX: &str = "base.";
pub(super) const INITIAL_PREFIX: &str = "initial.";

pub(super) fn momentum_prefix(order: usize) -> &'static str {
    ["", "second."][order]
}

/// A tensor of one memory or of several, with what a host state calls it.
pub(super) struct Named<'a> {
    pub(super) name: String,
    pub(super) role: StateRole,
    /// Of one memory.
    pub(super) shape: Vec<usize>,
    pub(super) tensor: &'a Tensor<3>,
}

/// What a write may change, but for the tokens that wait, in the order of a host state.
pub(super) fn named<'a>(rules: &'a Rules, learned: &'a Learned) -> impl Iterator<Item = Named<'a>> {
    let weights = named_set(rules, "", StateRole::Weights, &learned.accumulators);
    let momenta = learned.momenta.iter().enumerate();
    let momenta = momenta.flat_map(|(order, buffers)| {
        named_set(rules, momentum_prefix(order), StateRole::Momentum, buffers)
    });
    let base = learned.base.iter();
    let base = base.flat_map(|set| named_set(rules, BASE_PREFIX, StateRole::Pending, set));
    weights.chain(momenta).chain(base)
}

pub(super) fn named_set<'a>(
    rules: &'a Rules,
    prefix: &'a str,
    role: StateRole,
    set: &'a [Tensor<3>],
) -> impl Iterator<Item = Named<'a>> {
    rules
        .tensors
        .iter()
        .zip(set)
        .map(move |(spec, tensor)| Named {
            name: format!("{prefix}{}", spec.name),
            role,
            shape: vec![spec.rows, spec.columns],
            tensor,
        })
}

pub(super) fn pending_to_host(pending: &GatedTokens) -> Vec<StateTensor> {
    let tensor = |name: &str, shape: Vec<usize>, values| StateTensor {
        name: name.to_owned(),
        role: StateRole::Pending,
        shape,
        values,
    };
    let rows = |name, rows: &Tensor<3>| {
        let [_, tokens, width] = rows.dims();
        tensor(name, vec![tokens, width], host_floats(rows.clone()))
    };
    let mut tensors = vec![
        rows(PENDING_KEYS, &pending.keys),
        rows(PENDING_VALUES, &pending.values),
    ];
    for (name, gate) in GATE_NAMES.into_iter().zip(&pending.gates) {
        if let Some(values) = gate {
            let [_, tokens] = values.dims();
            tensors.push(tensor(name, vec![tokens], host_floats(values.clone())));
        }
    }
    tensors
}

/// Takes tensors out of a host state by role and name; whatever is left is an error.
pub(super) struct HostReader<'a> {
    left: Vec<StateTensor>,
    device: &'a Device,
}

impl<'a> HostReader<'a> {
    pub(super) fn new(tensors: Vec<StateTensor>, device: &'a Device) -> Result<Self, StateError> {
        for tensor in &tensors {
            if tensor.shape.iter().product::<usize>() != tensor.values.len() {
                return Err(StateError::Shape {
                    name: tensor.name.clone(),
                    expected: tensor.shape.clone(),
                    found: vec![tensor.values.len()],
                });
            }
            if let Some(index) = tensor.values.iter().position(|value| !value.is_finite()) {
                return Err(StateError::NotFinite {
                    name: tensor.name.clone(),
                    index,
                });
            }
        }
        Ok(Self {
            left: tensors,
            device,
        })
    }

    fn find(&self, name: &str, role: StateRole) -> Option<usize> {
        self.left
            .iter()
            .position(|tensor| tensor.role == role && tensor.name == name)
    }

    pub(super) fn take<const D: usize>(
        &mut self,
        name: &str,
        role: StateRole,
        expected: [usize; D],
    ) -> Result<Tensor<D>, StateError> {
        let index = self.find(name, role).ok_or_else(|| StateError::Missing {
            what: "tensor",
            name: name.to_owned(),
        })?;
        let found = self.left.remove(index);
        if found.shape != expected {
            return Err(StateError::Shape {
                name: found.name,
                expected: expected.to_vec(),
                found: found.shape,
            });
        }
        Ok(Tensor::from_data(
            TensorData::new(found.values, expected),
            self.device,
        ))
    }

    pub(super) fn take_pending(
        &mut self,
        rules: &Rules,
    ) -> Result<Option<GatedTokens>, StateError> {
        let Some(index) = self.find(PENDING_KEYS, StateRole::Pending) else {
            return Ok(None);
        };
        let found = &self.left[index].shape;
        let tokens = found.first().copied().unwrap_or(0);
        let (key_dim, value_dim) = (rules.config.key_dim, rules.config.value_dim);
        if tokens == 0 || tokens >= rules.update().update_size {
            return Err(StateError::Shape {
                name: PENDING_KEYS.to_owned(),
                expected: vec![rules.update().update_size - 1, key_dim],
                found: found.clone(),
            });
        }
        let role = StateRole::Pending;
        let keys: Tensor<2> = self.take(PENDING_KEYS, role, [tokens, key_dim])?;
        let values: Tensor<2> = self.take(PENDING_VALUES, role, [tokens, value_dim])?;
        let mut gates = [const { None }; GATE_NAMES.len()];
        for (name, gate) in GATE_NAMES.into_iter().zip(&mut gates) {
            if self.find(name, role).is_some() {
                let values: Tensor<1> = self.take(name, role, [tokens])?;
                *gate = Some(values.unsqueeze_dim(0));
            }
        }
        Ok(Some(GatedTokens {
            keys: keys.unsqueeze_dim(0),
            values: values.unsqueeze_dim(0),
            gates,
        }))
    }

    pub(super) fn finish(self) -> Result<(), StateError> {
        match self.left.into_iter().next() {
            Some(surplus) => Err(StateError::Unexpected {
                what: "tensor",
                name: surplus.name,
            }),
            None => Ok(()),
        }
    }
}

pub(super) fn take_only_scalar(
    mut scalars: BTreeMap<String, f64>,
    name: &str,
) -> Result<f64, StateError> {
    let value = scalars.remove(name).ok_or_else(|| StateError::Missing {
        what: "scalar",
        name: name.to_owned(),
    })?;
    if let Some((name, _)) = scalars.pop_first() {
        return Err(StateError::Unexpected {
            what: "scalar",
            name,
        });
    }
    if !value.is_finite() {
        return Err(StateError::NotFinite {
            name: name.to_owned(),
            index: 0,
        });
    }
    Ok(value)
}
