//! Recall of one configuration for one seed, beside its controls.

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use titans_core::{MemoryConfig, MemoryState, NeuralMemory, Preset};

/// Pairs written in one call.
const CALL: usize = 4096;
/// Questions asked at once.
const ASKED: usize = 1024;
/// Associations that the stream repeats.
const HAYSTACK: usize = 1000;
/// Pairs hidden in it, each once.
pub(crate) const NEEDLES: usize = 256;

/// How much is written.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Tokens of the stream with needles.
    pub(crate) stream: usize,
    /// Pairs that are stated once each.
    pub(crate) news: usize,
}

impl Size {
    /// `article` computes a thousand times as much for each token.
    pub(crate) fn of(preset: Preset) -> Self {
        match preset {
            Preset::Article => Self {
                stream: 8192,
                news: 4096,
            },
            _ => Self {
                stream: 16384,
                news: 8192,
            },
        }
    }
}

/// What was measured: percentages, and tokens per second over both streams.
pub(crate) struct Measured {
    pub(crate) needles: f64,
    pub(crate) news: f64,
    /// Needles that a memory recalls to which nothing was written.
    pub(crate) unwritten: f64,
    /// Needles that are recalled by the keys of others.
    pub(crate) other_keys: f64,
    /// Of the tokens of the stream.
    pub(crate) written: f64,
    pub(crate) tokens_per_second: f64,
}

/// Writes and asks.
pub(crate) fn measure(
    config: &MemoryConfig,
    size: Size,
    seed: u64,
) -> Result<Measured, Box<dyn Error>> {
    let device = Device::flex();
    device.seed(seed);
    let memory = NeuralMemory::new(*config, &device)?;
    let all = HAYSTACK + NEEDLES;
    let (keys, values) = (unit_rows(all), unit_rows(all));
    let order = stream(size.stream, seed);
    let pairs = |rows: &Tensor<2>| rows.clone().select(0, indices(&order));

    let started = Instant::now();
    let mut state = memory.initial_state();
    let written = write(&memory, &mut state, pairs(&keys), pairs(&values))?;
    let own: Vec<usize> = (HAYSTACK..all).collect();
    let of_the_next: Vec<usize> = own.iter().map(|index| index - 1).collect();
    let mut seconds = started.elapsed().as_secs_f64();
    let asked = keys.narrow(0, HAYSTACK, NEEDLES);
    let empty = memory.initial_state();

    let (news_keys, news_values) = (unit_rows(size.news), unit_rows(size.news));
    let started = Instant::now();
    let mut news = memory.initial_state();
    write(&memory, &mut news, news_keys.clone(), news_values.clone())?;
    seconds += started.elapsed().as_secs_f64();
    let stated: Vec<usize> = (0..size.news).collect();
    Ok(Measured {
        needles: recalled(&memory, &state, &asked, &values, &own),
        unwritten: recalled(&memory, &empty, &asked, &values, &own),
        other_keys: recalled(&memory, &state, &asked, &values, &of_the_next),
        news: recalled(&memory, &news, &news_keys, &news_values, &stated),
        written: 100.0 * written as f64 / size.stream as f64,
        tokens_per_second: (size.stream + size.news) as f64 / seconds,
    })
}

/// Which pair comes when: Zipf's frequencies, and one needle in each of as many equal parts.
fn stream(length: usize, seed: u64) -> Vec<usize> {
    let mut words = ChaCha8Rng::seed_from_u64(seed);
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=HAYSTACK)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut order: Vec<usize> = (0..length)
        .map(|_| {
            let draw = words.random::<f64>() * sum;
            cumulative.partition_point(|c| *c < draw).min(HAYSTACK - 1)
        })
        .collect();
    let part = length / NEEDLES;
    for needle in 0..NEEDLES {
        order[needle * part + words.random_range(0..part)] = HAYSTACK + needle;
    }
    order
}

/// Writes pairs, and what waits for its update; returns how many were written.
fn write(
    memory: &NeuralMemory,
    state: &mut MemoryState,
    keys: Tensor<2>,
    values: Tensor<2>,
) -> Result<usize, Box<dyn Error>> {
    let [count, _] = keys.dims();
    let mut written = 0;
    for start in (0..count).step_by(CALL) {
        let part = CALL.min(count - start);
        let rows = |rows: &Tensor<2>| rows.clone().narrow(0, start, part);
        written += memory
            .write(state, rows(&keys), rows(&values))?
            .tokens_written;
    }
    memory.finish_update(state)?;
    Ok(written)
}

/// The share of questions whose answer is nearest to the expected value, in percent.
fn recalled(
    memory: &NeuralMemory,
    state: &MemoryState,
    questions: &Tensor<2>,
    candidates: &Tensor<2>,
    expected: &[usize],
) -> f64 {
    let mut right = 0;
    for (part, expected) in expected.chunks(ASKED).enumerate() {
        let asked = questions.clone().narrow(0, part * ASKED, expected.len());
        let answers = memory.read(state, asked);
        let nearest: Vec<i32> = answers
            .matmul(candidates.clone().transpose())
            .argmax(1)
            .to_data_as::<i32>()
            .try_into_vec()
            .expect("indices");
        let pairs = nearest.iter().zip(expected);
        right += pairs.filter(|(n, e)| **n as usize == **e).count();
    }
    100.0 * right as f64 / expected.len() as f64
}

/// Random rows of length one, as wide as the presets are.
fn unit_rows(count: usize) -> Tensor<2> {
    let normal = Distribution::Normal(0.0, 1.0);
    let rows: Tensor<2> = Tensor::random([count, 64], normal, &Device::flex());
    let norm = (rows.clone() * rows.clone()).sum_dim(1).sqrt();
    rows / norm
}

fn indices(of: &[usize]) -> Tensor<1, Int> {
    let numbers: Vec<i32> = of.iter().map(|index| *index as i32).collect();
    Tensor::from_data(TensorData::new(numbers, [of.len()]), &Device::flex())
}
