//! Tensors that are mostly zero: the coordinates that are not, and their values.
//!
//! Both forms make duplicate and unordered coordinates impossible to write down. A value is
//! zero when all its bits are, so `-0.0` counts as set and comes back as it was.

use super::planes;

/// Where an encoder stops trying gaps: each costs a byte or so, a bitmap an eighth of one.
const MOST_GAPS: usize = 2;

/// The forms worth trying on `values` beside the dense one.
pub(super) fn candidates(values: &[f32]) -> Vec<Form> {
    let set = values.iter().filter(|value| value.to_bits() != 0).count();
    let mut forms = Vec::new();
    if set < values.len() {
        forms.push(Form::Bitmap);
        if set <= values.len() / MOST_GAPS {
            forms.push(Form::Gaps);
        }
    }
    forms
}

/// How the set coordinates are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One bit per coordinate, lowest bit first; then the planes of the set values.
    Bitmap,
    /// The number of set values, their planes, then one varint per value: how many zeros
    /// lie between it and the one before.
    Gaps,
}

/// The raw bytes of `values` in `form`.
pub(super) fn append(form: Form, values: &[f32], raw: &mut Vec<u8>) {
    let set: Vec<(usize, u32)> = values
        .iter()
        .enumerate()
        .map(|(at, value)| (at, value.to_bits()))
        .filter(|&(_, bits)| bits != 0)
        .collect();
    let bits = set.iter().map(|&(_, bits)| bits);
    match form {
        Form::Bitmap => {
            raw.extend(values.chunks(8).map(|eight| {
                let bit = |(at, value): (usize, &f32)| u8::from(value.to_bits() != 0) << at;
                eight
                    .iter()
                    .enumerate()
                    .map(bit)
                    .fold(0, |byte, bit| byte | bit)
            }));
            planes::append(bits, raw);
        }
        Form::Gaps => {
            raw.extend((set.len() as u64).to_le_bytes());
            planes::append(bits, raw);
            let mut next = 0;
            for (at, _) in set {
                append_varint((at - next) as u64, raw);
                next = at + 1;
            }
        }
    }
}

/// The `count` values whose raw bytes are `raw`, or which rule they break.
pub(super) fn parse(form: Form, raw: &[u8], count: usize) -> Result<Vec<f32>, &'static str> {
    match form {
        Form::Bitmap => parse_bitmap(raw, count),
        Form::Gaps => parse_gaps(raw, count),
    }
}

fn parse_bitmap(raw: &[u8], count: usize) -> Result<Vec<f32>, &'static str> {
    let (bitmap, planes) = raw
        .split_at_checked(count.div_ceil(8))
        .ok_or("the bitmap is shorter than the tensor")?;
    let mut set = planes::join(planes).ok_or("the values are not whole")?;
    let bits = bitmap
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let mut values = Vec::with_capacity(count);
    for (at, is_set) in bits.enumerate() {
        if at >= count {
            if is_set {
                return Err("a bit past the last coordinate is set");
            }
        } else if is_set {
            values.push(set_value(set.next())?);
        } else {
            values.push(0.0);
        }
    }
    if set.next().is_some() {
        return Err("there are more values than coordinates");
    }
    Ok(values)
}

fn parse_gaps(raw: &[u8], count: usize) -> Result<Vec<f32>, &'static str> {
    let (len, rest) = raw.split_first_chunk::<8>().ok_or("the count is missing")?;
    let set = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| "the count is too large")?;
    if set > count {
        return Err("there are more values than coordinates");
    }
    let (planes, mut gaps) = set
        .checked_mul(4)
        .and_then(|len| rest.split_at_checked(len))
        .ok_or("there are fewer values than counted")?;
    let mut values = vec![0.0; count];
    let mut free = values.as_mut_slice();
    for value in planes::join(planes).ok_or("the values are not whole")? {
        let (gap, rest) = parse_varint(gaps)?;
        gaps = rest;
        // Cutting off the front keeps coordinates increasing: what lies behind is out of reach.
        let slot = usize::try_from(gap)
            .ok()
            .and_then(|gap| free.split_at_mut_checked(gap))
            .and_then(|(_, rest)| rest.split_first_mut());
        let Some((slot, rest)) = slot else {
            return Err("a coordinate lies past the end of the tensor");
        };
        *slot = set_value(Some(value))?;
        free = rest;
    }
    if !gaps.is_empty() {
        return Err("there are more coordinates than values");
    }
    Ok(values)
}

fn set_value(value: Option<f32>) -> Result<f32, &'static str> {
    let value = value.ok_or("there are fewer values than coordinates")?;
    if value.to_bits() == 0 {
        return Err("a coordinate that is set holds zero");
    }
    Ok(value)
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
            .ok_or("there are fewer coordinates than values")?;
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

    fn gaps(count: u64, values: &[f32], varints: &[u8]) -> Vec<u8> {
        let mut raw = count.to_le_bytes().to_vec();
        planes::append(values.iter().map(|value| value.to_bits()), &mut raw);
        raw.extend(varints);
        raw
    }

    fn refused(form: Form, raw: &[u8], count: usize) -> &'static str {
        parse(form, raw, count).expect_err("malformed coordinates are refused")
    }

    #[test]
    fn both_forms_keep_negative_zero_and_subnormals() {
        let mut values = vec![0.0_f32; 300];
        values[0] = -0.0;
        values[7] = f32::from_bits(1);
        values[299] = f32::MAX;
        for form in [Form::Bitmap, Form::Gaps] {
            let mut raw = Vec::new();
            append(form, &values, &mut raw);
            let back = parse(form, &raw, values.len()).unwrap();
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(&values));
        }
    }

    #[test]
    fn gaps_refuse_every_malformed_coordinate() {
        let good = gaps(2, &[1.0, 2.0], &[3, 0]);
        assert_eq!(
            parse(Form::Gaps, &good, 5).unwrap(),
            [0.0, 0.0, 0.0, 1.0, 2.0]
        );

        let past_end = gaps(2, &[1.0, 2.0], &[3, 1]);
        assert!(refused(Form::Gaps, &past_end, 5).contains("past the end"));
        let overlong = gaps(1, &[1.0], &[0x83, 0x00]);
        assert!(refused(Form::Gaps, &overlong, 5).contains("longer than needed"));
        let overflow = gaps(1, &[1.0], &[0xff; 10]);
        assert!(refused(Form::Gaps, &overflow, 5).contains("overflows"));
        let missing = gaps(2, &[1.0, 2.0], &[3]);
        assert!(refused(Form::Gaps, &missing, 5).contains("fewer coordinates"));
        let surplus = gaps(1, &[1.0], &[3, 0]);
        assert!(refused(Form::Gaps, &surplus, 5).contains("more coordinates"));
        let count = gaps(u64::MAX, &[1.0], &[3]);
        assert!(refused(Form::Gaps, &count, 5).contains("more values"));
        let too_few = gaps(3, &[1.0], &[3]);
        assert!(refused(Form::Gaps, &too_few, 5).contains("fewer values"));
        let zero = gaps(1, &[0.0], &[3]);
        assert!(refused(Form::Gaps, &zero, 5).contains("holds zero"));
        assert!(refused(Form::Gaps, &[0; 7], 5).contains("missing"));
    }

    #[test]
    fn bitmap_refuses_every_malformed_coordinate() {
        let bitmap = |bits: u8, values: &[f32]| {
            let mut raw = vec![bits];
            planes::append(values.iter().map(|value| value.to_bits()), &mut raw);
            raw
        };
        let good = bitmap(0b101, &[1.0, 2.0]);
        assert_eq!(parse(Form::Bitmap, &good, 3).unwrap(), [1.0, 0.0, 2.0]);
        assert!(refused(Form::Bitmap, &good, 2).contains("past the last"));
        assert!(refused(Form::Bitmap, &bitmap(0b1, &[1.0, 2.0]), 3).contains("more values"));
        assert!(refused(Form::Bitmap, &bitmap(0b11, &[1.0]), 3).contains("fewer values"));
        assert!(refused(Form::Bitmap, &bitmap(0b1, &[0.0]), 3).contains("holds zero"));
        assert!(refused(Form::Bitmap, &[1, 0, 0], 3).contains("not whole"));
        assert!(refused(Form::Bitmap, &[1], 9).contains("shorter"));
    }
}
