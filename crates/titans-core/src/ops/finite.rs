//! Whether what some memories have learned are numbers.

use burn::tensor::Tensor;

use super::host_tensor::{HostTensor, host_floats};

/// As [`MemoryOps::all_finite`](super::MemoryOps::all_finite), in host memory or by tensor
/// operations.
pub(super) fn all_finite(tensors: &[Tensor<3>]) -> Vec<bool> {
    let memories = tensors.first().map_or(0, |tensor| tensor.dims()[0]);
    let mut finite = vec![true; memories];
    let mut poison: Option<Tensor<2>> = None;
    for tensor in tensors {
        if let Some(host) = HostTensor::try_new(tensor.clone()) {
            let numbers = host.numbers();
            let of_each = numbers.chunks_exact(numbers.len() / memories);
            for (finite, numbers) in finite.iter_mut().zip(of_each) {
                *finite &= titans_cpu::all_finite(numbers);
            }
            continue;
        }
        // Zero times a finite number is zero, and NaN times anything stays NaN.
        let sum = (tensor.clone() * 0.0).sum_dim(2).sum_dim(1);
        let sum = sum.reshape([memories, 1]);
        poison = Some(match poison {
            Some(poison) => poison + sum,
            None => sum,
        });
    }
    if let Some(poison) = poison {
        for (finite, poison) in finite.iter_mut().zip(host_floats(poison)) {
            *finite &= poison == 0.0;
        }
    }
    finite
}
