//! The three tables.

use std::error::Error;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use titans_bench::{out, outln};

use crate::options::Options;
use crate::stores::{Contender, Gate, Store, contenders};

/// Pairs written in one call.
const CALL: usize = 4096;
/// Candidate values of the streaming law.
const CANDIDATES: usize = 1024;
/// Associations that the haystack repeats.
const HAYSTACK: usize = 1000;
/// Pairs hidden in it.
const NEEDLES: usize = 64;

/// Random rows of length one.
fn unit_rows(count: usize, width: usize) -> Tensor<2> {
    let rows: Tensor<2> = Tensor::random(
        [count, width],
        Distribution::Normal(0.0, 1.0),
        &Device::flex(),
    );
    let norm = (rows.clone() * rows.clone()).sum_dim(1).sqrt();
    rows / norm
}

fn chosen(options: &Options) -> Result<Vec<Contender>, Box<dyn Error>> {
    let mut all = contenders(options.full, &options.device.open()?);
    all.retain(|c| options.only.is_empty() || options.only.contains(&c.name));
    Ok(all)
}

fn write_all(
    store: &mut dyn Store,
    keys: &Tensor<2>,
    values: &Tensor<2>,
) -> Result<usize, Box<dyn Error>> {
    let [count, _] = keys.dims();
    let mut written = 0;
    for start in (0..count).step_by(CALL) {
        let part = CALL.min(count - start);
        written += store.write(
            &keys.clone().narrow(0, start, part),
            &values.clone().narrow(0, start, part),
        )?;
    }
    Ok(written)
}

/// For each query, whether the answer is nearest to the candidate it should be.
fn is_right(
    store: &dyn Store,
    queries: &Tensor<2>,
    candidates: &Tensor<2>,
    expected: &[usize],
) -> Vec<bool> {
    let [count, _] = queries.dims();
    let mut right = Vec::with_capacity(count);
    for start in (0..count).step_by(1024) {
        let part = 1024.min(count - start);
        let answers = store.read(&queries.clone().narrow(0, start, part));
        let nearest: Vec<i32> = answers
            .matmul(candidates.clone().transpose())
            .argmax(1)
            .to_data_as::<i32>()
            .try_into_vec()
            .expect("indices");
        let expected = &expected[start..start + part];
        right.extend(nearest.iter().zip(expected).map(|(n, e)| *n as usize == *e));
    }
    right
}

fn percent(right: &[bool]) -> f64 {
    100.0 * right.iter().filter(|right| **right).count() as f64 / right.len() as f64
}

/// `n` with `n ln n = parameters / 2`: what a dense memory can tell apart.
fn static_limit(parameters: usize) -> f64 {
    let target = parameters as f64 / 2.0;
    let mut n = target;
    for _ in 0..100 {
        n = target / n.max(2.0).ln();
    }
    n
}

/// Where recall falls through one half, between counts that double.
fn half_point(points: &[(usize, f64)]) -> String {
    let fall = points
        .windows(2)
        .find(|pair| pair[0].1 >= 50.0 && pair[1].1 < 50.0);
    match fall {
        Some(pair) => {
            let share = (pair[0].1 - 50.0) / (pair[0].1 - pair[1].1);
            let log = (pair[0].0 as f64).ln() * (1.0 - share) + (pair[1].0 as f64).ln() * share;
            format!("{:.0}", log.exp())
        }
        None if points.last().is_some_and(|last| last.1 >= 50.0) => {
            format!("> {}", points[points.len() - 1].0)
        }
        None => format!("< {}", points[0].0),
    }
}

/// One-shot recall against the number of stored pairs.
pub(crate) fn one_shot(options: &Options) -> Result<(), Box<dyn Error>> {
    let counts: Vec<usize> = (6..=if options.full { 15 } else { 13 })
        .map(|n| 1 << n)
        .collect();
    outln!("One-shot recall, % of pairs, by pairs stored (everything written once)\n");
    out!("{:<26}{:>9}", "", "bytes");
    for count in &counts {
        out!("{count:>7}");
    }
    outln!("{:>9}{:>9}", "at 50 %", "theory");
    for contender in chosen(options)? {
        out!(
            "{:<26}{:>9}",
            contender.name,
            (contender.make)(Gate::Open).bytes()
        );
        let mut points = Vec::new();
        for &count in &counts {
            if count > contender.most_pairs || points.last().is_some_and(|p: &(_, f64)| p.1 < 2.0) {
                out!("{:>7}", "-");
                continue;
            }
            Device::flex().seed(options.seed);
            let (keys, values) = (
                unit_rows(count, contender.width),
                unit_rows(count, contender.width),
            );
            let mut store = (contender.make)(Gate::Open);
            write_all(store.as_mut(), &keys, &values)?;
            let own: Vec<usize> = (0..count).collect();
            let recall = percent(&is_right(store.as_ref(), &keys, &values, &own));
            points.push((count, recall));
            out!("{recall:>7.1}");
        }
        let theory = contender
            .parameters
            .map_or("-".to_owned(), |p| format!("{:.0}", static_limit(p)));
        outln!("{:>9}{theory:>9}", half_point(&points));
    }
    outln!("\ntheory: n ln n = P / 2, P the learned parameters (dense, any number of passes)\n");
    Ok(())
}

/// How many pairs of an endless stream are recalled at its end.
pub(crate) fn everything_is_news(options: &Options) -> Result<(), Box<dyn Error>> {
    let lengths: Vec<usize> = if options.full {
        vec![512, 2048, 8192, 32768]
    } else {
        vec![512, 2048, 8192]
    };
    outln!("Streaming, everything is news: pairs of the stream recalled at its end, less chance\n");
    out!("{:<26}", "");
    for length in &lengths {
        out!("{length:>9}");
    }
    outln!("{:>12}", "0.24 P/ln M");
    for contender in chosen(options)? {
        out!("{:<26}", contender.name);
        for &length in &lengths {
            if length > 2 * contender.most_pairs {
                out!("{:>9}", "-");
                continue;
            }
            // Several streams where few pairs are recalled, so that the count means something.
            let streams = (16384 / length).clamp(1, 8);
            let mut recalled = 0.0;
            for stream in 0..streams {
                Device::flex().seed(options.seed + stream as u64);
                let candidates = unit_rows(CANDIDATES, contender.width);
                let mut words = ChaCha8Rng::seed_from_u64(options.seed + stream as u64);
                let own: Vec<usize> = (0..length)
                    .map(|_| words.random_range(0..CANDIDATES))
                    .collect();
                let keys = unit_rows(length, contender.width);
                let values = candidates.clone().select(0, indices(&own));
                let mut store = (contender.make)(Gate::Open);
                write_all(store.as_mut(), &keys, &values)?;
                let right = is_right(store.as_ref(), &keys, &candidates, &own);
                let chance = length as f64 / CANDIDATES as f64;
                recalled += right.iter().filter(|r| **r).count() as f64 - chance;
            }
            out!("{:>9.0}", recalled / streams as f64);
        }
        let law = contender.parameters.map_or("-".to_owned(), |parameters| {
            format!("{:.0}", 0.24 * parameters as f64 / (CANDIDATES as f64).ln())
        });
        outln!("{law:>12}");
    }
    outln!("\nM = {CANDIDATES} candidate values; chance = length / M pairs\n");
    Ok(())
}

/// Needles in a stream that repeats itself, with and without the gate.
pub(crate) fn needles(options: &Options) -> Result<(), Box<dyn Error>> {
    let lengths: Vec<usize> = if options.full {
        vec![4096, 65536, 1 << 20]
    } else {
        vec![4096, 65536]
    };
    outln!("Streaming, {NEEDLES} needles in {HAYSTACK} Zipf associations: recall %, written %\n");
    out!("{:<26}", "");
    for length in &lengths {
        out!("{:>20}", format!("{length} all"));
        out!("{:>20}", format!("{length} gate"));
    }
    outln!();
    for contender in chosen(options)? {
        out!("{:<26}", contender.name);
        for &length in &lengths {
            for gate in [Gate::Open, Gate::Surprise] {
                // A gate on a yardstick would be the yardstick again.
                let no_gate = gate == Gate::Surprise && contender.name.contains("= ");
                if length > 16 * contender.most_pairs || no_gate {
                    out!("{:>20}", "-");
                    continue;
                }
                let (recall, written) = hide_and_seek(&contender, options.seed, length, gate)?;
                out!("{:>20}", format!("{recall:.1} {:.2}", 100.0 * written));
            }
        }
        outln!();
    }
    outln!("\ngate: written only if ||M(k) - v|| / ||v|| > 0.6\n");
    Ok(())
}

fn hide_and_seek(
    contender: &Contender,
    seed: u64,
    length: usize,
    gate: Gate,
) -> Result<(f64, f64), Box<dyn Error>> {
    Device::flex().seed(seed);
    let all = HAYSTACK + NEEDLES;
    let keys = unit_rows(all, contender.width);
    let values = unit_rows(all, contender.width);
    let mut words = ChaCha8Rng::seed_from_u64(seed);
    let mut cumulative: Vec<f64> = (1..=HAYSTACK).map(|rank| 1.0 / rank as f64).collect();
    for rank in 1..HAYSTACK {
        cumulative[rank] += cumulative[rank - 1];
    }
    let total = cumulative[HAYSTACK - 1];
    let mut stream: Vec<usize> = (0..length)
        .map(|_| {
            let draw = words.random::<f64>() * total;
            cumulative.partition_point(|c| *c < draw).min(HAYSTACK - 1)
        })
        .collect();
    // One needle in each of as many equal parts, so that every depth is asked for.
    for needle in 0..NEEDLES {
        let part = length / NEEDLES;
        stream[needle * part + words.random_range(0..part)] = HAYSTACK + needle;
    }
    let mut store = (contender.make)(gate);
    let mut written = 0;
    for part in stream.chunks(CALL) {
        written += store.write(
            &keys.clone().select(0, indices(part)),
            &values.clone().select(0, indices(part)),
        )?;
    }
    let own: Vec<usize> = (HAYSTACK..all).collect();
    let queries = keys.narrow(0, HAYSTACK, NEEDLES);
    let right = is_right(store.as_ref(), &queries, &values, &own);
    Ok((percent(&right), written as f64 / length as f64))
}

fn indices(of: &[usize]) -> Tensor<1, Int> {
    let numbers: Vec<i32> = of.iter().map(|index| *index as i32).collect();
    Tensor::from_data(TensorData::new(numbers, [of.len()]), &Device::flex())
}
