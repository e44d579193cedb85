//! Tensors as slices in host memory.

use burn::backend::Flex;
use burn::tensor::{DType, Int, Tensor};

/// What a tensor is to the CPU backend.
pub(super) type FlexTensor = <Flex as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// A tensor of the CPU backend whose numbers can be looked at where they are.
pub(crate) struct HostTensor(pub(super) FlexTensor);

impl HostTensor {
    /// # Panics
    /// If the tensor is not one of f32 numbers on the CPU backend, without a graph.
    pub(crate) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        Self::try_new(tensor).expect("the caller has asked for the device and the type")
    }

    /// As [`new`](Self::new), `None` for a tensor of another kind.
    pub(crate) fn try_new<const D: usize>(tensor: Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 || tensor.is_autodiff() {
            return None;
        }
        let tensor = tensor.try_into_primitive::<Flex>().ok()?;
        Some(Self(match tensor.as_slice::<f32>() {
            Some(_) => tensor,
            None => tensor.to_contiguous(),
        }))
    }

    /// The numbers, in row-major order.
    pub(crate) fn numbers(&self) -> &[f32] {
        self.0.as_slice().expect("made contiguous")
    }
}

/// The numbers of a tensor, copied from where it is.
pub(crate) fn host_floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data_as::<f32>()
        .try_into_vec::<f32>()
        .expect("the data was just converted to f32")
}

/// Channels as they are on the device: as `usize` a long chunk's would outweigh the memory.
pub(super) fn host_channels(indices: &Tensor<2, Int>) -> Vec<i32> {
    indices
        .to_data_as::<i32>()
        .try_into_vec::<i32>()
        .expect("the data was just converted to i32")
}
