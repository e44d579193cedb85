//! Which coordinates of a tensor a section holds, in forms that cannot say one twice.
//!
//! Both forms make duplicate and unordered coordinates impossible to write down.

/// The coordinates of `values` that are set. A value is zero when all its bits are, so
/// `-0.0` counts as set and comes back as it was.
pub(super) fn set_coordinates(values: &[f32]) -> Vec<u32> {
    let set = values.iter().enumerate();
    set.filter(|(_, value)| value.to_bits() != 0)
        .map(|(at, _)| at as u32)
        .collect()
}

/// How coordinates are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One bit per coordinate, lowest bit first.
    Bitmap,
    /// The number of coordinates, then one varint each: how many lie between it and the one
    /// before.
    Gaps,
}

/// The forms worth trying for `set` of `count` coordinates. A gap costs a byte or so, a bit
/// an eighth of one, and either compresses by what is predictable in it.
pub(super) fn forms(set: usize, count: usize) -> &'static [Form] {
    if set <= count / 16 {
        &[Form::Gaps]
    } else if set <= count / 2 {
        &[Form::Gaps, Form::Bitmap]
    } else {
        &[Form::Bitmap]
    }
}

/// Appends `coordinates`, ascending and below `count`, in `form`.
pub(super) fn append(form: Form, coordinates: &[u32], count: usize, raw: &mut Vec<u8>) {
    match form {
        Form::Bitmap => {
            let start = raw.len();
            raw.resize(start + count.div_ceil(8), 0);
            for &at in coordinates {
                let at = at as usize;
                raw[start + at / 8] |= 1 << (at % 8);
            }
        }
        Form::Gaps => {
            raw.extend((coordinates.len() as u64).to_le_bytes());
            let mut next = 0;
            for &at in coordinates {
                append_varint(u64::from(at - next), raw);
                next = at + 1;
            }
        }
    }
}

/// Coordinates below `count`, and the bytes behind them; or which rule they break.
pub(super) fn parse(
    form: Form,
    raw: &[u8],
    count: usize,
) -> Result<(Vec<u32>, &[u8]), &'static str> {
    match form {
        Form::Bitmap => parse_bitmap(raw, count),
        Form::Gaps => parse_gaps(raw, count),
    }
}

fn parse_bitmap(raw: &[u8], count: usize) -> Result<(Vec<u32>, &[u8]), &'static str> {
    let (bitmap, rest) = raw
        .split_at_checked(count.div_ceil(8))
        .ok_or("the bitmap is shorter than the tensor")?;
    let mut coordinates = Vec::new();
    for (byte_at, &byte) in bitmap.iter().enumerate() {
        let mut bits = byte;
        while bits != 0 {
            let at = byte_at
                .saturating_mul(8)
                .saturating_add(bits.trailing_zeros() as usize);
            if at >= count {
                return Err("a bit past the last coordinate is set");
            }
            coordinates.push(u32::try_from(at).map_err(|_| "the tensor is too large")?);
            bits &= bits.wrapping_sub(1);
        }
    }
    Ok((coordinates, rest))
}

fn parse_gaps(raw: &[u8], count: usize) -> Result<(Vec<u32>, &[u8]), &'static str> {
    let (len, mut rest) = raw.split_first_chunk::<8>().ok_or("the count is missing")?;
    let set = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| "the count is too large")?;
    if set > count {
        return Err("more coordinates are counted than the tensor has");
    }
    // A coordinate takes at least a byte, so the allocation is bounded by the bytes there are.
    let mut coordinates = Vec::with_capacity(set.min(rest.len()));
    let mut next = 0_u64;
    for _ in 0..set {
        let (gap, tail) = parse_varint(rest)?;
        rest = tail;
        let at = next.checked_add(gap).filter(|&at| at < count as u64);
        let at = at.and_then(|at| u32::try_from(at).ok());
        let at = at.ok_or("a coordinate lies past the end of the tensor")?;
        coordinates.push(at);
        next = u64::from(at).saturating_add(1);
    }
    Ok((coordinates, rest))
}

/// Seven bits a byte, lowest first; the high bit says that more follow.
fn append_varint(mut number: u64, raw: &mut Vec<u8>) {
    while number >= 0x80 {
        raw.push(number as u8 | 0x80);
        number >>= 7;
    }
    raw.push(number as u8);
}

/// A varint and what follows it. Overlong forms are refused: one number, one spelling.
fn parse_varint(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let mut number = 0_u64;
    let mut rest = bytes;
    for shift in (0..63).step_by(7) {
        let (&byte, tail) = rest
            .split_first()
            .ok_or("there are fewer coordinates than counted")?;
        rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err("a coordinate is spelled longer than needed");
            }
            return Ok((number, rest));
        }
    }
    Err("a coordinate overflows")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gaps(count: u64, varints: &[u8]) -> Vec<u8> {
        let mut raw = count.to_le_bytes().to_vec();
        raw.extend(varints);
        raw
    }

    fn refused(form: Form, raw: &[u8], count: usize) -> &'static str {
        parse(form, raw, count).expect_err("malformed coordinates are refused")
    }

    #[test]
    fn both_forms_give_back_any_set() {
        for coordinates in [vec![], vec![0], vec![0, 7, 8, 299], (0..300).collect()] {
            for form in [Form::Bitmap, Form::Gaps] {
                let mut raw = Vec::new();
                append(form, &coordinates, 300, &mut raw);
                raw.push(42);
                let (back, rest) = parse(form, &raw, 300).unwrap();
                assert_eq!((back, rest), (coordinates.clone(), [42].as_slice()));
            }
        }
        assert_eq!(set_coordinates(&[0.0, -0.0, 1e-45]), [1, 2]);
    }

    #[test]
    fn gaps_refuse_every_malformed_coordinate() {
        assert_eq!(parse(Form::Gaps, &gaps(2, &[3, 0]), 5).unwrap().0, [3, 4]);
        assert!(refused(Form::Gaps, &gaps(2, &[3, 1]), 5).contains("past the end"));
        assert!(refused(Form::Gaps, &gaps(1, &[0x83, 0x00]), 5).contains("longer than needed"));
        assert!(refused(Form::Gaps, &gaps(1, &[0xff; 10]), 5).contains("overflows"));
        assert!(refused(Form::Gaps, &gaps(2, &[3]), 5).contains("fewer coordinates"));
        assert!(refused(Form::Gaps, &gaps(6, &[0; 6]), 5).contains("more coordinates"));
        assert!(refused(Form::Gaps, &gaps(u64::MAX, &[3]), 5).contains("more coordinates"));
        assert!(refused(Form::Gaps, &[0; 7], 5).contains("missing"));
    }

    #[test]
    fn bitmaps_refuse_bits_past_the_end() {
        assert_eq!(parse(Form::Bitmap, &[0b101], 3).unwrap().0, [0, 2]);
        assert!(refused(Form::Bitmap, &[0b101], 2).contains("past the last"));
        assert!(refused(Form::Bitmap, &[1], 9).contains("shorter"));
    }
}
