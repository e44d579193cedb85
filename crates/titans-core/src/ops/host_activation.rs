//! The active channels of keys, in host memory: those with the largest activations, and their
//! features.

use rayon::prelude::*;
use titans_cpu::{Found, Screen};

use super::Expansion;
use super::relative_error::norm;
use super::top_k::{top_k_from_guess, top_k_of};

/// Tokens whose activations exist at once in one thread: at 8192 channels 0.8 MB, which
/// stays in the second-level cache until the largest are selected.
const BLOCK: usize = 24;

/// Tokens that are screened together: only what is found is kept of them, and the rounded
/// expansion, 1 MiB, is read once.
const SCREENED: usize = 96;

/// The k-th largest of many random activations hardly varies for keys of one length: a
/// threshold this much lower is passed by half as many again. A wrong guess costs time only.
const GUESS_SHARE: f32 = 0.93;

/// The active channels of some tokens, and the features there.
pub(super) type Active = (Vec<i32>, Vec<f32>);

/// Indices and features of the active channels of each key.
pub(super) fn active_channels(keys: &[f32], expansion: &Expansion, active: usize) -> Active {
    let [key_dim, _] = expansion.tensor().dims();
    let tokens = keys.len() / key_dim;
    let block = match expansion.screen() {
        Some(_) => SCREENED,
        None => BLOCK,
    };
    let blocks: Vec<Active> = if tokens <= block {
        vec![activate_block(
            keys,
            expansion,
            active,
            &mut Scratch::default(),
        )]
    } else {
        keys.par_chunks(block * key_dim)
            .map_init(Scratch::default, |scratch, block| {
                activate_block(block, expansion, active, scratch)
            })
            .collect()
    };
    let mut indices = Vec::with_capacity(tokens * active);
    let mut features = Vec::with_capacity(tokens * active);
    for (block_indices, block_features) in blocks {
        indices.extend(block_indices);
        features.extend(block_features);
    }
    (indices, features)
}

/// What a thread keeps from one block of keys to the next.
#[derive(Default)]
struct Scratch {
    activations: Vec<f32>,
    selected: Vec<(u32, f32)>,
    thresholds: Vec<f32>,
    errors: Vec<f32>,
    found: Found,
    exact: Vec<f32>,
}

/// Indices and features of the active channels of a block of keys.
fn activate_block(
    keys: &[f32],
    expansion: &Expansion,
    active: usize,
    scratch: &mut Scratch,
) -> Active {
    match expansion.screen() {
        Some(screen) => activate_by_screen(screen, keys, expansion, active, scratch),
        None => activate_all(keys, expansion, active, scratch),
    }
}

/// From the activations of all channels.
fn activate_all(
    keys: &[f32],
    expansion: &Expansion,
    active: usize,
    scratch: &mut Scratch,
) -> Active {
    let [key_dim, channels] = expansion.tensor().dims();
    let width = expansion.padded_channels();
    let tokens = keys.len() / key_dim;
    scratch.activations.resize(tokens * width, 0.0);
    expansion.activations_into(keys, &mut scratch.activations);

    let mut of_block = (
        Vec::with_capacity(tokens * active),
        Vec::with_capacity(tokens * active),
    );
    // The smallest selected activation of the token before, per length of its key.
    let mut smallest: Option<f32> = None;
    let rows = scratch.activations.chunks_exact(width);
    for (row, key) in rows.zip(keys.chunks_exact(key_dim)) {
        let length = norm(key);
        let guess = smallest.map(|smallest| GUESS_SHARE * smallest * length);
        top_k_from_guess(&row[..channels], active, guess, &mut scratch.selected);
        smallest = Some(least_of(&scratch.selected) / length).filter(|s| s.is_finite() && *s > 0.0);
        push_features(&scratch.selected, &mut of_block);
    }
    of_block
}

/// The same, bit for bit, with most activations computed in bf16 only: those that reach a
/// threshold there are computed again as above. No other channel can be active if even the least
/// of the active ones is further above the threshold than a rounded activation can be from the
/// right one. Where that does not hold, all activations of the token are computed.
fn activate_by_screen(
    screen: &Screen,
    keys: &[f32],
    expansion: &Expansion,
    active: usize,
    scratch: &mut Scratch,
) -> Active {
    let [key_dim, channels] = expansion.tensor().dims();
    let mut of_block = (Vec::new(), Vec::new());
    if active == 0 {
        return of_block;
    }
    let all = |key: &[f32], scratch: &mut Scratch| {
        scratch.activations.resize(expansion.padded_channels(), 0.0);
        expansion.activations_into(key, &mut scratch.activations);
        let row = &scratch.activations[..channels];
        top_k_from_guess(row, active, None, &mut scratch.selected);
    };
    let smallest = expansion.smallest().unwrap_or_else(|| {
        let key = &keys[..key_dim];
        all(key, scratch);
        least_of(&scratch.selected) / norm(key)
    });
    scratch.thresholds.clear();
    scratch.errors.clear();
    for key in keys.chunks_exact(key_dim) {
        // Without a bound nothing is found, and without a guess neither.
        let error = screen.error(key).unwrap_or(f32::INFINITY);
        let threshold = GUESS_SHARE * smallest * norm(key) - error;
        let is_guess = smallest > 0.0 && threshold.is_finite();
        scratch.errors.push(error);
        scratch
            .thresholds
            .push(if is_guess { threshold } else { f32::INFINITY });
    }
    let mut found = std::mem::take(&mut scratch.found);
    screen.find(keys, &scratch.thresholds, &mut found);
    for (token, key) in keys.chunks_exact(key_dim).enumerate() {
        let enough = scratch.thresholds[token] + scratch.errors[token];
        let selected = found.of(token).and_then(|columns| {
            screen.exact(key, columns, &mut scratch.exact);
            top_k_of(columns, &scratch.exact, active, &mut scratch.selected)
        });
        let least = least_of(&scratch.selected);
        if selected.is_none() || !(least >= enough && least.is_finite()) {
            all(key, scratch);
        }
        expansion.note_smallest(least_of(&scratch.selected) / norm(key));
        push_features(&scratch.selected, &mut of_block);
    }
    scratch.found = found;
    of_block
}

fn least_of(selected: &[(u32, f32)]) -> f32 {
    let activations = selected.iter().map(|(_, activation)| *activation);
    activations.fold(f32::INFINITY, f32::min)
}

/// Rectified and scaled to unit energy.
fn push_features(selected: &[(u32, f32)], (indices, features): &mut Active) {
    let energy: f32 = selected.iter().map(|(_, a)| a.max(0.0).powi(2)).sum();
    let scale = if energy > 0.0 {
        energy.sqrt().recip()
    } else {
        0.0
    };
    for &(channel, activation) in selected {
        indices.push(channel as i32);
        features.push(activation.max(0.0) * scale);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;

    fn waves(count: usize, salt: usize) -> Vec<f32> {
        let wave = |at: usize| ((at * 37 + salt * 11) as f32 * 0.61).sin();
        (0..count).map(wave).collect()
    }

    /// Both ways to the active channels, bit for bit, whatever was guessed.
    fn check(keys: &[f32], weights: &[f32], channels: usize, active: usize) {
        let key_dim = weights.len() / channels;
        let weights = TensorData::new(weights.to_vec(), [key_dim, channels]);
        let expansion = Expansion::new(Tensor::from_data(weights, &Device::flex()));
        let Some(screen) = expansion.screen() else {
            println!("skipped: nothing is screened on this machine");
            return;
        };
        let bits = |(indices, features): Active| -> (Vec<i32>, Vec<u32>) {
            (indices, features.into_iter().map(f32::to_bits).collect())
        };
        let scratch = &mut Scratch::default();
        let expected = bits(activate_all(keys, &expansion, active, scratch));
        for guess in [None, None, Some(1e6), Some(1e-6)] {
            if let Some(guess) = guess {
                expansion.note_smallest(guess);
            }
            let found = bits(activate_by_screen(
                screen, keys, &expansion, active, scratch,
            ));
            let tokens = keys.len() / key_dim;
            assert!(
                found == expected,
                "{tokens} keys of {key_dim}, {active} of {channels}, guess {guess:?}"
            );
        }
    }

    #[test]
    fn screened_channels_are_those_of_all_activations() {
        for [tokens, key_dim, channels, active] in [
            [1, 1, 1, 1],
            [13, 7, 33, 5],
            [97, 64, 1031, 64],
            [3, 64, 8192, 64],
            [40, 31, 2048, 17],
            [5, 100, 600, 600],
            [2, 9, 50, 0],
        ] {
            let keys = waves(tokens * key_dim, 1);
            check(&keys, &waves(key_dim * channels, 2), channels, active);
        }
    }

    #[test]
    fn ties_go_the_same_way() {
        // Small whole numbers: exact in every type, and equal sums everywhere.
        let whole = |count, salt| -> Vec<f32> {
            let numbers = waves(count, salt).into_iter();
            numbers.map(|x| (2.0 * x).round()).collect()
        };
        for (key_dim, channels) in [(3, 500), (16, 1000), (64, 8192)] {
            check(
                &whole(20 * key_dim, 3),
                &whole(key_dim * channels, 4),
                channels,
                64,
            );
        }
        check(&[1.0; 20], &[0.5; 10 * 700], 700, 64);
    }

    #[test]
    fn keys_of_any_size_and_none_go_the_same_way() {
        let weights = waves(64 * 1000, 5);
        for scale in [0.0, 1e-30, 1e-16, 1e-3, 1e14, 1e30, f32::INFINITY, f32::NAN] {
            let mut keys = waves(9 * 64, 6);
            for number in &mut keys[2 * 64..5 * 64] {
                *number *= scale;
            }
            check(&keys, &weights, 1000, 64);
        }
        for scale in [0.0, 1e-30, 1e30] {
            let weights: Vec<f32> = weights.iter().map(|weight| weight * scale).collect();
            check(&waves(9 * 64, 7), &weights, 1000, 64);
        }
    }
}
