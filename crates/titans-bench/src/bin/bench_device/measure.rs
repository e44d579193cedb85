//! What both memories are measured by.

use std::error::Error;

use burn::tensor::{Distribution, Tensor};
use titans_bench::outln;
use titans_core::{MemoryConfig, MemoryState, NeuralMemory};

use crate::ceilings::best_seconds;

pub(crate) struct Size {
    pub(crate) memories: usize,
    pub(crate) width: usize,
    pub(crate) chunk: usize,
}

/// Seconds of one size.
pub(crate) struct Times {
    pub(crate) write_and_read: f64,
    pub(crate) publish: f64,
}

/// Gives a row to each size whose memories take no more than `most_gib`; of the others it is
/// printed that they are left out.
pub(crate) fn each_size(
    (quick, most_gib): (bool, f64),
    config: impl Fn(&Size) -> MemoryConfig,
    mut row: impl FnMut(&Size, MemoryConfig) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for size in sizes(quick) {
        let config = config(&size);
        let gib = (size.memories * config.state_bytes()) as f64 / f64::from(1 << 30);
        if gib > most_gib {
            outln!(
                "{:8} {:5} {:5} left out: {gib:.1} GiB of memories",
                size.memories,
                size.width,
                size.chunk
            );
            continue;
        }
        row(&size, config)?;
    }
    Ok(())
}

/// Writes and reads as many memories as the size says, and copies one to the host.
pub(crate) fn times(
    memory: &NeuralMemory,
    size: &Size,
    quick: bool,
) -> Result<Times, Box<dyn Error>> {
    let mut states: Vec<MemoryState> = (0..size.memories).map(|_| memory.initial_state()).collect();
    Ok(Times {
        write_and_read: write_and_read(memory, &mut states, size, quick)?,
        publish: best_seconds(&memory.device(), quick, || {
            let _host = states[0].to_host();
            Ok(())
        })?,
    })
}

fn sizes(quick: bool) -> Vec<Size> {
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

/// Seconds to write a chunk to each memory and to answer as many queries.
fn write_and_read(
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
