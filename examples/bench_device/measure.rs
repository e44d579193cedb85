//! Write and read of many sparse memories, and the publication of one.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use titans_core::{
    HostOps, MemoryArchitecture, MemoryConfig, MemoryOps, MemoryState, NeuralMemory, Preset,
    SparseChannelMlp, TensorOps,
};

use crate::ceilings::best_seconds;

/// Tokens that plain tensor operations are asked for at most: one after the other and dense,
/// they take milliseconds each.
const MOST_PLAIN_TOKENS: usize = 64;

pub(crate) struct Size {
    pub(crate) memories: usize,
    pub(crate) width: usize,
    pub(crate) chunk: usize,
}

pub(crate) fn print(
    device: &Device,
    copy_bytes_per_second: f64,
    quick: bool,
    most_gib: f64,
) -> Result<(), Box<dyn Error>> {
    println!(
        "\nsparse: {} channels, 64 of them active",
        if quick { 512 } else { 8192 }
    );
    println!("memories width chunk operations         tokens/s   floor/time publish ms");
    for size in sizes(quick) {
        let config = config(&size, quick);
        let gib = (size.memories * config.state_bytes()) as f64 / f64::from(1 << 30);
        if gib > most_gib {
            println!(
                "{:8} {:5} {:5} left out: {gib:.1} GiB of memories",
                size.memories, size.width, size.chunk
            );
            continue;
        }
        for (name, ops) in contenders(device) {
            if name == "plain tensors" && size.memories * size.chunk > MOST_PLAIN_TOKENS {
                continue;
            }
            let memory = NeuralMemory::with_ops(config, device, ops)?;
            let mut states: Vec<MemoryState> =
                (0..size.memories).map(|_| memory.initial_state()).collect();
            let seconds = write_and_read(&memory, &mut states, &size, quick)?;
            let publish = best_seconds(device, quick, || {
                let _host = states[0].to_host();
                Ok(())
            })?;
            let tokens = (size.memories * size.chunk) as f64;
            println!(
                "{:8} {:5} {:5} {name:18} {:10.0} {:12.3} {:10.3}",
                size.memories,
                size.width,
                size.chunk,
                tokens / seconds,
                tokens * unavoidable_bytes(&config) / copy_bytes_per_second / seconds,
                publish * 1e3,
            );
        }
    }
    Ok(())
}

pub(crate) fn sizes(quick: bool) -> Vec<Size> {
    let size = |memories, width, chunk| Size {
        memories,
        width,
        chunk,
    };
    if quick {
        return vec![size(1, 64, 16), size(3, 64, 16)];
    }
    let mut sizes = Vec::new();
    for memories in [1, 8, 64, 512] {
        for width in [256, 512, 1024] {
            for chunk in [64, 512, 4096] {
                sizes.push(size(memories, width, chunk));
            }
        }
    }
    sizes
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

/// Seconds to write a chunk to each memory and to answer as many queries.
pub(crate) fn write_and_read(
    memory: &NeuralMemory,
    states: &mut [MemoryState],
    size: &Size,
    quick: bool,
) -> Result<f64, Box<dyn Error>> {
    let device = memory.device();
    let shape = [size.memories, size.chunk, size.width];
    let random = || -> Tensor<3> { Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device) };
    let (keys, values) = (random(), random());
    best_seconds(&device, quick, || {
        memory.write_batch(states, keys.clone(), values.clone())?;
        for (idx, state) in states.iter().enumerate() {
            let queries = keys.clone().narrow(0, idx, 1).squeeze_dim(0);
            let _answer = memory.read(state, queries);
        }
        Ok(())
    })
}
