//! Probes as records of a log, and back.
//!
//! ```text
//! first    offered 8
//! others   position 8, good 1 (0, 1, or 2 for unknown), key f32 each, value f32 each
//! ```

use super::probes::{Probe, Probes};

pub(super) fn encode(probes: &Probes) -> Vec<Vec<u8>> {
    let mut records = vec![probes.offered().to_le_bytes().to_vec()];
    records.extend(probes.all().iter().map(|probe| {
        let mut bytes = probe.position.to_le_bytes().to_vec();
        bytes.push(match probe.good {
            Some(good) => u8::from(good),
            None => 2,
        });
        for numbers in [&probe.key, &probe.value] {
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        bytes
    }));
    records
}

/// Takes back the probes about the first `tokens` tokens. Records that are not probes of
/// these widths are passed over.
pub(super) fn decode(
    probes: &mut Probes,
    records: &[Vec<u8>],
    widths: (usize, usize),
    tokens: u64,
) {
    let Some((first, others)) = records.split_first() else {
        return;
    };
    let offered = first
        .first_chunk::<8>()
        .map_or(0, |n| u64::from_le_bytes(*n));
    let restored = others
        .iter()
        .filter_map(|bytes| decode_probe(bytes, widths));
    let restored: Vec<_> = restored.filter(|probe| probe.position < tokens).collect();
    probes.restore(restored, offered);
}

fn decode_probe(bytes: &[u8], (key_dim, value_dim): (usize, usize)) -> Option<Probe> {
    let (position, rest) = bytes.split_first_chunk::<8>()?;
    let (&good, numbers) = rest.split_first()?;
    let (numbers, []) = numbers.as_chunks::<4>() else {
        return None;
    };
    let numbers: Vec<f32> = numbers.iter().map(|n| f32::from_le_bytes(*n)).collect();
    let fits = numbers.len() == key_dim + value_dim && numbers.iter().all(|n| n.is_finite());
    let (key, value) = fits.then(|| numbers.split_at(key_dim))?;
    Some(Probe {
        key: key.to_vec(),
        value: value.to_vec(),
        position: u64::from_le_bytes(*position),
        good: match good {
            0 | 1 => Some(good == 1),
            _ => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_read_back_and_others_are_passed_over() {
        let probe = |position, good| Probe {
            key: vec![0.5, position as f32],
            value: vec![-1.0],
            position,
            good,
        };
        let all = vec![probe(3, None), probe(8, Some(true)), probe(5, Some(false))];
        let mut probes = Probes::new(3, 1);
        probes.restore(all.clone(), 40);
        let mut records = encode(&probes);
        records.push(vec![1, 2, 3]);
        records.push(records[1][..records[1].len() - 4].to_vec());
        let read = |records: &[Vec<u8>], tokens| {
            let mut probes = Probes::new(3, 1);
            decode(&mut probes, records, (2, 1), tokens);
            (probes.all().to_vec(), probes.offered())
        };
        assert_eq!(read(&records, 9), (all.clone(), 40));
        // What is about tokens that the memory has not is dropped.
        assert_eq!(read(&records, 8).0, [all[0].clone(), all[2].clone()]);
        assert_eq!(read(&[], 9), (Vec::new(), 0));
    }
}
