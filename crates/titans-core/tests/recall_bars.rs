//! The bars of the recall table, in small: the law of streaming, and what the default holds.

#[path = "common/draw.rs"]
mod draw;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use draw::{sample, seed};
use titans_core::{NeuralMemory, Preset};

fn unit_rows(count: usize) -> Tensor<2> {
    let normal = Distribution::Normal(0.0, 1.0);
    let rows: Tensor<2> = sample([count, 64], normal);
    let norm = (rows.clone() * rows.clone()).sum_dim(1).sqrt();
    rows / norm
}

fn recalled(memory: &NeuralMemory, keys: Tensor<2>, candidates: &Tensor<2>, own: &[i32]) -> usize {
    let values = candidates.clone().select(
        0,
        Tensor::<1, Int>::from_data(TensorData::new(own.to_vec(), [own.len()]), &Device::flex()),
    );
    let mut state = memory.initial_state();
    memory
        .write(&mut state, keys.clone(), values)
        .expect("finite");
    let answers = memory.read(&state, keys);
    let nearest: Vec<i32> = answers
        .matmul(candidates.clone().transpose())
        .argmax(1)
        .to_data_as::<i32>()
        .try_into_vec()
        .expect("indices");
    nearest.iter().zip(own).filter(|(n, o)| n == o).count()
}

#[test]
fn delta_recalls_as_much_of_a_stream_as_theory_says() {
    const LENGTH: usize = 1500;
    const CANDIDATES: usize = 1024;
    const STREAMS: usize = 3;
    let mut config = Preset::Delta.config();
    config.update.surprise_threshold = 0.0;
    let memory = NeuralMemory::new(config, &Device::flex()).expect("valid");
    let mut sum = 0;
    for stream in 0..STREAMS {
        seed(stream as u64);
        let candidates = unit_rows(CANDIDATES);
        // Every candidate once, then again: as even as a random draw, and as good.
        let own: Vec<i32> = (0..LENGTH).map(|t| (t * 389 % CANDIDATES) as i32).collect();
        sum += recalled(&memory, unit_rows(LENGTH), &candidates, &own);
    }
    let chance = LENGTH as f64 / CANDIDATES as f64;
    let mean = sum as f64 / STREAMS as f64 - chance;
    let law = 0.24 * 4096.0 / (CANDIDATES as f64).ln();
    assert!(
        (mean / law - 1.0).abs() < 0.15,
        "{mean} recalled, the law says {law}"
    );
}

#[test]
fn the_default_tells_two_thousand_pairs_apart_that_were_seen_once() {
    const PAIRS: usize = 2048;
    seed(1);
    let mut config = Preset::Sparse.config();
    config.update.surprise_threshold = 0.0;
    let memory = NeuralMemory::new(config, &Device::flex()).expect("valid");
    let values = unit_rows(PAIRS);
    let own: Vec<i32> = (0..PAIRS as i32).collect();
    let right = recalled(&memory, unit_rows(PAIRS), &values, &own);
    assert!(right * 1000 >= PAIRS * 999, "{right} of {PAIRS}");
}
