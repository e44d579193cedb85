//! Products in bf16 beside the same in f32, at the level of vectors in use.
//!
//! `TITANMEM_SIMD=avx2 cargo run --release -p titans-cpu --example rounded_products`
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use titans_cpu::{Activation, AtEnd, Buffer, Learned, Mlp, Products, Tokens, simd_level};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let native = Products::Bf16.are_native();
    let level = simd_level()?.name();
    println!("level {level}, instructions for bf16: {native}; one thread");
    println!("width  tokens  write + read, tokens/s: f32  bf16  ratio");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for width in [64, 256] {
        for tokens in [1, 16, 64, 512] {
            let [in_f32, in_bf16] = pool.install(|| measure(width, tokens));
            let ratio = in_bf16 / in_f32;
            println!("{width:5}  {tokens:6}  {in_f32:10.0}  {in_bf16:10.0}  {ratio:5.2}");
        }
    }
    Ok(())
}

fn wave(count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|at| (at as f32 * 0.61).sin() * scale)
        .collect()
}

/// Tokens per second in f32 and in bf16, in turns of the same program.
fn measure(width: usize, tokens: usize) -> [f64; 2] {
    let widths = [width, 4 * width, width];
    let scale = 1.0 / (width as f32).sqrt();
    let (keys, values) = (wave(tokens * width, scale), wave(tokens * width, scale));
    let at_end = AtEnd::new(&[&vec![0.5; tokens]], &vec![1.0; tokens]);
    let steps = vec![1e-3; tokens];
    let mut contenders = [Products::F32, Products::Bf16].map(|products| {
        let mlp = Mlp::new(widths.to_vec(), Activation::Gelu, products);
        let weights = [width * 4 * width; 2].map(|count| wave(count, scale));
        let momenta = weights.clone().map(|weights| vec![0.0; weights.len()]);
        (mlp, weights, momenta, Duration::ZERO, 0_u32)
    });
    let (mut errors, mut answers) = (vec![0.0; tokens], vec![0.0; tokens * width]);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        for (mlp, weights, momenta, spent, turns) in &mut contenders {
            let before = Instant::now();
            let learned = Learned {
                weights: weights.iter_mut().map(|w| Buffer::InPlace(w)).collect(),
                momenta: vec![momenta.iter_mut().map(|m| Buffer::InPlace(m)).collect()],
            };
            let tokens = Tokens {
                keys: &keys,
                values: &values,
                steps: &steps,
                slope: 2.0,
                surprise_threshold: 0.0,
            };
            mlp.update(learned, tokens, &at_end, &mut errors);
            let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
            mlp.read(&weights, &keys, &mut answers);
            *spent += before.elapsed();
            *turns += 1;
        }
    }
    contenders.map(|(_, _, _, spent, turns)| f64::from(turns) * tokens as f64 / spent.as_secs_f64())
}
