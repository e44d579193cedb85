//! One section, one plain zstd frame, nothing else.

use std::io;

use zstd::zstd_safe;

use crate::format::limits::MAX_WINDOW;

/// Level 1: on byte planes, levels 3 and 9 take longer and gain nothing.
const LEVEL: i32 = 1;
const FRAME_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// `raw` as one frame with its length in it and without zstd's own checksum.
pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, LEVEL)
}

/// The `raw_len` bytes of the frame `stored`, or which rule it breaks.
///
/// The caller has bounded `raw_len`. A bound on the ratio would be wrong: the momentum of a
/// new memory is all zeros and shrinks ten-thousandfold.
pub(super) fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    check(stored, raw_len as u64)?;
    let mut raw = vec![0; raw_len];
    let written = zstd::bulk::decompress_to_buffer(stored, raw.as_mut_slice())
        .map_err(|error| format!("does not decompress: {error}"))?;
    if written != raw_len {
        return Err(format!(
            "decompresses to {written} bytes, expected {raw_len}"
        ));
    }
    Ok(raw)
}

/// Checks the frame header by hand, because zstd accepts more than this format does.
fn check(stored: &[u8], raw_len: u64) -> Result<(), String> {
    let Some((&[m0, m1, m2, m3, descriptor, window], _)) = stored.split_first_chunk::<6>() else {
        return Err("is too short for a frame".to_owned());
    };
    if [m0, m1, m2, m3] != FRAME_MAGIC {
        return Err("does not begin with a zstd frame".to_owned());
    }
    if descriptor & 0b1111 != 0 {
        return Err("has a checksum, a dictionary or a reserved bit".to_owned());
    }
    let is_single_segment = descriptor & 0b10_0000 != 0;
    if !is_single_segment && window_bytes(window) > MAX_WINDOW {
        let found = window_bytes(window);
        return Err(format!(
            "has a window of {found} bytes, the limit is {MAX_WINDOW}"
        ));
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(found)) if found == raw_len => {}
        Ok(found) => return Err(format!("declares {found:?} bytes, expected {raw_len}")),
        Err(_) => return Err("has a malformed frame header".to_owned()),
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(len) if len == stored.len() => Ok(()),
        Ok(len) => Err(format!("ends after {len} of {} bytes", stored.len())),
        Err(_) => Err("is not a whole frame".to_owned()),
    }
}

/// RFC 8878, section 3.1.1.1.2.
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + u32::from(descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(stored: &[u8], raw_len: usize) -> String {
        decompress(stored, raw_len).expect_err("malformed frames are refused")
    }

    #[test]
    fn frames_come_back_even_when_empty() {
        for raw in [vec![], vec![7; 1], vec![0; 100_000], (0..=255).collect()] {
            let stored = compress(&raw).unwrap();
            assert_eq!(decompress(&stored, raw.len()).unwrap(), raw);
        }
    }

    #[test]
    fn only_one_plain_frame_of_the_right_length_is_accepted() {
        let stored = compress(&[1; 1000]).unwrap();
        assert!(refused(&stored, 999).contains("declares"));
        assert!(refused(&stored[..5], 1000).contains("too short"));
        assert!(refused(&stored[..stored.len() - 1], 1000).contains("whole"));
        let two = [stored.clone(), stored.clone()].concat();
        assert!(refused(&two, 1000).contains("ends after"));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], stored.as_slice()].concat();
        assert!(refused(&skippable, 1000).contains("begin"));

        let mut with_checksum = zstd::bulk::Compressor::new(LEVEL).unwrap();
        let parameter = zstd_safe::CParameter::ChecksumFlag(true);
        with_checksum.set_parameter(parameter).unwrap();
        let checked = with_checksum.compress(&[1; 1000]).unwrap();
        assert!(refused(&checked, 1000).contains("checksum"));

        let large = compress(&vec![1; 1 << 21]).unwrap();
        let mut wide = large.clone();
        wide[5] = 14 << 3;
        assert!(refused(&wide, 1 << 21).contains("window"));
        assert_eq!(decompress(&large, 1 << 21).unwrap().len(), 1 << 21);
    }
}
