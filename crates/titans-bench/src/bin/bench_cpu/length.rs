//! A long stream beside a short one: what a token costs, and how much memory the process has.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use titans_core::{ComputeDevice, NeuralMemory, Preset};

use crate::{ceiling, dense};

pub(crate) const HEAD: &str = "threads  memory    tokens   tokens/s  peak MiB";

const CHUNK: usize = 1024;

/// Writes and reads as many tokens, in chunks.
pub(crate) fn measure(is_dense: bool, tokens: usize) -> Result<String, Box<dyn std::error::Error>> {
    let (config, name) = match is_dense {
        true => (dense::config(256, 2, 1024, CHUNK), "dense"),
        false => (Preset::Sparse.config(), "sparse"),
    };
    let device = ComputeDevice::Cpu.open()?;
    let memory = NeuralMemory::new(config, &device)?;
    let mut state = memory.initial_state();
    let dim = config.key_dim;
    let unit = Distribution::Normal(0.0, 1.0 / (dim as f64).sqrt());
    let rows = || Tensor::<2>::random([CHUNK, dim], unit, &device);
    // One in sixteen chunks is new each time round: news, and repetition.
    let known: Vec<_> = (0..16).map(|_| (rows(), rows())).collect();
    let mut spent = 0.0;
    for chunk in 0..tokens / CHUNK {
        let (keys, values) = match chunk % 16 {
            0 => (rows(), rows()),
            place => known[place].clone(),
        };
        let started = Instant::now();
        memory.write(&mut state, keys.clone(), values)?;
        let read = memory.read(&state, keys);
        assert!(read.into_data_as::<f32>().num_elements() > 0);
        spent += started.elapsed().as_secs_f64();
    }
    Ok(format!(
        "{:7} {name:>7} {tokens:9} {:10.0} {:9.1}",
        std::env::var("RAYON_NUM_THREADS").unwrap_or_default(),
        tokens as f64 / spent,
        ceiling::peak_resident_mib(),
    ))
}
