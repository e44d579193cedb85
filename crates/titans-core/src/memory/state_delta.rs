//! Exactly what a write changed, so that a journal can record it.

use std::collections::BTreeMap;

use super::state::{HostState, StateRole, StateTensor};

/// The difference between a state before and after a write, in new absolute values.
///
/// [`HostState::apply`] on the state before gives the state after, bit for bit. For a
/// memory that writes sparsely this is a few rows; for one that decays everywhere it is
/// everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDelta {
    /// The tensors that changed, in the order of the state.
    pub tensors: Vec<SparseDelta>,
    /// Tensors that are gone: the tokens of an update that was completed.
    pub removed: Vec<(StateRole, String)>,
    /// Every scalar after the write.
    pub scalars: BTreeMap<String, f64>,
    /// Tokens read so far, after the write.
    pub tokens_seen: u64,
    /// Tokens written so far, after the write.
    pub tokens_written: u64,
}

/// What changed in one tensor: its new values at some rows or coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseDelta {
    /// Name of the tensor.
    pub name: String,
    /// Its role.
    pub role: StateRole,
    /// Its shape after the write. Where this is not the shape before, the tensor is new
    /// and every value is given.
    pub shape: Vec<usize>,
    /// Values per index: the width of a row, or 1 where single coordinates are listed.
    pub width: usize,
    /// Ascending indices of rows of `width` values, in row-major order.
    pub indices: Vec<u32>,
    /// `width` new values for each index.
    pub values: Vec<f32>,
}

impl SparseDelta {
    /// How many coordinates have a new value.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rows of `tensor` that are listed, each `width` values wide.
    fn of_rows(tensor: &StateTensor, width: usize, indices: Vec<u32>) -> Self {
        let row = |index: &u32| {
            let start = *index as usize * width;
            &tensor.values[start..start + width]
        };
        Self {
            name: tensor.name.clone(),
            role: tensor.role,
            shape: tensor.shape.clone(),
            width,
            values: indices.iter().flat_map(row).copied().collect(),
            indices,
        }
    }

    /// What changed from `before` to `after`, by rows or by coordinates, whichever is
    /// smaller; `None` if nothing did.
    fn between(before: Option<&StateTensor>, after: &StateTensor) -> Option<Self> {
        let width = after.shape.last().copied().unwrap_or(1).max(1);
        let before = before.filter(|before| before.shape == after.shape);
        let Some(before) = before else {
            let rows = after.values.len() / width;
            return Some(Self::of_rows(after, width, (0..rows as u32).collect()));
        };
        // Bits, because -0.0 and 0.0 are equal and yet not the same state.
        let changed: Vec<u32> = (0..)
            .zip(before.values.iter().zip(&after.values))
            .filter(|(_, (before, after))| before.to_bits() != after.to_bits())
            .map(|(index, _)| index)
            .collect();
        if changed.is_empty() {
            return None;
        }
        let mut rows: Vec<u32> = changed.iter().map(|index| index / width as u32).collect();
        rows.dedup();
        // An index costs as much as a value.
        if 2 * changed.len() < rows.len() * (width + 1) {
            return Some(Self::of_rows(after, 1, changed));
        }
        Some(Self::of_rows(after, width, rows))
    }
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
            scalars: after.scalars.clone(),
            tokens_seen: after.tokens_seen,
            tokens_written: after.tokens_written,
        }
    }

    /// How many coordinates of the learned weights have a new value.
    pub fn weights_changed(&self) -> usize {
        self.tensors
            .iter()
            .filter(|tensor| tensor.role == StateRole::Weights)
            .map(SparseDelta::len)
            .sum()
    }
}

impl HostState {
    /// The state after the write that `delta` describes, given the state before it.
    ///
    /// # Panics
    /// If the delta belongs to a state of other shapes.
    pub fn apply(&mut self, delta: &StateDelta) {
        self.tensors.retain(|tensor| {
            !delta
                .removed
                .iter()
                .any(|(role, name)| *role == tensor.role && *name == tensor.name)
        });
        for change in &delta.tensors {
            let found = self
                .tensors
                .iter()
                .position(|tensor| tensor.role == change.role && tensor.name == change.name);
            let index = found.unwrap_or_else(|| {
                self.tensors.push(StateTensor {
                    name: change.name.clone(),
                    role: change.role,
                    shape: Vec::new(),
                    values: Vec::new(),
                });
                self.tensors.len() - 1
            });
            let tensor = &mut self.tensors[index];
            if tensor.shape != change.shape {
                tensor.shape.clone_from(&change.shape);
                tensor.values = vec![0.0; change.shape.iter().product()];
            }
            for (row, new) in change
                .indices
                .iter()
                .zip(change.values.chunks_exact(change.width))
            {
                let start = *row as usize * change.width;
                tensor.values[start..start + change.width].copy_from_slice(new);
            }
        }
        self.scalars.clone_from(&delta.scalars);
        self.tokens_seen = delta.tokens_seen;
        self.tokens_written = delta.tokens_written;
    }
}
