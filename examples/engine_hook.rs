//! A hook for an inference engine: an attention layer keeps a window of keys and values, and what
//! leaves the window is learned by a memory in place of being lost. A query for an evicted token
//! is answered by the memory, beside the window.
//!
//! The layer is made up and seeded. Its error is measured against the same layer with a cache
//! that keeps everything; the control is the window alone.

use std::error::Error;
use std::io::{self, ErrorKind, Write};

use titanmem::{ObserveError, RecallError, Rows, Runtime, RuntimeConfig, UserMemory};

const DIM: usize = 64;
/// Numbers in a row of the cache: a key with its value behind it.
const ROW: usize = 2 * DIM;
/// Tokens of the text.
const TOKENS: usize = 2048;
/// Tokens that the window keeps, and tokens that leave it together.
const WINDOW: usize = 256;
const PAGE: usize = 64;
const QUERIES: usize = 128;

/// The hook. Rows go in as they lie in the cache, by their stride; nobody waits until they are
/// learned.
fn evict(memory: &UserMemory, page: &[f32]) -> Result<(), ObserveError> {
    let keys = Rows::matrix(page, DIM).with_row_stride(ROW);
    let values = Rows::matrix(&page[DIM..], DIM).with_row_stride(ROW);
    memory.observe(keys, values)?;
    Ok(())
}

/// Attention over the window and one row more: what the memory recalls. Values are of length one
/// here, so the length of what is recalled tells how well it is known, and serves as its score.
fn attend(memory: &UserMemory, query: &[f32], window: &[f32]) -> Result<Vec<f32>, RecallError> {
    let mut recalled = vec![0.0; DIM];
    memory.recall_into(Rows::row(query), &mut recalled)?;
    let known = dot(&recalled, &recalled).sqrt();
    Ok(attention(query, window, Some((known, &recalled))))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("engine-hook-{}", std::process::id()));
    let runtime = Runtime::open(&dir, RuntimeConfig::default())?;
    let memory = runtime.user("conversation 1")?;
    let text = unit_rows(1, 2 * TOKENS);
    let (evicted, window) = text.split_at((TOKENS - WINDOW) * ROW);
    for page in evicted.chunks(PAGE * ROW) {
        evict(&memory, page)?;
    }
    memory.flush()?;

    // Each query is the key of some token with a little noise.
    let noise = unit_rows(2, QUERIES);
    let (mut alone, mut with_memory) = (0.0, 0.0);
    for (query, noise) in noise.chunks(DIM).enumerate() {
        let token = query * TOKENS / QUERIES;
        let key = &text[token * ROW..][..DIM];
        let query: Vec<f32> = key.iter().zip(noise).map(|(k, n)| k + 0.1 * n).collect();
        let full = attention(&query, &text, None);
        alone += error(&attention(&query, window, None), &full) / QUERIES as f32;
        with_memory += error(&attend(&memory, &query, window)?, &full) / QUERIES as f32;
    }
    say(format!("{TOKENS} tokens, the last {WINDOW} in the window"))?;
    say(format!("error of the window alone:     {alone:.3}"))?;
    say(format!("error of window and memory:    {with_memory:.3}"))?;
    let memory_kib = memory.snapshot()?.memory_bytes() >> 10;
    let cache_kib = size_of_val(&text[..]) >> 10;
    say(format!(
        "memory: {memory_kib} KiB at any length; full cache: {cache_kib} KiB, and growing"
    ))?;
    assert!(alone > 0.8, "the window alone should not know");
    assert!(with_memory < 0.6 * alone, "the memory does not help");
    drop((memory, runtime));
    Ok(std::fs::remove_dir_all(dir)?)
}

/// `softmax(24 q K^T) V` over rows of the cache, and one value more with its score.
fn attention(query: &[f32], rows: &[f32], beside: Option<(f32, &[f32])>) -> Vec<f32> {
    let rows = rows.chunks(ROW).map(|row| row.split_at(DIM));
    let scored = rows.map(|(key, value)| (dot(query, key), value));
    let (mut sum, mut mean) = (0.0, vec![0.0; DIM]);
    for (score, value) in scored.chain(beside) {
        // Scores are hardly over one, so nothing overflows.
        let weight = (24.0 * score).exp();
        sum += weight;
        (mean.iter_mut().zip(value)).for_each(|(m, v)| *m += weight * v);
    }
    mean.iter().map(|m| m / sum).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `|found - expected| / |expected|`.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    let apart: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
    (dot(&apart, &apart) / dot(expected, expected)).sqrt()
}

/// Made-up rows of length one, the same for the same seed.
fn unit_rows(seed: usize, count: usize) -> Vec<f32> {
    let mix = |word: u64| (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = |i| (mix(mix(((seed << 32) | i) as u64)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let mut rows: Vec<f32> = (0..count * DIM).map(number).collect();
    for row in rows.chunks_mut(DIM) {
        let length = dot(row, row).sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
