//! The dense rule: every token of a chunk is written with its gradient at the chunk's start.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use titans_core::{
    ComputeDevice, MemoryArchitecture, MemoryConfig, NeuralMemory, Preset, Reduction, TensorOps,
};

use crate::ceiling;
use crate::shape::Shape;

pub(crate) const HEAD: &str = "threads  dim depth hidden chunk  call batch   tokens/s   per CPU-s  us/token   GFLOP/s  \
     ceiling  fraction  peak MiB";

/// Measures one shape, or its twin in tensor operations; the row of the table.
pub(crate) fn measure(
    shape: Shape,
    seconds: f64,
    twin: bool,
) -> Result<String, Box<dyn std::error::Error>> {
    let Shape::Dense {
        dim,
        depth,
        hidden,
        chunk,
        batch,
        call,
    } = shape
    else {
        return Err("not a dense shape".into());
    };
    let device = ComputeDevice::Cpu.open()?;
    let config = config(dim, depth, hidden, chunk);
    let memory = match twin {
        true => NeuralMemory::with_ops(config, &device, Arc::new(TensorOps))?,
        false => NeuralMemory::new(config, &device)?,
    };
    let mut states = vec![memory.initial_state(); batch];

    let unit = Distribution::Normal(0.0, 1.0 / (dim as f64).sqrt());
    let rows = || Tensor::<3>::random([batch, chunk, dim], unit, &device);
    let (keys, values, queries) = (rows(), rows(), rows());
    let calls: Vec<[Tensor<3>; 3]> = (0..chunk)
        .step_by(call)
        .map(|from| [&keys, &values, &queries].map(|rows| rows.clone().narrow(1, from, call)))
        .collect();
    let mut step = || -> Result<(), Box<dyn std::error::Error>> {
        for [keys, values, queries] in &calls {
            memory.write_batch(&mut states, keys.clone(), values.clone())?;
            let read = memory.read_batch(&states, queries.clone());
            // Nothing is computed later than this.
            assert!(read.into_data_as::<f32>().num_elements() > 0);
        }
        Ok(())
    };
    step()?;
    let (mut steps, started, cpu) = (0_u32, Instant::now(), ceiling::cpu_seconds());
    while steps < 3 || started.elapsed().as_secs_f64() < seconds {
        step()?;
        steps += 1;
    }
    let tokens = f64::from(steps) * (batch * chunk) as f64;
    let per_token = started.elapsed().as_secs_f64() / tokens;
    let per_cpu_second = tokens / (ceiling::cpu_seconds() - cpu).max(0.01);
    let peak = ceiling::peak_resident_mib();
    let ceiling = ceiling::matrix_products();
    let rate = useful_flops(dim, depth, hidden) / per_token / 1e9;
    Ok(format!(
        "{:7} {dim:4} {depth:5} {hidden:6} {chunk:5} {call:5} {batch:5} {:10.0} {:11.0} {:9.2} \
         {rate:9.1} {ceiling:8.1} {:8.1} % {peak:8.0}",
        std::env::var("RAYON_NUM_THREADS").unwrap_or_default(),
        per_token.recip(),
        per_cpu_second,
        per_token * 1e6,
        rate / ceiling * 100.0,
    ))
}

/// The preset `titans` at other sizes.
pub(crate) fn config(dim: usize, depth: usize, hidden: usize, chunk: usize) -> MemoryConfig {
    let mut config = Preset::Titans.config();
    (config.key_dim, config.value_dim) = (dim, dim);
    config.update.update_size = chunk;
    // A sum over thousands of tokens would be a step that leaves the finite numbers.
    config.update.reduction = Reduction::Mean;
    if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
        (mlp.depth, mlp.hidden) = (depth, hidden);
    }
    config
}

/// Floating-point operations per token that the rule needs, as matrix products: the forward
/// pass of the write, the errors back to every layer but the first, two weighted sums of
/// gradients (into the weights and into the momentum), and the forward pass of the read.
pub(crate) fn useful_flops(dim: usize, depth: usize, hidden: usize) -> f64 {
    let (dim, hidden) = (dim as f64, hidden as f64);
    let first = dim * hidden;
    let all = 2.0 * first + (depth as f64 - 2.0) * hidden * hidden;
    let forward = 2.0 * all;
    let back = 2.0 * (all - first);
    forward + back + 2.0 * forward + forward
}
