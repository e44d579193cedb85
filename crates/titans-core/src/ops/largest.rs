//! The largest coordinates of a gradient, by size.

use burn::tensor::{Tensor, TensorData};

use super::host_tensor::host_floats;
use super::top_k::top_k_into;

/// As [`MemoryOps::keep_largest`](super::MemoryOps::keep_largest), in host memory.
pub(super) fn largest_elements(gradient: Vec<Tensor<3>>, count: usize) -> Vec<Tensor<3>> {
    let [memories, _, _] = gradient[0].dims();
    let sizes: Vec<Vec<f32>> = gradient
        .iter()
        .map(|tensor| host_floats(tensor.clone().abs()))
        .collect();
    let mut masks: Vec<Vec<f32>> = sizes.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
    let mut selected = Vec::new();
    for memory in 0..memories {
        let span = |tensor: &Vec<f32>| {
            let len = tensor.len() / memories;
            memory * len..(memory + 1) * len
        };
        let flat: Vec<f32> = sizes
            .iter()
            .flat_map(|tensor| tensor[span(tensor)].iter().copied())
            .collect();
        top_k_into(&flat, count, &mut selected);
        let mut kept = selected.iter().map(|(index, _)| *index as usize).peekable();
        let mut offset = 0;
        for mask in &mut masks {
            let span = span(mask);
            let len = span.len();
            while let Some(index) = kept.next_if(|index| *index < offset + len) {
                mask[span.start + index - offset] = 1.0;
            }
            offset += len;
        }
    }
    gradient
        .into_iter()
        .zip(masks)
        .map(|(tensor, mask)| where_kept(tensor, mask))
        .collect()
}

/// The coordinates that the mask does not list are exactly zero.
pub(crate) fn where_kept(tensor: Tensor<3>, mask: Vec<f32>) -> Tensor<3> {
    let options = (&tensor.device(), tensor.dtype());
    let mask: Tensor<3> = Tensor::from_data(TensorData::new(mask, tensor.dims()), options);
    tensor
        .zeros_like()
        .mask_where(mask.greater_elem(0.0), tensor)
}
