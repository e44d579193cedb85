//! Which numbers of some memories are others than before.

use burn::tensor::Tensor;

use super::host_tensor::{HostTensor, host_floats};

/// The coordinates of one tensor that have other bits than before, and what is there now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Ascending, in row-major order.
    pub indices: Vec<u32>,
    /// One for each index.
    pub values: Vec<f32>,
}

impl Changes {
    /// Compares bits, because -0.0 and 0.0 are equal and yet not the same state.
    pub(crate) fn between(before: &[f32], after: &[f32]) -> Self {
        let pairs = (0..).zip(before.iter().zip(after));
        let (indices, values) = pairs
            .filter(|(_, (before, after))| before.to_bits() != after.to_bits())
            .map(|(index, (_, after))| (index, *after))
            .unzip();
        Self { indices, values }
    }
}

/// As [`MemoryOps::changes`](super::MemoryOps::changes), in host memory.
pub(super) fn changes_on_host(before: &[Tensor<3>], after: &[Tensor<3>]) -> Vec<Vec<Changes>> {
    let memories = after.first().map_or(0, |tensor| tensor.dims()[0]);
    let mut of_each = vec![Vec::with_capacity(after.len()); memories];
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.dims(), after.dims(), "shapes of a tensor");
        let length = after.shape().num_elements() / memories;
        on_host(before, |before| {
            on_host(after, |after| {
                for (memory, changes) in of_each.iter_mut().enumerate() {
                    let span = memory * length..(memory + 1) * length;
                    changes.push(Changes::between(&before[span.clone()], &after[span]));
                }
            });
        });
    }
    of_each
}

/// Looks at the numbers of a tensor, where they are if that is in host memory.
fn on_host(tensor: &Tensor<3>, look: impl FnOnce(&[f32])) {
    match HostTensor::try_new(tensor.clone()) {
        Some(tensor) => look(tensor.numbers()),
        None => look(&host_floats(tensor.clone())),
    }
}
