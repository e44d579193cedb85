//! Write and read of many dense memories, and the publication of one.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use titans_bench::outln;
use titans_core::{
    LearningAlgorithm, MemoryArchitecture, MemoryConfig, MemoryOps, Mlp, Momentum, NeuralMemory,
    Preset, Reduction, TensorOps,
};

use crate::ceilings::Ceilings;
use crate::measure::{Size, each_size, times};

/// Orders of momentum of the preset.
const ORDERS: usize = 1;

pub(crate) fn print(
    device: &Device,
    ceilings: &Ceilings,
    quick: bool,
    most_gib: f64,
) -> Result<(), Box<dyn Error>> {
    outln!("\ndense: two layers as wide as the keys, momentum, one update per chunk");
    outln!("memories width chunk operations         tokens/s    TFLOP/s  of peak publish ms");
    each_size((quick, most_gib), config, |size, config| {
        for (name, dtype, ops) in contenders(device) {
            let memory = NeuralMemory::with_ops(config, device, ops)?;
            let times = times(&memory, size, quick)?;
            let tokens_per_second = (size.memories * size.chunk) as f64 / times.write_and_read;
            let rate = tokens_per_second * operations_per_token(size.width);
            let of_peak = match ceilings.product(dtype) {
                Some(peak) => format!("{:.1} %", 100.0 * rate / peak),
                None => "-".to_owned(),
            };
            outln!(
                "{:8} {:5} {:5} {name:18} {tokens_per_second:10.0} {:10.4} {of_peak:>8} {:10.3}",
                size.memories,
                size.width,
                size.chunk,
                rate / 1e12,
                times.publish * 1e3,
            );
        }
        Ok(())
    })
}

fn config(size: &Size) -> MemoryConfig {
    let mut config = Preset::Titans.config();
    config.key_dim = size.width;
    config.value_dim = size.width;
    config.update.update_size = size.chunk;
    // Random tokens teach nothing; steps this small keep what is learned finite.
    config.update.reduction = Reduction::Mean;
    config.miras.learning_algorithm = LearningAlgorithm::Momentum(Momentum {
        step_size: 1e-3,
        momentum_decay: 0.5,
        second_momentum_decay: None,
    });
    config.miras.architecture = MemoryArchitecture::Mlp(Mlp {
        depth: 2,
        hidden: size.width,
        ..Mlp::default()
    });
    config
}

/// Of the matrix products alone: forwards, back through the second layer, a gradient for the
/// weights and each momentum, and forwards once more to read.
fn operations_per_token(width: usize) -> f64 {
    let layer = 2.0 * (width * width) as f64;
    let layers = 2.0 + 1.0 + 2.0 * (1 + ORDERS) as f64 + 2.0;
    layers * layer
}

/// The operations of this library for the device, by the type of their products, then the
/// reference.
fn contenders(device: &Device) -> Vec<(&'static str, DType, Arc<dyn MemoryOps>)> {
    let mut all: Vec<(&'static str, DType, Arc<dyn MemoryOps>)> = Vec::new();
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if titans_kernels::runs_on(device) {
        use titans_core::Products;
        use titans_kernels::CubeOps;
        all.push(("kernels", DType::F32, Arc::new(CubeOps::default())));
        if device.supports_dtype(DType::BF16) {
            let products = Products::Bf16;
            let ops = CubeOps { products };
            all.push(("kernels, bf16", DType::BF16, Arc::new(ops)));
        }
    }
    if *device == Device::flex() {
        let ops = titans_core::HostOps;
        all.push(("loops on the host", DType::F32, Arc::new(ops)));
    }
    all.push(("plain tensors", DType::F32, Arc::new(TensorOps)));
    all
}
