//! The default, with products of dense memories in fewer bits.

use burn::tensor::{Device, Tensor};

use super::host_dense::{HostDense, on_the_cpu};
use super::{
    ActiveChannels, DenseOps, Expansion, HostOps, MemoryOps, Products, WriteRule, Written,
};

/// [`HostOps`], with the matrix products of dense memories in a type of choice.
///
/// On a CPU that is bf16, by AVX512-BF16 (`vdpbf16ps`, twice the multiply-adds of f32), or else
/// f32; there is no f16. Matrix units (AMX) are not used: Rust has no stable way to their
/// instructions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundedHostOps {
    /// In which type the matrix products of dense memories are made.
    pub products: Products,
}

impl RoundedHostOps {
    /// The type in which this machine makes the products: f32 where it has no instructions for
    /// the one of choice.
    pub fn made_in(&self) -> Products {
        let products = on_the_cpu(self.products);
        match products.are_native() && products == titans_cpu::Products::Bf16 {
            true => Products::Bf16,
            false => Products::F32,
        }
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
