//! Which coordinates of an update's gradient are kept.
//!
//! The selection is made in host memory, unless the operations of a device have something
//! faster: a library top-k sorts everything on the CPU and is bounded to a few entries on a
//! GPU, while a gate keeps thousands.

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::update::SparseGate;
use crate::ops::{MemoryOps, host_floats, top_k_into, where_kept};

/// Sets every coordinate that the gate does not keep to exactly zero.
///
/// # Shapes
/// - `gradient`: one `[memories, rows, columns]` per tensor
pub(crate) fn keep_largest(
    ops: &dyn MemoryOps,
    gate: SparseGate,
    gradient: Vec<Tensor<3>>,
    seed: u64,
    tokens_before: u64,
) -> Vec<Tensor<3>> {
    match gate {
        SparseGate::None => gradient,
        SparseGate::Elements { ratio } => {
            let of_memory = |tensor: &Tensor<3>| tensor.dims()[1] * tensor.dims()[2];
            let all = gradient.iter().map(of_memory).sum();
            ops.keep_largest(gradient, share(all, ratio))
        }
        SparseGate::Channels { ratio, columns } => {
            // A stream of its own for every update, whatever came before it.
            let mut words = ChaCha8Rng::seed_from_u64(seed);
            words.set_stream(tokens_before.wrapping_add(1));
            gradient
                .into_iter()
                .map(|tensor| largest_channels(tensor, ratio, columns, &mut words))
                .collect()
        }
    }
}

/// How many of `all` a share is: at least one.
fn share(all: usize, ratio: f32) -> usize {
    ((all as f64 * f64::from(ratio)).round() as usize).clamp(1, all)
}

fn largest_channels(
    tensor: Tensor<3>,
    ratio: f32,
    column_ratio: f32,
    words: &mut ChaCha8Rng,
) -> Tensor<3> {
    let [memories, rows, columns] = tensor.dims();
    let energy = host_floats((tensor.clone() * tensor.clone()).sum_dim(2));
    let sampled = sample(columns, share(columns, column_ratio), words);
    let mut mask = vec![0.0; memories * rows * columns];
    let mut selected = Vec::new();
    for (memory, energy) in energy.chunks_exact(rows).enumerate() {
        top_k_into(energy, share(rows, ratio), &mut selected);
        for &(row, _) in &selected {
            let start = (memory * rows + row as usize) * columns;
            for &column in &sampled {
                mask[start + column] = 1.0;
            }
        }
    }
    where_kept(tensor, mask)
}

/// `count` different numbers under `all`, by a partial shuffle.
fn sample(all: usize, count: usize, words: &mut ChaCha8Rng) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..all).collect();
    for index in 0..count {
        let left = (all - index) as u64;
        let other = index + ((u64::from(words.next_u32()) * left) >> 32) as usize;
        numbers.swap(index, other);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::HostOps;
    use burn::tensor::{Device, TensorData};

    fn tensor(values: &[f32], shape: [usize; 3]) -> Tensor<3> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn the_largest_elements_are_chosen_over_all_tensors_of_one_memory() {
        let gradient = vec![
            tensor(&[5.0, -1.0, 1.0, 1.0], [2, 1, 2]),
            tensor(&[-4.0, 0.5, 1.0, 1.0], [2, 2, 1]),
        ];
        let kept = keep_largest(
            &HostOps,
            SparseGate::Elements { ratio: 0.5 },
            gradient,
            0,
            0,
        );
        // First memory: 5 and -4. Second: all tie, so the lower positions win.
        assert_eq!(host_floats(kept[0].clone()), [5.0, 0.0, 1.0, 1.0]);
        assert_eq!(host_floats(kept[1].clone()), [-4.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn channels_keep_whole_rows_and_sampled_columns() {
        let gradient = tensor(&[1.0, 1.0, 3.0, 3.0, 2.0, 2.0], [1, 3, 2]);
        let all = SparseGate::Channels {
            ratio: 0.34,
            columns: 1.0,
        };
        let kept = keep_largest(&HostOps, all, vec![gradient.clone()], 0, 0);
        assert_eq!(host_floats(kept[0].clone()), [0.0, 0.0, 3.0, 3.0, 0.0, 0.0]);
        let one_column = SparseGate::Channels {
            ratio: 1.0,
            columns: 0.5,
        };
        let columns_of = |tokens: u64| {
            let kept = keep_largest(&HostOps, one_column, vec![gradient.clone()], 7, tokens);
            let kept = host_floats(kept[0].clone());
            assert_eq!(kept.iter().filter(|x| **x != 0.0).count(), 3);
            usize::from(kept[0] == 0.0)
        };
        assert_eq!(columns_of(8), columns_of(8));
        let chosen: Vec<usize> = (0..32).map(columns_of).collect();
        assert!(chosen.contains(&0) && chosen.contains(&1));
    }
}
