//! Write and read of many sparse memories, and the publication of one.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::Device;
use titans_bench::outln;
use titans_core::{
    HostOps, MemoryArchitecture, MemoryConfig, MemoryOps, NeuralMemory, Preset, SparseChannelMlp,
    TensorOps,
};

use crate::measure::{Size, each_size, times};

/// Tokens that plain tensor operations are asked for at most: one after the other and dense,
/// they take milliseconds each.
const MOST_PLAIN_TOKENS: usize = 64;

pub(crate) fn print(
    device: &Device,
    copy_bytes_per_second: f64,
    quick: bool,
    most_gib: f64,
) -> Result<(), Box<dyn Error>> {
    outln!(
        "\nsparse: {} channels, 64 of them active",
        if quick { 512 } else { 8192 }
    );
    outln!("memories width chunk operations         tokens/s   floor/time publish ms");
    let config = |size: &Size| config(size, quick);
    each_size((quick, most_gib), config, |size, config| {
        for (name, ops) in contenders(device) {
            if name == "plain tensors" && size.memories * size.chunk > MOST_PLAIN_TOKENS {
                continue;
            }
            let memory = NeuralMemory::with_ops(config, device, ops)?;
            let times = times(&memory, size, quick)?;
            let rate = (size.memories * size.chunk) as f64 / times.write_and_read;
            outln!(
                "{:8} {:5} {:5} {name:18} {rate:10.0} {:12.3} {:10.3}",
                size.memories,
                size.width,
                size.chunk,
                rate * unavoidable_bytes(&config) / copy_bytes_per_second,
                times.publish * 1e3,
            );
        }
        Ok(())
    })
}

fn config(size: &Size, quick: bool) -> MemoryConfig {
    let mut config = Preset::Sparse.config();
    config.key_dim = size.width;
    config.value_dim = size.width;
    if quick {
        config.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
            channels: 512,
            active_channels: 64,
        });
    }
    config
}

/// Bytes of one token written and one query answered: the active rows are read, written, and
/// read again.
fn unavoidable_bytes(config: &MemoryConfig) -> f64 {
    let MemoryArchitecture::SparseChannelMlp(mlp) = config.miras.architecture else {
        unreachable!("the preset is sparse");
    };
    (3 * mlp.active_channels * config.value_dim * size_of::<f32>()) as f64
}

/// The operations of this library for the device, then the reference.
fn contenders(device: &Device) -> Vec<(&'static str, Arc<dyn MemoryOps>)> {
    let mut all: Vec<(&'static str, Arc<dyn MemoryOps>)> = Vec::new();
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if titans_kernels::runs_on(device) {
        all.push(("kernels", Arc::new(titans_kernels::CubeOps::default())));
    }
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    let _ = device;
    all.push(("loops on the host", Arc::new(HostOps)));
    all.push(("plain tensors", Arc::new(TensorOps)));
    all
}
