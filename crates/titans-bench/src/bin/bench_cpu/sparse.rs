//! The sparse-channel rule at different rates of news.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use titans_core::{ComputeDevice, NeuralMemory, Preset};

use crate::ceiling;

pub(crate) const HEAD: &str = "threads  dim  news   written   tokens/s  us/token  peak MiB";

const CHUNK: usize = 4096;

/// Measures a stream of which `percent` of the tokens are pairs that were never seen, and
/// the others come again and again.
pub(crate) fn measure(
    dim: usize,
    percent: usize,
    seconds: f64,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut config = Preset::Sparse.config();
    (config.key_dim, config.value_dim) = (dim, dim);
    let device = ComputeDevice::Cpu.open()?;
    let memory = NeuralMemory::new(config, &device)?;
    let mut state = memory.initial_state();
    let unit = Distribution::Normal(0.0, 1.0 / (dim as f64).sqrt());
    let rows = |count: usize| Tensor::<2>::random([count, dim], unit, &device);

    // Few enough that the memory knows them all.
    let (known_keys, known_values) = (rows(256), rows(256));
    for _ in 0..4 {
        memory.write(&mut state, known_keys.clone(), known_values.clone())?;
    }
    let news = CHUNK * percent / 100;
    let repeated = |known: &Tensor<2>| known.clone().repeat_dim(0, CHUNK / 256);
    let (old_keys, old_values) = (repeated(&known_keys), repeated(&known_values));
    let (mut steps, mut written, mut spent) = (0_u32, 0, 0.0);
    let queries = rows(CHUNK);
    while steps < 3 || spent < seconds {
        let mixed = |old: &Tensor<2>| match news {
            0 => old.clone(),
            CHUNK => rows(CHUNK),
            news => Tensor::cat(vec![rows(news), old.clone().narrow(0, 0, CHUNK - news)], 0),
        };
        let (keys, values) = (mixed(&old_keys), mixed(&old_values));
        let started = Instant::now();
        written += memory.write(&mut state, keys, values)?.tokens_written;
        let read = memory.read(&state, queries.clone());
        assert!(read.into_data_as::<f32>().num_elements() > 0);
        spent += started.elapsed().as_secs_f64();
        steps += 1;
    }
    let tokens = f64::from(steps) * CHUNK as f64;
    Ok(format!(
        "{:7} {dim:4} {percent:3} % {:7.2} % {:10.0} {:9.2} {:9.0}",
        std::env::var("RAYON_NUM_THREADS").unwrap_or_default(),
        written as f64 / tokens * 100.0,
        tokens / spent,
        spent / tokens * 1e6,
        ceiling::peak_resident_mib(),
    ))
}
