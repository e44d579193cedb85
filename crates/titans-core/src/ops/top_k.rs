//! Selection of the k largest entries of a slice, ties by index.

use std::cmp::Ordering;

use pulp::{Simd, WithSimd};
use titans_cpu::vectorised;

/// Entries sampled to guess a threshold that few others pass.
const SAMPLES: usize = 256;

/// The `k` largest entries of `values` as `(index, value)`, ascending by index, into
/// `selected`. Of equal entries the one with the lower index wins.
///
/// A library sort of the whole row costs about 100 times as much at 8192 channels. Here
/// a guess from every n-th entry lets through about twice what is needed, and only those
/// are partitioned; when the guess let through too few, all entries are. The result never
/// depends on the guess.
///
/// # Panics
/// If `k` is larger than `values`.
pub fn top_k_into(values: &[f32], k: usize, selected: &mut Vec<(u32, f32)>) {
    top_k_from_guess(values, k, None, selected);
}

/// As [`top_k_into`], beginning with a guess of what the k-th largest entry is at least.
pub(super) fn top_k_from_guess(
    values: &[f32],
    k: usize,
    guess: Option<f32>,
    selected: &mut Vec<(u32, f32)>,
) {
    assert!(
        k <= values.len(),
        "k is {k}, but there are only {} values",
        values.len()
    );
    selected.clear();
    if k == 0 {
        return;
    }
    let guesses = guess
        .into_iter()
        .chain(std::iter::once_with(|| guess_threshold(values, k)))
        .chain([f32::NEG_INFINITY]);
    for guess in guesses {
        selected.clear();
        collect_from(values, guess, selected);
        if selected.len() >= k {
            break;
        }
    }
    if selected.len() > k {
        selected.select_nth_unstable_by(k - 1, larger_first);
        selected.truncate(k);
    }
    selected.sort_unstable_by_key(|(index, _)| *index);
}

/// The `k` largest of some values at ascending places, as [`top_k_into`]; `None` if there are
/// fewer.
pub(super) fn top_k_of(
    places: &[u32],
    values: &[f32],
    k: usize,
    selected: &mut Vec<(u32, f32)>,
) -> Option<()> {
    selected.clear();
    if values.len() < k || k == 0 {
        return (k == 0).then_some(());
    }
    // In the order of `total_cmp`, as integers.
    let order = |value: f32| {
        let bits = value.to_bits().cast_signed();
        bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
    };
    let mut orders: Vec<i32> = values.iter().map(|value| order(*value)).collect();
    let (larger, least, _) = orders.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    let least = *least;
    let mut ties = k - larger.iter().filter(|order| **order > least).count();
    // Every value is written and the next one over it, if it is not taken: a branch would be
    // guessed wrong for every other value.
    selected.resize(values.len() + 1, (0, 0.0));
    let mut taken = 0;
    for (place, value) in places.iter().zip(values) {
        let order = order(*value);
        let is_tie = order == least && ties > 0;
        ties -= usize::from(is_tie);
        selected[taken] = (*place, *value);
        taken += usize::from(order > least || is_tie);
    }
    selected.truncate(k);
    Some(())
}

fn collect_from(values: &[f32], threshold: f32, selected: &mut Vec<(u32, f32)>) {
    vectorised(Collect {
        values,
        threshold,
        selected,
    });
}

struct Collect<'a> {
    values: &'a [f32],
    threshold: f32,
    selected: &'a mut Vec<(u32, f32)>,
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A NaN passes: it must not make the row come up short.
        let zero = simd.splat_f32s(0.0);
        let threshold = simd.splat_f32s(self.threshold);
        let passes = |value: f32| value >= self.threshold || value.is_nan();
        let (vectors, rest) = S::as_simd_f32s(self.values);
        let fails = |vector: S::f32s| simd.less_than_f32s(vector, threshold);
        let any_passes =
            |fails: S::m32s| simd.first_true_m32s(simd.not_m32s(fails)) != S::F32_LANES;
        // Nearly every group holds nothing: four are dismissed at once.
        for (four_idx, four) in vectors.chunks(4).enumerate() {
            let all_fail = four
                .iter()
                .fold(simd.equal_f32s(zero, zero), |all, &vector| {
                    simd.and_m32s(all, fails(vector))
                });
            if !any_passes(all_fail) {
                continue;
            }
            for (group_idx, &vector) in four.iter().enumerate() {
                if !any_passes(fails(vector)) {
                    continue;
                }
                let start = (4 * four_idx + group_idx) * S::F32_LANES;
                let group = &self.values[start..start + S::F32_LANES];
                // Bits first: a branch for each entry would be guessed wrong too often.
                let mut bits = 0_u32;
                for (offset, &value) in group.iter().enumerate() {
                    bits |= u32::from(passes(value)) << offset;
                }
                while bits != 0 {
                    let offset = bits.trailing_zeros() as usize;
                    self.selected.push(((start + offset) as u32, group[offset]));
                    bits &= bits - 1;
                }
            }
        }
        let start = self.values.len() - rest.len();
        for (offset, &value) in rest.iter().enumerate() {
            if passes(value) {
                self.selected.push(((start + offset) as u32, value));
            }
        }
    }
}

fn guess_threshold(values: &[f32], k: usize) -> f32 {
    let stride = values.len() / SAMPLES;
    if stride < 2 {
        return f32::NEG_INFINITY;
    }
    let mut sample: Vec<f32> = values.iter().step_by(stride).copied().collect();
    let rank = 2 * k * sample.len() / values.len() + 4;
    if rank >= sample.len() {
        return f32::NEG_INFINITY;
    }
    let (_, threshold, _) = sample.select_nth_unstable_by(rank, |a, b| b.total_cmp(a));
    *threshold
}

pub(super) fn larger_first(left: &(u32, f32), right: &(u32, f32)) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obviously right twin: sort everything.
    fn by_sorting(values: &[f32], k: usize) -> Vec<(u32, f32)> {
        let mut all: Vec<(u32, f32)> = (0..).zip(values.iter().copied()).collect();
        all.sort_by(larger_first);
        all.truncate(k);
        all.sort_by_key(|(index, _)| *index);
        all
    }

    fn check(values: &[f32], k: usize) {
        let mut selected = vec![(7, 7.0)];
        top_k_into(values, k, &mut selected);
        assert_eq!(selected, by_sorting(values, k));
        for guess in [f32::NAN, f32::INFINITY, 0.0, 1.0, -3.0] {
            top_k_from_guess(values, k, Some(guess), &mut selected);
            assert_eq!(selected, by_sorting(values, k), "guess {guess}");
        }
        let places: Vec<u32> = (0..).take(values.len()).collect();
        assert_eq!(top_k_of(&places, values, k, &mut selected), Some(()));
        assert_eq!(selected, by_sorting(values, k));
        let too_many = values.len() + 1;
        assert_eq!(top_k_of(&places, values, too_many, &mut selected), None);
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        check(&[1.0; 5], 2);
        check(&[0.0; 4099], 64);
    }

    #[test]
    fn none_one_and_all() {
        check(&[3.0, 1.0, 2.0], 0);
        check(&[3.0, 1.0, 2.0], 1);
        check(&[3.0, 1.0, 2.0], 3);
        check(&[], 0);
    }

    #[test]
    fn a_misleading_sample_does_not_change_the_result() {
        // Every sampled entry is huge, everything else small: the guess passes too few.
        let values: Vec<f32> = (0..4096)
            .map(|i| if i % 16 == 0 { 1e6 + i as f32 } else { 0.5 })
            .collect();
        check(&values, 300);
    }

    proptest! {
        #[test]
        fn equals_sorting(
            values in prop::collection::vec(-8i8..8, 1..1500),
            share in 0.0f64..=1.0,
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            check(&values, (share * values.len() as f64) as usize);
        }
    }
}
