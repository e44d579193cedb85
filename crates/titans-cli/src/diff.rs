//! `titanmem diff`: how far two generations are apart.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use titans_store::{Limits, MemoryImage, TensorRecord, TensorRole, UserKey, decode_with};

use crate::outcome::{Failure, Format, Outcome};

#[derive(Debug, Serialize)]
struct Difference {
    generations: (u64, u64),
    /// Whether both hold the same numbers, bit for bit.
    same: bool,
    chunks: i128,
    tokens_seen: i128,
    tokens_written: i128,
    tensors: Vec<TensorDifference>,
    /// Tensors that only one of them has, or with another shape.
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TensorDifference {
    role: TensorRole,
    name: String,
    values: usize,
    changed: usize,
    largest_change: f64,
    root_mean_square_change: f64,
}

pub(crate) fn run(
    a: &Path,
    b: &Path,
    key: Option<&UserKey>,
    format: Format,
) -> Result<Outcome, Failure> {
    let (before, after) = (read(a, key)?, read(b, key)?);
    Ok(Outcome::of(&compare(before, after), format, in_words))
}

fn read(path: &Path, key: Option<&UserKey>) -> Result<(MemoryImage, u64), Failure> {
    let bytes = crate::inspect::read(path, &Limits::default())
        .map_err(|error| Failure::io("read", path, &error))?;
    let (image, stamp) = decode_with(&bytes, &Limits::default(), key)
        .map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    Ok((image, stamp.sequence))
}

fn compare((before, a): (MemoryImage, u64), (after, b): (MemoryImage, u64)) -> Difference {
    let is_same = |tensor: &TensorRecord, other: &TensorRecord| {
        (tensor.role, &tensor.name, &tensor.shape) == (other.role, &other.name, &other.shape)
    };
    let partner = |tensor: &TensorRecord, image: &MemoryImage| {
        image
            .tensors
            .iter()
            .position(|other| is_same(tensor, other))
    };
    let only = |image: &MemoryImage, other: &MemoryImage| {
        let lonely = image
            .tensors
            .iter()
            .filter(|tensor| partner(tensor, other).is_none());
        lonely
            .map(|tensor| format!("{} {:?} {:?}", tensor.role, tensor.name, tensor.shape))
            .collect::<Vec<_>>()
    };
    let tensors = before.tensors.iter().filter_map(|tensor| {
        let other = after.tensors.get(partner(tensor, &after)?)?;
        Some(compare_tensors(tensor, other))
    });
    let tensors: Vec<_> = tensors.collect();
    let (only_in_a, only_in_b) = (only(&before, &after), only(&after, &before));
    let grown = |before: u64, after: u64| i128::from(after) - i128::from(before);
    Difference {
        generations: (a, b),
        same: tensors.iter().all(|tensor| tensor.changed == 0)
            && only_in_a.is_empty()
            && only_in_b.is_empty(),
        chunks: grown(before.last_chunk_id, after.last_chunk_id),
        tokens_seen: grown(before.tokens_seen, after.tokens_seen),
        tokens_written: grown(before.tokens_written, after.tokens_written),
        tensors,
        only_in_a,
        only_in_b,
    }
}

fn compare_tensors(before: &TensorRecord, after: &TensorRecord) -> TensorDifference {
    let pairs = || before.values.iter().zip(&after.values);
    let change = |(a, b): (&f32, &f32)| f64::from(*b) - f64::from(*a);
    let squares: f64 = pairs().map(change).map(|change| change * change).sum();
    TensorDifference {
        role: before.role,
        name: before.name.clone(),
        values: before.values.len(),
        changed: pairs().filter(|(a, b)| a.to_bits() != b.to_bits()).count(),
        largest_change: pairs().map(change).map(f64::abs).fold(0.0, f64::max),
        root_mean_square_change: (squares / before.values.len().max(1) as f64).sqrt(),
    }
}

fn in_words(difference: &Difference) -> String {
    let (a, b) = difference.generations;
    let (chunks, seen, written) = (
        difference.chunks,
        difference.tokens_seen,
        difference.tokens_written,
    );
    let mut text = format!(
        "generation {a} to {b}: {chunks:+} chunks, {seen:+} tokens seen, {written:+} written\n"
    );
    for tensor in &difference.tensors {
        let share = 100.0 * tensor.changed as f64 / tensor.values.max(1) as f64;
        let _ = writeln!(
            text,
            "{} {:?}: {} of {} changed ({share:.2} %), largest {:.3e}, rms {:.3e}",
            tensor.role,
            tensor.name,
            tensor.changed,
            tensor.values,
            tensor.largest_change,
            tensor.root_mean_square_change
        );
    }
    for (only, which) in [
        (&difference.only_in_a, "first"),
        (&difference.only_in_b, "second"),
    ] {
        for tensor in only {
            let _ = writeln!(text, "only in the {which}: {tensor}");
        }
    }
    text
}
