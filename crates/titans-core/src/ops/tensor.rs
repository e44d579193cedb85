//! The reference: the equations of a sparse memory, token by token, on dense tensors.

use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};

use super::host_tensor::{host_channels, host_floats};
use super::top_k::larger_first;
use super::{ActiveChannels, Expansion, MemoryOps, WriteRule, Written, relative};

/// Operations as plain tensor expressions; slow, and obviously the equations.
#[derive(Clone, Copy, Debug, Default)]
pub struct TensorOps;

impl MemoryOps for TensorOps {
    fn activate(&self, keys: Tensor<2>, expansion: &Expansion, active: usize) -> ActiveChannels {
        let activations = keys.matmul(expansion.tensor().clone());
        let [tokens, channels] = activations.dims();
        let device = activations.device();

        let mut indices: Vec<i32> = Vec::new();
        for row in host_floats(activations.clone()).chunks_exact(channels) {
            let mut all: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
            all.sort_by(larger_first);
            let mut largest: Vec<i32> = all[..active].iter().map(|(c, _)| *c as i32).collect();
            largest.sort_unstable();
            indices.extend(largest);
        }
        let indices: Tensor<2, Int> =
            Tensor::from_data(TensorData::new(indices, [tokens, active]), &device);

        let hidden = relu(activations.gather(1, indices.clone()));
        let energy = hidden.clone().powf_scalar(2.0).sum_dim(1);
        let silent = energy.clone().equal_elem(0.0);
        let norm = energy.sqrt().mask_fill(silent, 1.0);
        ActiveChannels {
            indices,
            features: hidden / norm,
        }
    }

    fn read(&self, weights: &Tensor<2>, active: &ActiveChannels) -> Tensor<2> {
        let [channels, _] = weights.dims();
        dense_features(active, channels).matmul(weights.clone())
    }

    fn write(
        &self,
        weights: Tensor<2>,
        smoothed_surprise: f32,
        active: &ActiveChannels,
        values: Tensor<2>,
        rule: &WriteRule,
    ) -> Written {
        let [tokens, _] = values.dims();
        let [channels, _] = weights.dims();
        let features = dense_features(active, channels);

        let mut weights = weights;
        let mut smoothed = smoothed_surprise;
        let mut surprise = Vec::new();
        let mut tokens_written = 0;
        let mut touched = vec![false; channels];
        for token in 0..tokens {
            let feature = features.clone().narrow(0, token, 1);
            let value = values.clone().narrow(0, token, 1);

            let error = value.clone() - feature.clone().matmul(weights.clone());
            let relative = relative(norm(error.clone()), norm(value));
            surprise.push(relative);
            let kept;
            (smoothed, kept) = rule.forget(smoothed, relative);

            let energy = norm(feature.clone()).powi(2);
            if relative > rule.surprise_threshold && energy > 0.0 {
                tokens_written += 1;
                let written = feature.clone().transpose().not_equal_elem(0.0);
                for (touched, feature) in touched.iter_mut().zip(host_floats(feature.clone())) {
                    *touched |= feature != 0.0;
                }
                let kept = Tensor::ones([channels, 1], &weights.device()).mask_fill(written, kept);
                let gradient = -feature.transpose().matmul(error);
                let step = if rule.normalise {
                    rule.step_size / energy
                } else {
                    rule.step_size
                };
                weights = weights * kept - gradient * step;
            }
        }
        let touched_rows: Vec<u32> = (0..).zip(touched).filter(|t| t.1).map(|t| t.0).collect();
        Written {
            weights,
            smoothed_surprise: smoothed,
            surprise,
            tokens_written,
            touched_rows,
        }
    }
}

/// `[tokens, channels]`, zero where a channel is not active.
fn dense_features(active: &ActiveChannels, channels: usize) -> Tensor<2> {
    let [tokens, per_token] = active.features.dims();
    let mut dense = vec![0.0; tokens * channels];
    let indices = host_channels(&active.indices);
    for (slot, feature) in host_floats(active.features.clone()).into_iter().enumerate() {
        dense[slot / per_token * channels + indices[slot] as usize] = feature;
    }
    Tensor::from_data(
        TensorData::new(dense, [tokens, channels]),
        &active.features.device(),
    )
}

fn norm(row: Tensor<2>) -> f32 {
    row.powf_scalar(2.0).sum().sqrt().into_scalar()
}
