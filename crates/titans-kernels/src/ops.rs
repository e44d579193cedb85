//! The operations of a sparse memory on a GPU.

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor};
use titans_core::{
    ActiveChannels, Changes, DenseOps, Expansion, HostOps, LARGEST_RELATIVE_ERROR, MemoryOps,
    Products, RetentionGate, TensorOps, UpdateCoefficients, WriteRule, Written,
};

use crate::apply::ApplyKernels;
use crate::backend::{MOST_CUBES, MOST_VALUE_DIM, SparseKernels, WriteParameters};
use crate::changes;
use crate::dense::update_coefficients;
use crate::finite;
use crate::host_words::host_words;
use crate::largest::LargestKernels;
use crate::report::{self, Report};
use crate::scan::ScanKernels;

/// Numbers of the weights that are stacked for one launch: 1 GiB, which a buffer of every
/// device with that much memory can be.
const MOST_STACKED: usize = 1 << 28;

/// Operations as kernels, on devices behind CUDA and wgpu.
///
/// Where the kernels do not apply, another implementation answers: [`TensorOps`], the
/// reference, where gradients are recorded, and [`HostOps`] on the CPU, for numbers that
/// are not f32, and for values wider than 2048.
///
/// A write in place needs weights that are nobody else's; of a memory of which somebody
/// holds a snapshot it makes a copy, on the device.
#[derive(Clone, Copy, Debug, Default)]
pub struct CubeOps {
    /// In which type the matrix products of dense memories are made.
    pub products: Products,
}

impl MemoryOps for CubeOps {
    /// Nine launches, cubes for each block of each memory; the tensors of a memory are copied
    /// together before and apart after them.
    fn keep_largest(&self, gradient: Vec<Tensor<3>>, count: usize) -> Vec<Tensor<3>> {
        let first = &gradient[0];
        let mut types = gradient.iter().map(|tensor| tensor.dtype());
        let other = types.find(|dtype| *dtype != DType::F32);
        if let Some(ops) = instead(first, other.unwrap_or(DType::F32)) {
            return ops.keep_largest(gradient, count);
        }
        let shapes: Vec<[usize; 3]> = gradient.iter().map(Tensor::dims).collect();
        let flat = gradient.into_iter().zip(&shapes);
        let flat = flat
            .map(|(tensor, [memories, rows, columns])| tensor.reshape([*memories, rows * columns]));
        let flat = Tensor::cat(flat.collect(), 1);
        let kept = <Dispatch as LargestKernels>::keep_largest_numbers(flat.into_dispatch(), count);
        let kept: Tensor<2> = Tensor::from_dispatch(kept);
        let mut start = 0;
        (shapes.into_iter())
            .map(|[memories, rows, columns]| {
                let part = kept.clone().narrow(1, start, rows * columns);
                start += rows * columns;
                part.reshape([memories, rows, columns])
            })
            .collect()
    }

    /// One launch, a unit for each number.
    fn apply_written(
        &self,
        accumulator: Tensor<3>,
        update: Tensor<3>,
        retention: &Tensor<2>,
    ) -> Tensor<3> {
        let instead = (instead(&accumulator, update.dtype())).or(instead(retention, DType::F32));
        if instead.is_some() || update.is_autodiff() {
            return TensorOps.apply_written(accumulator, update, retention);
        }
        Tensor::from_dispatch(<Dispatch as ApplyKernels>::apply_where_written(
            accumulator.into_dispatch(),
            update.into_dispatch(),
            retention.clone().into_dispatch(),
        ))
    }

    /// One launch, a cube for each memory.
    fn update_coefficients(
        &self,
        steps: &Tensor<2>,
        momentum_decays: &[Tensor<2>],
        retention: &Tensor<2>,
    ) -> UpdateCoefficients {
        let mut gates = momentum_decays.iter().chain([steps, retention]);
        let instead = gates.find_map(|gate| instead(gate, DType::F32));
        match instead {
            None if momentum_decays.len() <= 2 => {
                update_coefficients(steps, momentum_decays, retention)
            }
            _ => TensorOps.update_coefficients(steps, momentum_decays, retention),
        }
    }

    /// One launch, a cube for each memory.
    fn affine_scan(&self, before: &Tensor<2>, decay: &Tensor<2>, input: &Tensor<2>) -> Tensor<2> {
        let instead = [before, decay, input].map(|given| instead(given, DType::F32));
        if instead.iter().any(Option::is_some) {
            return TensorOps.affine_scan(before, decay, input);
        }
        Tensor::from_dispatch(<Dispatch as ScanKernels>::scan_tokens(
            before.clone().into_dispatch(),
            decay.clone().into_dispatch(),
            input.clone().into_dispatch(),
        ))
    }

    /// One launch, a unit for each token of each memory.
    fn running_products(&self, decay: &Tensor<2>) -> Tensor<3> {
        if let Some(ops) = instead(decay, DType::F32) {
            return ops.running_products(decay);
        }
        let decay = decay.clone().into_dispatch();
        Tensor::from_dispatch(<Dispatch as ScanKernels>::multiply_tokens(decay))
    }

    /// One launch for each tensor, cubes for each block of each memory, and one copy of the
    /// counts.
    fn all_finite(&self, tensors: &[Tensor<3>]) -> Vec<bool> {
        let instead = tensors.iter().find_map(|given| instead(given, DType::F32));
        match instead {
            Some(_) => TensorOps.all_finite(tensors),
            None => finite::all_finite(tensors),
        }
    }

    /// Two launches and a copy to the host for each tensor that has changed, and one copy of
    /// the counts; nothing else of the memories leaves the device.
    fn changes(&self, before: &[Tensor<3>], after: &[Tensor<3>]) -> Vec<Vec<Changes>> {
        let Some(first) = after.first() else {
            return Vec::new();
        };
        let other = (before.iter().chain(after)).find(|tensor| tensor.dtype() != DType::F32);
        let other = other.map_or(DType::F32, |tensor| tensor.dtype());
        if let Some(ops) = instead(first, other) {
            return ops.changes(before, after);
        }
        changes::find(before, after)
    }

    fn dense(&self, device: &Device) -> Option<&dyn DenseOps> {
        runs_on(device).then_some(self as &dyn DenseOps)
    }

    fn activate(&self, keys: Tensor<2>, expansion: &Expansion, active: usize) -> ActiveChannels {
        let [tokens, _] = keys.dims();
        if let Some(ops) = instead(&keys, expansion.tensor().dtype()) {
            return ops.activate(keys, expansion, active);
        }
        if tokens == 0 || active == 0 {
            return HostOps.activate(keys, expansion, active);
        }
        let (indices, features) = <Dispatch as SparseKernels>::activate_channels(
            keys.into_dispatch(),
            expansion.tensor().clone().into_dispatch(),
            active,
        );
        ActiveChannels {
            indices: Tensor::from_dispatch(indices),
            features: Tensor::from_dispatch(features),
        }
    }

    fn read(&self, weights: &Tensor<2>, active: &ActiveChannels) -> Tensor<2> {
        let [tokens, per_token] = active.features.dims();
        if let Some(ops) = instead(weights, active.features.dtype()) {
            return ops.read(weights, active);
        }
        if tokens == 0 || per_token == 0 {
            return MemoryOps::read(&HostOps, weights, active);
        }
        let prediction = <Dispatch as SparseKernels>::read_channels(
            weights.clone().unsqueeze_dim::<3>(0).into_dispatch(),
            indices(active).unsqueeze_dim::<3>(0).into_dispatch(),
            active
                .features
                .clone()
                .unsqueeze_dim::<3>(0)
                .into_dispatch(),
        );
        Tensor::<3>::from_dispatch(prediction).squeeze_dim(0)
    }

    fn write(
        &self,
        weights: Tensor<2>,
        smoothed_surprise: f32,
        active: &ActiveChannels,
        values: Tensor<2>,
        rule: &WriteRule,
    ) -> Written {
        let values = values.unsqueeze_dim(0);
        self.write_batch(vec![weights], &[smoothed_surprise], active, values, rule)
            .remove(0)
    }

    /// One launch for as many memories as 1 GiB of weights holds. More than one are copied
    /// together and apart again, which costs twice their size in copies on the device.
    fn write_batch(
        &self,
        weights: Vec<Tensor<2>>,
        smoothed_surprise: &[f32],
        active: &ActiveChannels,
        values: Tensor<3>,
        rule: &WriteRule,
    ) -> Vec<Written> {
        let [memories, tokens, value_dim] = values.dims();
        assert_eq!(weights.len(), memories, "weights for each memory");
        assert_eq!(
            smoothed_surprise.len(),
            memories,
            "surprises of each memory"
        );
        let Some(first) = weights.first() else {
            return Vec::new();
        };
        let [channels, _] = first.dims();
        let [_, per_token] = active.features.dims();
        let fits = tokens > 0 && per_token > 0 && value_dim <= MOST_VALUE_DIM;
        let other = instead(first, values.dtype());
        if other.is_some() || !fits {
            let ops = other.unwrap_or(&HostOps);
            return ops.write_batch(weights, smoothed_surprise, active, values, rule);
        }
        let parameters = WriteParameters {
            step_size: rule.step_size,
            normalise: rule.normalise,
            surprise_threshold: rule.surprise_threshold,
            largest_relative_error: LARGEST_RELATIVE_ERROR,
            forgetting: match rule.retention_gate {
                RetentionGate::SurpriseSigmoid(gate) => {
                    Some([gate.gain, gate.offset, gate.smoothing])
                }
                _ => None,
            },
        };
        let stack = (MOST_STACKED / (channels * value_dim)).clamp(1, MOST_CUBES);
        let indices = indices(active).reshape([memories, tokens, per_token]);
        let features = active.features.clone();
        let features = features.reshape([memories, tokens, per_token]);

        // All launches before the first copy to the host, which waits.
        let mut launched = Vec::new();
        let mut weights = weights.into_iter();
        for start in (0..memories).step_by(stack) {
            let count = stack.min(memories - start);
            let smoothed = &smoothed_surprise[start..start + count];
            let (written, report) = <Dispatch as SparseKernels>::write_channels(
                stacked(weights.by_ref().take(count).collect()).into_dispatch(),
                Tensor::<1>::from_floats(smoothed, &values.device()).into_dispatch(),
                indices.clone().narrow(0, start, count).into_dispatch(),
                features.clone().narrow(0, start, count).into_dispatch(),
                values.clone().narrow(0, start, count).into_dispatch(),
                parameters,
            );
            let written: Tensor<3> = Tensor::from_dispatch(written);
            let report: Tensor<2, Int> = Tensor::from_dispatch(report);
            launched.push((written, report));
        }
        let words = report::words(tokens, channels);
        let mut results = Vec::with_capacity(memories);
        for (written, report) in launched {
            let report = host_words(report.into_data());
            for (weights, report) in apart(written).into_iter().zip(report.chunks_exact(words)) {
                let report = Report::decode(report, tokens, channels);
                results.push(Written {
                    weights,
                    smoothed_surprise: report.smoothed_surprise,
                    surprise: report.surprise,
                    tokens_written: report.tokens_written,
                    touched_rows: report.touched_rows,
                });
            }
        }
        results
    }
}

/// Whether the kernels of [`CubeOps`] run on a device: a GPU without autodiff.
pub fn runs_on(device: &Device) -> bool {
    matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Who computes where the kernels cannot.
fn instead<const D: usize>(tensor: &Tensor<D>, other: DType) -> Option<&'static dyn MemoryOps> {
    let device = tensor.device();
    if device.is_autodiff() {
        Some(&TensorOps)
    } else if !runs_on(&device) || tensor.dtype() != DType::F32 || other != DType::F32 {
        Some(&HostOps)
    } else {
        None
    }
}

fn indices(active: &ActiveChannels) -> Tensor<2, Int> {
    active.indices.clone().cast(DType::I32)
}

/// One memory is not copied: its weights may be written in place.
fn stacked(mut weights: Vec<Tensor<2>>) -> Tensor<3> {
    if weights.len() == 1 {
        return weights.remove(0).unsqueeze_dim(0);
    }
    Tensor::stack(weights, 0)
}

fn apart(written: Tensor<3>) -> Vec<Tensor<2>> {
    let [memories, _, _] = written.dims();
    if memories == 1 {
        return vec![written.squeeze_dim(0)];
    }
    let parts = written.split(1, 0).into_iter();
    parts.map(|part| part.squeeze_dim(0)).collect()
}
