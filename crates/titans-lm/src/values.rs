//! Values: what is to be recalled.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Seven digits, as RULER's numbers.
    Number,
    /// A version 4 UUID, as RULER's.
    Uuid,
    /// Four to eight digits.
    Digits,
    /// Letters and digits.
    Code,
    /// Day, month and year in figures.
    Date,
    /// Hours and minutes.
    Time,
    /// A made-up name.
    Name,
}

/// A word of two or three syllables that no dictionary has.
pub fn made_up(rng: &mut ChaCha8Rng) -> String {
    const STARTS: [&str; 20] = [
        "b", "br", "c", "d", "dr", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t",
        "tr", "v", "z",
    ];
    const MIDDLES: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
    const ENDS: [&str; 8] = ["l", "n", "r", "s", "m", "x", "th", "nd"];
    let syllables = rng.random_range(2..=3);
    let mut word = String::new();
    for _ in 0..syllables {
        word.push_str(STARTS.choose(rng).expect("syllables"));
        word.push_str(MIDDLES.choose(rng).expect("syllables"));
    }
    word.push_str(ENDS.choose(rng).expect("syllables"));
    word
}

/// So many digits.
pub(crate) fn digits(count: usize, rng: &mut ChaCha8Rng) -> String {
    (0..count)
        .map(|_| char::from(b'0' + rng.random_range(0..10)))
        .collect()
}

/// A random value.
pub fn value(kind: ValueKind, rng: &mut ChaCha8Rng) -> String {
    match kind {
        ValueKind::Number => rng.random_range(1_000_000..=9_999_999).to_string(),
        ValueKind::Digits => {
            let count = rng.random_range(4..=8);
            digits(count, rng)
        }
        ValueKind::Uuid => {
            let bits: u128 = rng.random();
            let bits = bits & !(0xf << 76) | (4 << 76);
            let bits = bits & !(0x3 << 62) | (2 << 62);
            let hex = format!("{bits:032x}");
            let parts = [
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..],
            ];
            parts.join("-")
        }
        ValueKind::Code => {
            let letters = rng.random_range(1..=3);
            let count = rng.random_range(2..=4);
            let mut code: String = (0..letters)
                .map(|_| char::from(b'A' + rng.random_range(0..26)))
                .collect();
            if rng.random_range(0..2) == 0 {
                code.push('-');
            }
            code + &digits(count, rng)
        }
        ValueKind::Date => format!(
            "{:02}-{:02}-{}",
            rng.random_range(1..=28),
            rng.random_range(1..=12),
            rng.random_range(1700..2100)
        ),
        ValueKind::Time => {
            format!(
                "{:02}:{:02}",
                rng.random_range(0..24),
                rng.random_range(0..60)
            )
        }
        ValueKind::Name => made_up(rng),
    }
}
