//! A run of floats as a block of bytes, in the shortest of three forms that lose nothing.
//!
//! - *single*: the four byte planes of the floats.
//! - *half*: when every value is a 16-bit float times one power of two, the two planes of
//!   those. Rounded momenta and compact files are, see [`Precision`](super::Precision).
//! - *split*: the 16-bit float nearest each value, and how many steps of the 32-bit float lie
//!   between. For normal 16-bit floats that is at most 4096 steps, so 16 bits hold it; the
//!   few values for which they do not are listed behind. It is a little shorter than
//!   *single*, several times faster to pack, and its first half alone is a usable memory.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::planes;
use crate::format::layout::{ELEM_F16, ELEM_F32, ELEM_SPLIT};

/// How the values of a block are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Single,
    Half,
    Split,
}

/// One listed value costs eight bytes and the block may hold an eighth of its values so.
const VALUES_PER_ESCAPE: usize = 8;

impl Element {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Single => ELEM_F32,
            Self::Half => ELEM_F16,
            Self::Split => ELEM_SPLIT,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            ELEM_F32 => Some(Self::Single),
            ELEM_F16 => Some(Self::Half),
            ELEM_SPLIT => Some(Self::Split),
            _ => None,
        }
    }

    /// The most bytes that `count` values take.
    pub(super) fn most_bytes(self, count: u64) -> u64 {
        match self {
            Self::Single => count.saturating_mul(4),
            Self::Half => count.saturating_mul(2).saturating_add(2),
            Self::Split => count.saturating_mul(5).saturating_add(4),
        }
    }
}

/// Appends `values` in their shortest form and says which it is.
pub(super) fn append(values: &[f32], raw: &mut Vec<u8>) -> Element {
    if let Some((exponent, halves)) = exact_halves(values) {
        raw.extend(exponent.to_le_bytes());
        planes::append16(halves.iter().map(|half| half.to_bits()), raw);
        return Element::Half;
    }
    let start = raw.len();
    if append_split(values, raw) {
        return Element::Split;
    }
    raw.truncate(start);
    planes::append32(values.iter().map(|value| value.to_bits()), raw);
    Element::Single
}

/// The `count` values of a block, or which rule it breaks.
pub(super) fn parse(element: Element, raw: &[u8], count: usize) -> Result<Vec<f32>, &'static str> {
    let values = match element {
        Element::Single => planes::join32(raw)
            .ok_or("the values are not whole")?
            .map(f32::from_bits)
            .collect(),
        Element::Half => parse_half(raw)?,
        Element::Split => parse_split(raw, count)?,
    };
    match values.len().cmp(&count) {
        std::cmp::Ordering::Less => Err("there are fewer values than coordinates"),
        std::cmp::Ordering::Equal => Ok(values),
        std::cmp::Ordering::Greater => Err("there are more values than coordinates"),
    }
}

/// `values` rounded to 16-bit floats times a power of two chosen so that the largest fits
/// well. Rounding twice changes nothing more.
pub(super) fn round_scaled(values: &[f32]) -> Vec<f32> {
    let exponent = scale_exponent(values);
    from_halves(&to_halves(values, exponent), exponent)
}

/// `values` rounded to 16-bit floats; `Err` with the position of the first too large for one.
pub(super) fn round_plain(values: &[f32]) -> Result<Vec<f32>, usize> {
    let rounded = from_halves(&to_halves(values, 0), 0);
    match rounded.iter().position(|value| !value.is_finite()) {
        None => Ok(rounded),
        Some(index) => Err(index),
    }
}

/// The exponent of the scale, and the halves, when they give back every bit.
fn exact_halves(values: &[f32]) -> Option<(i16, Vec<f16>)> {
    let exact = |exponent: i16| {
        // Most tensors fail at their first value; do not convert a million to see that.
        let few = values.get(..values.len().min(16)).unwrap_or_default();
        let same = |values: &[f32]| {
            let halves = to_halves(values, exponent);
            let back = from_halves(&halves, exponent);
            let bits = values.iter().zip(&back);
            let same = bits.fold(true, |all, (a, b)| all & (a.to_bits() == b.to_bits()));
            same.then_some(halves)
        };
        same(few)?;
        same(values).map(|halves| (exponent, halves))
    };
    exact(0).or_else(|| exact(scale_exponent(values)))
}

/// The power of two that brings the largest value, once rounded, to between 2^14 and 2^15.
fn scale_exponent(values: &[f32]) -> i16 {
    // Without their sign, floats order as their bits do, and whole numbers compare faster.
    let bits = values.iter().map(|value| value.to_bits() & 0x7fff_ffff);
    let largest = bits.fold(0, u32::max);
    // Adding half of the bits that go away rounds as the conversion will, so that a value
    // that rounds up to the next power of two gets the exponent it will have the next time.
    let rounded = largest.saturating_add(0x1000) >> 23;
    let exponent = rounded as i16 - 127;
    match largest {
        0 => 0,
        _ => (exponent - 14).clamp(-112, 113),
    }
}

fn power_of_two(exponent: i16) -> f32 {
    f32::from_bits((i32::from(exponent).saturating_add(127).clamp(1, 254) as u32) << 23)
}

fn to_halves(values: &[f32], exponent: i16) -> Vec<f16> {
    let mut halves = vec![f16::ZERO; values.len()];
    if exponent == 0 {
        halves.convert_from_f32_slice(values);
    } else {
        let scale = power_of_two(-exponent);
        let scaled: Vec<f32> = values.iter().map(|value| value * scale).collect();
        halves.convert_from_f32_slice(&scaled);
    }
    halves
}

fn from_halves(halves: &[f16], exponent: i16) -> Vec<f32> {
    let mut values = vec![0.0; halves.len()];
    halves.convert_to_f32_slice(&mut values);
    if exponent != 0 {
        let scale = power_of_two(exponent);
        values.iter_mut().for_each(|value| *value *= scale);
    }
    values
}

fn parse_half(raw: &[u8]) -> Result<Vec<f32>, &'static str> {
    let (exponent, planes) = raw.split_first_chunk::<2>().ok_or("the scale is missing")?;
    let exponent = i16::from_le_bytes(*exponent);
    if !(-126..=126).contains(&exponent) {
        return Err("the scale is out of range");
    }
    let halves: Vec<f16> = planes::join16(planes)
        .ok_or("the values are not whole")?
        .map(f16::from_bits)
        .collect();
    Ok(from_halves(&halves, exponent))
}

/// Appends the split form unless too many values need listing.
fn append_split(values: &[f32], raw: &mut Vec<u8>) -> bool {
    let halves = to_halves(values, 0);
    let near = from_halves(&halves, 0);
    let apart = |value: f32, near: f32| value.to_bits().wrapping_sub(near.to_bits()) as i32;
    let fits = |value: f32, near: f32| {
        let apart = apart(value, near);
        (apart as i16 as i32 == apart) & near.is_finite()
    };
    let pairs = || values.iter().zip(&near);
    // One pass without a branch: trained weights rarely need the list.
    let mut steps: Vec<u16> = pairs()
        .map(|(value, near)| apart(*value, *near) as u16)
        .collect();
    let all_fit = pairs().fold(true, |all, (value, near)| all & fits(*value, *near));
    let mut kept = halves;
    let mut listed = Vec::new();
    if !all_fit {
        let slots = kept.iter_mut().zip(&mut steps).enumerate();
        for ((value, near), (at, (half, step))) in pairs().zip(slots) {
            if !fits(*value, *near) {
                (*half, *step) = (f16::ZERO, 0);
                listed.push((at as u32, value.to_bits()));
            }
        }
    }
    if listed.len() > values.len() / VALUES_PER_ESCAPE {
        return false;
    }
    planes::append16(kept.iter().map(|half| half.to_bits()), raw);
    planes::append16(steps.iter().copied(), raw);
    raw.extend((listed.len() as u32).to_le_bytes());
    raw.extend(listed.iter().flat_map(|(at, _)| at.to_le_bytes()));
    raw.extend(listed.iter().flat_map(|(_, bits)| bits.to_le_bytes()));
    true
}

fn parse_split(raw: &[u8], count: usize) -> Result<Vec<f32>, &'static str> {
    let short = "there are fewer values than coordinates";
    let planes = count.checked_mul(2).ok_or(short)?;
    let (halves, rest) = raw.split_at_checked(planes).ok_or(short)?;
    let (steps, rest) = rest.split_at_checked(planes).ok_or(short)?;
    let (listed, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let listed = usize::try_from(u32::from_le_bytes(*listed)).unwrap_or(usize::MAX);
    if listed > count / VALUES_PER_ESCAPE {
        return Err("too many values are listed");
    }
    let (positions, bits) = rest
        .split_at_checked(listed.saturating_mul(4))
        .ok_or("the list of values is cut off")?;
    if positions.len() != bits.len() {
        return Err("the list of values does not end where the block does");
    }
    let halves: Vec<f16> = planes::join16(halves)
        .ok_or(short)?
        .map(f16::from_bits)
        .collect();
    let mut values = from_halves(&halves, 0);
    let steps = planes::join16(steps).ok_or(short)?;
    for (value, step) in values.iter_mut().zip(steps) {
        let step = i32::from(step as i16);
        *value = f32::from_bits((value.to_bits() as i32).wrapping_add(step) as u32);
    }
    let word = |bytes: &[u8]| {
        bytes
            .first_chunk::<4>()
            .map_or(0, |word| u32::from_le_bytes(*word))
    };
    let mut next = 0;
    for (position, bits) in positions.chunks_exact(4).zip(bits.chunks_exact(4)) {
        let at = usize::try_from(word(position)).unwrap_or(usize::MAX);
        let slot = values.get_mut(at).filter(|_| at >= next);
        let slot = slot.ok_or("a listed position is out of order or range")?;
        if slot.to_bits() != 0 {
            return Err("a listed position also holds a value");
        }
        *slot = f32::from_bits(word(bits));
        next = at.saturating_add(1);
    }
    Ok(values)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn there_and_back(values: &[f32]) -> Element {
        let mut raw = Vec::new();
        let element = append(values, &mut raw);
        assert!(raw.len() as u64 <= element.most_bytes(values.len() as u64));
        let back = parse(element, &raw, values.len()).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values), "{element:?}");
        element
    }

    #[test]
    fn every_form_gives_back_every_bit_and_is_chosen_where_it_is_short() {
        assert_eq!(there_and_back(&[]), Element::Half);
        assert_eq!(
            there_and_back(&[0.25, -0.0, 65504.0, 6e-8_f32 * 0.0]),
            Element::Half
        );
        let momenta: Vec<f32> = (0..2048).map(|n| n as f32 * 2.0_f32.powi(-60)).collect();
        assert_eq!(there_and_back(&momenta), Element::Half);
        let weights: Vec<f32> = (0..1000).map(|n| 0.03 + 1e-5 * n as f32).collect();
        assert_eq!(there_and_back(&weights), Element::Split);
        let mut outliers = weights.clone();
        outliers[3] = f32::MAX;
        outliers[17] = f32::from_bits(1);
        outliers[999] = -1e-9;
        assert_eq!(there_and_back(&outliers), Element::Split);
        let wild: Vec<f32> = (1..100).map(|n| 1e30 * n as f32).collect();
        assert_eq!(there_and_back(&wild), Element::Single);
    }

    #[test]
    fn rounding_twice_is_rounding_once() {
        for scale in [1e-30_f32, 1e-9, 1.0, 3.3e37] {
            let values: Vec<f32> = (0..999).map(|n| scale * (n as f32 * 0.7).sin()).collect();
            let once = round_scaled(&values);
            assert_eq!(round_scaled(&once), once);
            let worst = values
                .iter()
                .zip(&once)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst <= scale / 1024.0, "{worst} at {scale}");
            assert_eq!(there_and_back(&once), Element::Half);
        }
        // 2047.9 of 2048 rounds up to the next power of two.
        let edge = [2047.9 / 2048.0, 3e-5];
        assert_eq!(round_scaled(&round_scaled(&edge)), round_scaled(&edge));
        assert_eq!(round_plain(&[1.0, 65520.0]), Err(1));
        assert_eq!(round_plain(&[0.1]), Ok(vec![0.099_975_586]));
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let refused = |element, raw: &[u8], count| parse(element, raw, count).unwrap_err();
        assert!(refused(Element::Single, &[0; 7], 2).contains("not whole"));
        assert!(refused(Element::Single, &[0; 8], 3).contains("fewer"));
        assert!(refused(Element::Half, &[0], 0).contains("scale"));
        assert!(refused(Element::Half, &[0xff, 0x7f], 0).contains("out of range"));
        assert!(refused(Element::Half, &[0; 6], 1).contains("more values"));
        assert!(refused(Element::Half, &[0; 5], 1).contains("not whole"));

        let mut weights: Vec<f32> = (0..16).map(|n| 0.031 + 1e-5 * n as f32).collect();
        weights[4] = 1e30;
        weights[9] = 1e31;
        let mut good = Vec::new();
        assert_eq!(append(&weights, &mut good), Element::Split);
        let list = 16 * 4 + 4;
        let change = |at: usize, to: u8| {
            let mut bad = good.clone();
            bad[at] = to;
            bad
        };
        assert!(refused(Element::Split, &change(list - 4, 3), 16).contains("too many"));
        assert!(refused(Element::Split, &change(list, 9), 16).contains("order or range"));
        assert!(refused(Element::Split, &change(list + 4, 16), 16).contains("order or range"));
        assert!(refused(Element::Split, &change(list + 4, 10), 16).contains("also holds"));
        assert!(refused(Element::Split, &good[..good.len() - 1], 16).contains("does not end"));
        assert!(refused(Element::Split, &good[..list + 2], 16).contains("cut off"));
        assert!(refused(Element::Split, &good[..30], 16).contains("fewer"));
    }
}
