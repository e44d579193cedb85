//! Where a write changed a state, so that a journal can record it and an older state catch
//! up.

use burn::tensor::Tensor;

use super::host_state::{HostState, StateRole, StateTensor, named, pending_to_host};
use super::learned::Learned;
use super::rules::Rules;
use super::tokens::GatedTokens;
use crate::ops::{Changes, MemoryOps};

/// Where the state after a write differs from the one before. The new values are in the state.
///
/// [`HostState::apply`] and [`MemoryState::catch_up`](crate::MemoryState::catch_up) lead from
/// the one to the other, bit for bit. For a memory that writes sparsely this is a few rows;
/// for one that decays everywhere it is everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDelta {
    /// The tensors that changed, in the order of the state.
    pub tensors: Vec<SparseDelta>,
    /// Tensors that are gone: the tokens of an update that was completed.
    pub removed: Vec<(StateRole, String)>,
}

/// Where one tensor changed: at some rows or coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseDelta {
    /// Name of the tensor.
    pub name: String,
    /// Its role.
    pub role: StateRole,
    /// Its shape after the write. Where this is not the shape before, the tensor is new
    /// and every row is listed.
    pub shape: Vec<usize>,
    /// Values per index: the width of a row, or 1 where single coordinates are listed.
    pub width: usize,
    /// Ascending indices of rows of `width` values, in row-major order.
    pub indices: Vec<u32>,
    /// The new values, `width` for each index, where the write has found them beside the
    /// indices; else they are in the state alone.
    pub values: Option<Vec<f32>>,
}

impl SparseDelta {
    /// How many coordinates may have a new value.
    pub fn len(&self) -> usize {
        self.indices.len() * self.width
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// What changed from `before` to `after`; `None` if nothing did.
    fn between(before: Option<&StateTensor>, after: &StateTensor) -> Option<Self> {
        let (name, role, shape) = (after.name.clone(), after.role, after.shape.clone());
        let before = before.filter(|before| before.shape == after.shape);
        let Some(before) = before else {
            let width = row_width(&shape);
            let rows = after.values.len() / width;
            return Some(Self {
                name,
                role,
                shape,
                width,
                indices: (0..rows as u32).collect(),
                values: None,
            });
        };
        Self::of(
            name,
            role,
            shape,
            Changes::between(&before.values, &after.values),
        )
    }

    /// Lists changes by rows or by coordinates, whichever is smaller; `None` if there are
    /// none.
    fn of(name: String, role: StateRole, shape: Vec<usize>, changes: Changes) -> Option<Self> {
        let Changes { indices, values } = changes;
        if indices.is_empty() {
            return None;
        }
        let width = row_width(&shape);
        let mut rows: Vec<u32> = indices.iter().map(|index| index / width as u32).collect();
        rows.dedup();
        // An index costs as much as a value.
        let by_coordinates = 2 * indices.len() < rows.len() * (width + 1);
        let (width, indices, values) = match by_coordinates {
            true => (1, indices, Some(values)),
            false => (width, rows, None),
        };
        Some(Self {
            name,
            role,
            shape,
            width,
            indices,
            values,
        })
    }
}

fn row_width(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1).max(1)
}

impl StateDelta {
    /// The difference from `before` to `after`.
    pub fn between(before: &HostState, after: &HostState) -> Self {
        let find = |state: &'_ HostState, like: &StateTensor| {
            state
                .tensors
                .iter()
                .position(|tensor| tensor.role == like.role && tensor.name == like.name)
        };
        Self {
            tensors: after
                .tensors
                .iter()
                .filter_map(|tensor| {
                    let old = find(before, tensor).map(|index| &before.tensors[index]);
                    SparseDelta::between(old, tensor)
                })
                .collect(),
            removed: before
                .tensors
                .iter()
                .filter(|tensor| find(after, tensor).is_none())
                .map(|tensor| (tensor.role, tensor.name.clone()))
                .collect(),
        }
    }

    /// The differences of some memories, side by side in `before` and `after`, found where
    /// the memories are.
    pub(super) fn of_each(
        ops: &dyn MemoryOps,
        rules: &Rules,
        before: &Learned,
        after: &Learned,
    ) -> Vec<Self> {
        let tensors = |learned| -> Vec<Tensor<3>> {
            named(rules, learned)
                .map(|named| named.tensor.clone())
                .collect()
        };
        let changes = ops.changes(&tensors(before), &tensors(after));
        (changes.into_iter().enumerate())
            .map(|(memory, changes)| {
                let pending = |learned: &Learned| HostState {
                    tensors: (learned.pending.iter())
                        .map(|tokens| tokens.memory(memory))
                        .flat_map(|tokens: GatedTokens| pending_to_host(&tokens))
                        .collect(),
                    ..HostState::default()
                };
                let mut delta = Self::between(&pending(before), &pending(after));
                let of_learned = named(rules, after)
                    .zip(changes)
                    .filter_map(|(named, changes)| {
                        SparseDelta::of(named.name, named.role, named.shape, changes)
                    });
                delta.tensors = of_learned.chain(delta.tensors).collect();
                delta
            })
            .collect()
    }

    /// How many coordinates may have a new value.
    pub fn len(&self) -> usize {
        self.tensors.iter().map(SparseDelta::len).sum()
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.removed.is_empty()
    }

    /// Whether it holds the new value of every coordinate that it lists.
    pub fn tells_values(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.values.is_some())
    }

    /// How many coordinates of the learned weights may have a new value.
    pub fn weights_changed(&self) -> usize {
        self.tensors
            .iter()
            .filter(|tensor| tensor.role == StateRole::Weights)
            .map(SparseDelta::len)
            .sum()
    }
}

impl HostState {
    /// Turns the state before a write into the one `after` it, by what `delta` lists.
    ///
    /// # Panics
    /// If the delta belongs to states of other shapes.
    pub fn apply(&mut self, delta: &StateDelta, after: &Self) {
        self.tensors.retain(|tensor| {
            !delta
                .removed
                .iter()
                .any(|(role, name)| *role == tensor.role && *name == tensor.name)
        });
        for change in &delta.tensors {
            let is_it =
                |tensor: &&StateTensor| tensor.role == change.role && tensor.name == change.name;
            let new = after.tensors.iter().find(is_it);
            let new = new.expect("the state after the write has every tensor that it changed");
            let old = self.tensors.iter().position(|tensor| is_it(&tensor));
            let Some(old) = old.map(|index| &mut self.tensors[index]) else {
                self.tensors.push(new.clone());
                continue;
            };
            if old.shape != new.shape {
                old.clone_from(new);
                continue;
            }
            for index in &change.indices {
                let start = *index as usize * change.width;
                let span = start..start + change.width;
                old.values[span.clone()].copy_from_slice(&new.values[span]);
            }
        }
        self.scalars.clone_from(&after.scalars);
        self.tokens_seen = after.tokens_seen;
        self.tokens_written = after.tokens_written;
    }
}
