//! The dense rule with products in bf16, beside the same with products in f32.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use titans_core::{ComputeDevice, MemoryState, NeuralMemory, Products, RoundedHostOps};

use crate::{ceiling, dense};

pub(crate) const HEAD: &str = "threads  dim depth chunk  bf16 tokens/s   f32 tokens/s  ratio \
     GFLOP/s  f32 ceiling  fraction  bf16 ceiling  fraction  peak MiB";

/// Measures one shape, an update in bf16 and one in f32 in turn; the row of the table.
pub(crate) fn measure(
    dim: usize,
    depth: usize,
    chunk: usize,
    seconds: f64,
) -> Result<String, Box<dyn std::error::Error>> {
    let products = Products::Bf16;
    if !(RoundedHostOps { products }).are_native() {
        eprintln!("no instructions for bf16: its products are made by loops");
    }
    let device = ComputeDevice::Cpu.open()?;
    let config = dense::config(dim, depth, 4 * dim, chunk);
    let mut contenders = Vec::new();
    for products in [Products::Bf16, Products::F32] {
        let ops = Arc::new(RoundedHostOps { products });
        let memory = NeuralMemory::with_ops(config, &device, ops)?;
        let state = memory.initial_state();
        contenders.push((memory, state, 0.0));
    }
    let unit = Distribution::Normal(0.0, 1.0 / (dim as f64).sqrt());
    let rows = || Tensor::<2>::random([chunk, dim], unit, &device);
    let (keys, values, queries) = (rows(), rows(), rows());
    let step = |memory: &NeuralMemory,
                state: &mut MemoryState|
     -> Result<f64, Box<dyn std::error::Error>> {
        let started = Instant::now();
        memory.write(state, keys.clone(), values.clone())?;
        let read = memory.read(state, queries.clone());
        // Nothing is computed later than this.
        assert!(read.into_data_as::<f32>().num_elements() > 0);
        Ok(started.elapsed().as_secs_f64())
    };
    for (memory, state, _) in &mut contenders {
        step(memory, state)?;
    }
    // Turns of a few steps, so that each finds its own weights in the caches.
    let (mut steps, started) = (0_u32, Instant::now());
    while steps < 4 || started.elapsed().as_secs_f64() < seconds {
        for (memory, state, spent) in &mut contenders {
            for _ in 0..4 {
                *spent += step(memory, state)?;
            }
        }
        steps += 4;
    }
    let tokens = f64::from(steps) * chunk as f64;
    let [in_bf16, in_f32] = [0, 1].map(|at| tokens / contenders[at].2);
    let peak = ceiling::peak_resident_mib();
    let (of_f32, of_bf16) = (
        ceiling::matrix_products(),
        ceiling::matrix_products_in_bf16(),
    );
    let rate = dense::useful_flops(dim, depth, 4 * dim) * in_bf16 / 1e9;
    Ok(format!(
        "{:7} {dim:4} {depth:5} {chunk:5} {in_bf16:14.0} {in_f32:14.0} {:5.2}x {rate:8.1} \
         {of_f32:12.1} {:7.1} % {of_bf16:13.1} {:7.1} % {peak:9.0}",
        std::env::var("RAYON_NUM_THREADS").unwrap_or_default(),
        in_bf16 / in_f32,
        rate / of_f32 * 100.0,
        rate / of_bf16 * 100.0,
    ))
}
