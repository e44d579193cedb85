//! The default: selection, read and write as loops over rows in host memory.
//!
//! A write touches k rows of `value_dim` numbers: 64 x 64 in the default memory, 16 kB,
//! and as many multiply-adds to read and to write. As tensor operations the same token
//! costs a dozen allocations and, densely, 128 times the arithmetic. On a device other
//! than the CPU the weights come to the host and go back once per call.

use burn::tensor::{Device, Tensor, TensorData};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use titans_cpu::vectorised;

use super::host_activation::active_channels;
use super::host_dense::HostDense;
use super::host_tensor::{HostTensor, host_channels, host_floats};
use super::relative_error::{norm, relative};
use super::{ActiveChannels, DenseOps, Expansion, MemoryOps, Products, WriteRule, Written};

/// Queries that a thread answers before it takes others.
const BLOCK: usize = 24;

/// Columns of a prediction that are summed together, in four of the widest vectors.
const COLUMNS: usize = 64;

/// Operations in host memory; the fast path of the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostOps;

impl MemoryOps for HostOps {
    fn dense(&self, device: &Device) -> Option<&dyn DenseOps> {
        const IN_F32: &HostDense = &HostDense(Products::F32);
        (*device == Device::flex()).then_some(IN_F32)
    }

    fn activate(&self, keys: Tensor<2>, expansion: &Expansion, active: usize) -> ActiveChannels {
        let [tokens, _] = keys.dims();
        let device = keys.device();
        let keys = host_floats(keys);
        let (indices, features) = active_channels(&keys, expansion, active);
        ActiveChannels {
            indices: Tensor::from_data(TensorData::new(indices, [tokens, active]), &device),
            features: Tensor::from_data(TensorData::new(features, [tokens, active]), &device),
        }
    }

    fn read(&self, weights: &Tensor<2>, active: &ActiveChannels) -> Tensor<2> {
        let [_, value_dim] = weights.dims();
        let [tokens, per_token] = active.features.dims();
        if let Some(rows) = HostTensor::try_new(weights.clone())
            && let Some(features) = HostTensor::try_new(active.features.clone())
        {
            let indices = host_channels(&active.indices);
            let mut answers = vec![0.0; tokens * value_dim];
            let predict = |((indices, features), answers): ((&[i32], &[f32]), &mut [f32])| {
                predict_all(rows.numbers(), indices, features, per_token, answers);
            };
            if tokens <= BLOCK {
                predict(((&indices, features.numbers()), &mut answers));
            } else {
                let of_each = per_token * BLOCK;
                (indices
                    .par_chunks(of_each)
                    .zip(features.numbers().par_chunks(of_each)))
                .zip(answers.par_chunks_mut(value_dim * BLOCK))
                .for_each(predict);
            }
            return Tensor::from_data(
                TensorData::new(answers, [tokens, value_dim]),
                &weights.device(),
            );
        }
        // Gathered on the device: a query needs k rows, not a copy of the memory.
        let rows = weights
            .clone()
            .select(0, active.indices.clone().reshape([tokens * per_token]))
            .reshape([tokens, per_token, value_dim]);
        let features = active.features.clone().reshape([tokens, 1, per_token]);
        features.matmul(rows).reshape([tokens, value_dim])
    }

    fn write(
        &self,
        weights: Tensor<2>,
        smoothed_surprise: f32,
        active: &ActiveChannels,
        values: Tensor<2>,
        rule: &WriteRule,
    ) -> Written {
        let [channels, value_dim] = weights.dims();
        let [tokens, per_token] = active.features.dims();
        let device = weights.device();
        let mut rows = host_floats(weights);
        let indices = host_channels(&active.indices);
        let features = host_floats(active.features.clone());
        let values = host_floats(values);

        let mut smoothed = smoothed_surprise;
        let mut surprise = Vec::with_capacity(tokens);
        let mut tokens_written = 0;
        let mut touched = vec![false; channels];
        let mut error = vec![0.0; value_dim];
        for (token, value) in values.chunks_exact(value_dim).enumerate() {
            let span = token * per_token..(token + 1) * per_token;
            let (indices, features) = (&indices[span.clone()], &features[span]);

            predict_all(&rows, indices, features, per_token, &mut error);
            for (error, value) in error.iter_mut().zip(value) {
                *error = value - *error;
            }
            let relative = relative(norm(&error), norm(value));
            surprise.push(relative);
            let kept;
            (smoothed, kept) = rule.forget(smoothed, relative);

            let has_features = features.iter().any(|feature| *feature != 0.0);
            if relative > rule.surprise_threshold && has_features {
                tokens_written += 1;
                let step = if rule.normalise {
                    rule.step_size / features.iter().map(|f| f * f).sum::<f32>()
                } else {
                    rule.step_size
                };
                for (&channel, &feature) in indices.iter().zip(features) {
                    if feature == 0.0 {
                        continue;
                    }
                    let channel = channel as usize;
                    touched[channel] = true;
                    let gain = step * feature;
                    vectorised(Store {
                        row: &mut rows[channel * value_dim..][..value_dim],
                        error: &error,
                        kept,
                        gain,
                    });
                }
            }
        }
        let touched_rows: Vec<u32> = (0..).zip(touched).filter(|t| t.1).map(|t| t.0).collect();
        Written {
            weights: Tensor::from_data(TensorData::new(rows, [channels, value_dim]), &device),
            smoothed_surprise: smoothed,
            surprise,
            tokens_written,
            touched_rows,
        }
    }
}

/// `prediction = sum over active channels of feature * row`, for some tokens.
fn predict_all(
    rows: &[f32],
    indices: &[i32],
    features: &[f32],
    per_token: usize,
    predictions: &mut [f32],
) {
    vectorised(Predict {
        rows,
        indices,
        features,
        per_token,
        predictions,
    });
}

struct Predict<'a> {
    rows: &'a [f32],
    indices: &'a [i32],
    features: &'a [f32],
    per_token: usize,
    predictions: &'a mut [f32],
}

impl WithSimd for Predict<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let tokens = self.features.len() / self.per_token;
        let value_dim = self.predictions.len() / tokens;
        let predictions = self.predictions.chunks_exact_mut(value_dim);
        let features = self.features.chunks_exact(self.per_token);
        let active = self.indices.chunks_exact(self.per_token).zip(features);
        for (prediction, (indices, features)) in predictions.zip(active) {
            let (blocks, rest) = prediction.as_chunks_mut::<COLUMNS>();
            let rest_at = blocks.len() * COLUMNS;
            for (block_idx, block) in blocks.iter_mut().enumerate() {
                let at = block_idx * COLUMNS;
                // A copy, so that the sums stay in registers from row to row.
                let mut sums = [0.0_f32; COLUMNS];
                for (&channel, &feature) in indices.iter().zip(features) {
                    let row = &self.rows[channel as usize * value_dim + at..];
                    let (rows, _) = row.as_chunks::<COLUMNS>();
                    for (sum, weight) in sums.iter_mut().zip(&rows[0]) {
                        *sum += feature * weight;
                    }
                }
                *block = sums;
            }
            rest.fill(0.0);
            for (&channel, &feature) in indices.iter().zip(features) {
                let row = &self.rows[channel as usize * value_dim + rest_at..];
                for (sum, weight) in rest.iter_mut().zip(row) {
                    *sum += feature * weight;
                }
            }
        }
    }
}

/// `row = kept row + gain error`: what a write does to one row.
struct Store<'a> {
    row: &'a mut [f32],
    error: &'a [f32],
    kept: f32,
    gain: f32,
}

impl WithSimd for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (weight, error) in self.row.iter_mut().zip(self.error) {
            *weight = self.kept * *weight + self.gain * error;
        }
    }
}
