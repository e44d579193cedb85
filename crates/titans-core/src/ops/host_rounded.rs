//! The default, with products of dense memories in fewer bits.

use burn::tensor::{Device, Tensor};

use super::host_dense::{HostDense, on_the_cpu};
use super::{
    ActiveChannels, DenseOps, Expansion, HostOps, MemoryOps, Products, WriteRule, Written,
};

/// [`HostOps`], with the matrix products of dense memories in a type of choice.
///
/// On a CPU that is bf16; there is no f16. The bits are the same on every CPU: with AVX512-BF16 the
/// instruction `vdpbf16ps` makes twice the multiply-adds of f32, and without it loops make the same
/// numbers, slower than in f32 (`docs/platforms.md`). Matrix units (AMX) are not used: Rust has no
/// stable way to their instructions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundedHostOps {
    /// In which type the matrix products of dense memories are made.
    pub products: Products,
}

impl RoundedHostOps {
    /// The type in which the products are made: that of choice, but f32 for f16.
    pub fn made_in(&self) -> Products {
        match on_the_cpu(self.products) {
            titans_cpu::Products::Bf16 => Products::Bf16,
            titans_cpu::Products::F32 => Products::F32,
        }
    }

    /// Whether this machine has instructions for the type in which the products are made. Without
    /// them products in bf16 are slower than in f32.
    pub fn are_native(&self) -> bool {
        on_the_cpu(self.products).are_native()
    }
}

impl MemoryOps for RoundedHostOps {
    fn dense(&self, device: &Device) -> Option<&dyn DenseOps> {
        const DENSE: [&HostDense; 3] = [
            &HostDense(Products::F32),
            &HostDense(Products::Bf16),
            &HostDense(Products::F16),
        ];
        let dense = DENSE.into_iter().find(|dense| dense.0 == self.products)?;
        (*device == Device::flex()).then_some(dense)
    }

    fn activate(&self, keys: Tensor<2>, expansion: &Expansion, active: usize) -> ActiveChannels {
        HostOps.activate(keys, expansion, active)
    }

    fn read(&self, weights: &Tensor<2>, active: &ActiveChannels) -> Tensor<2> {
        HostOps.read(weights, active)
    }

    fn write(
        &self,
        weights: Tensor<2>,
        smoothed_surprise: f32,
        active: &ActiveChannels,
        values: Tensor<2>,
        rule: &WriteRule,
    ) -> Written {
        HostOps.write(weights, smoothed_surprise, active, values, rule)
    }
}
