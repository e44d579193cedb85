//! Every rule of a reader, with a file that breaks it and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Part, Parts, image_at, replace, reseal, small_file, small_image, small_stamp, splice, tensor,
};
use titans_store::{Limits, MemoryImage, StoreError, TensorRole, decode, encode};

fn refused(file: &[u8]) -> StoreError {
    decode(file, &Limits::default()).expect_err("a malformed file is refused")
}

fn refused_image(change: impl FnOnce(&mut MemoryImage)) -> StoreError {
    let mut image = small_image();
    change(&mut image);
    encode(&image, &small_stamp()).expect_err("an image that breaks a rule is refused")
}

/// The small file with some bytes of its preamble changed and everything sealed again.
fn with_preamble(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = small_file();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(file)
}

fn with_parts(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::of(&small_file());
    change(&mut parts);
    parts.assemble()
}

fn with_header(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    with_parts(|parts| {
        let header = &mut parts.sections[0];
        change(&mut header.stored);
        header.set_raw(&header.stored.clone());
    })
}

macro_rules! assert_refused {
    ($error:expr, $pattern:pat) => {
        let error = $error;
        assert!(matches!(error, $pattern), "{error:?}");
        let text = error.to_string();
        assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    };
}

#[test]
fn taking_apart_and_assembling_changes_nothing() {
    assert_eq!(with_parts(|_| {}), small_file());
    assert_eq!(reseal(small_file()), small_file());
}

#[test]
fn rejects_every_flipped_byte() {
    let file = small_file();
    for at in 0..file.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            let error = refused(&damaged);
            assert!(error.is_damage(), "byte {at}: {error}");
        }
    }
}

#[test]
fn rejects_every_truncation_and_any_surplus() {
    let file = small_file();
    for len in 0..file.len() {
        assert!(refused(&file[..len]).is_damage(), "{len} bytes");
    }
    let longer = [file.as_slice(), &[0]].concat();
    assert_refused!(refused(&longer), StoreError::Mismatch { .. });
    assert_refused!(
        refused(&vec![0; file.len()]),
        StoreError::NotTitanmem { .. }
    );
}

#[test]
fn rejects_other_formats() {
    assert_refused!(refused(&[0x50; 4096]), StoreError::NotTitanmem { .. });
    assert_refused!(refused(&[]), StoreError::TooShort { .. });
}

#[test]
fn rejects_unknown_major_but_not_unknown_minor() {
    assert_refused!(
        refused(&with_preamble(8, &[2, 0])),
        StoreError::UnknownMajor {
            expected: 1,
            found: 2
        }
    );
    assert!(decode(&with_preamble(10, &[9, 0]), &Limits::default()).is_ok());
}

#[test]
fn rejects_unknown_required_features_but_not_optional_ones() {
    assert_refused!(
        refused(&with_preamble(30, &[2])),
        StoreError::UnknownCode { offset: 30, .. }
    );
    assert_refused!(refused(&with_preamble(12, &[1])), StoreError::KeyNeeded);
    assert_refused!(
        refused(&with_preamble(12, &[0, 1])),
        StoreError::UnknownFeature { found: 0x100 }
    );
    assert!(
        decode(&with_preamble(16, &[1]), &Limits::default()).is_ok(),
        "ro_compat"
    );
    assert!(
        decode(&with_preamble(20, &[1]), &Limits::default()).is_ok(),
        "compat"
    );
}

#[test]
fn rejects_unknown_kind_and_value_type() {
    assert_refused!(
        refused(&with_preamble(30, &[4])),
        StoreError::UnknownCode { offset: 30, .. }
    );
    assert_refused!(
        refused(&with_preamble(31, &[4])),
        StoreError::UnknownCode { offset: 31, .. }
    );
}

#[test]
fn rejects_reserved_bytes_that_are_not_zero() {
    assert_refused!(
        refused(&with_preamble(95, &[1])),
        StoreError::NotZero { offset: 95, .. }
    );
    let row = with_parts(|parts| parts.sections[1].row[47] = 1);
    assert_refused!(refused(&row), StoreError::NotZero { .. });
    let tail = with_parts(|parts| parts.tail[63] = 1);
    assert_refused!(refused(&tail), StoreError::NotZero { .. });
    let mut padding = small_file();
    let at = padding.len() - 65;
    assert_eq!(padding[at], 0);
    padding[at] = 1;
    assert_refused!(refused(&reseal(padding)), StoreError::NotZero { .. });
}

#[test]
fn rejects_a_trailer_that_disagrees() {
    let sequence = with_parts(|parts| parts.tail[40] ^= 1);
    assert_refused!(
        refused(&sequence),
        StoreError::Mismatch {
            expected: 42,
            found: 43,
            ..
        }
    );
    let end_magic = with_parts(|parts| parts.tail[48] ^= 1);
    assert_refused!(
        refused(&end_magic),
        StoreError::Mismatch {
            field: "end magic",
            ..
        }
    );
    let mut digest = small_file();
    let at = digest.len() - 64;
    digest[at] ^= 1;
    assert_refused!(refused(&digest), StoreError::Digest { .. });
}

#[test]
fn rejects_section_past_end_of_file() {
    for huge in [1 << 20, u64::MAX / 2, u64::MAX] {
        let mut file = small_file();
        file[96 + 48 + 16..][..8].copy_from_slice(&huge.to_le_bytes());
        assert_refused!(refused(&reseal(file)), StoreError::TooShort { .. });
    }
}

#[test]
fn rejects_sections_that_overlap_or_leave_holes() {
    for step in [-64_i64, 64] {
        let mut file = small_file();
        let field = 96 + 48 * 2 + 8..96 + 48 * 2 + 16;
        let offset = i64::from_le_bytes(file[field.clone()].try_into().unwrap());
        file[field].copy_from_slice(&(offset + step).to_le_bytes());
        assert_refused!(
            refused(&reseal(file)),
            StoreError::Misplaced { section: 2, .. }
        );
    }
    let mut parts = Parts::of(&small_file());
    parts.tail.splice(0..0, [0; 64]);
    assert_refused!(refused(&parts.assemble()), StoreError::Mismatch { .. });
}

#[test]
fn rejects_too_many_sections_and_none() {
    assert_refused!(
        refused(&with_preamble(28, &[0xff, 0xff])),
        StoreError::Limit {
            field: "number of sections",
            ..
        }
    );
    let none = with_parts(|parts| parts.sections.clear());
    assert_refused!(
        refused(&none),
        StoreError::Mismatch {
            field: "number of sections",
            ..
        }
    );
}

#[test]
fn rejects_unknown_section_unless_it_is_optional() {
    let required = with_parts(|parts| parts.sections.push(Part::plain(99, 0, vec![1, 2, 3])));
    assert_refused!(
        refused(&required),
        StoreError::UnknownSection { found: 99, .. }
    );
    let optional = with_parts(|parts| parts.sections.insert(2, Part::plain(99, 1, vec![1, 2, 3])));
    let (image, _) = decode(&optional, &Limits::default()).unwrap();
    assert_eq!(image, small_image());
    let flags = with_parts(|parts| parts.sections[1].row[4] = 2);
    assert_refused!(
        refused(&flags),
        StoreError::UnknownCode {
            field: "section flags",
            ..
        }
    );
}

#[test]
fn rejects_wrong_section_checksums() {
    let mut stored = small_file();
    stored[96 + 48 + 32] ^= 1;
    assert_refused!(refused(&reseal(stored)), StoreError::Checksum { .. });
    let raw = with_parts(|parts| parts.sections[1].row[36] ^= 1);
    assert_refused!(refused(&raw), StoreError::Checksum { .. });
    let header = with_parts(|parts| parts.sections[0].row[36] ^= 1);
    assert_refused!(refused(&header), StoreError::Checksum { .. });
}

#[test]
fn rejects_unknown_codec_and_element() {
    let codec = with_parts(|parts| parts.sections[1].row[2] = 5);
    assert_refused!(refused(&codec), StoreError::UnknownCode { found: 5, .. });
    let elem = with_parts(|parts| parts.sections[1].row[3] = 4);
    assert_refused!(refused(&elem), StoreError::UnknownCode { found: 4, .. });
    let header = with_parts(|parts| parts.sections[0].row[2] = 1);
    assert_refused!(refused(&header), StoreError::UnknownCode { .. });
}

#[test]
fn rejects_a_header_that_is_too_long_or_of_another_length() {
    let long = with_header(|header| header.resize((64 << 10) + 1, 0));
    assert_refused!(
        refused(&long),
        StoreError::Limit {
            field: "header length",
            ..
        }
    );
    let mut other = small_file();
    other[24] ^= 1;
    assert_refused!(refused(&reseal(other)), StoreError::Mismatch { .. });
    let surplus = with_header(|header| header.push(0xc0));
    assert_refused!(
        refused(&surplus),
        StoreError::HeaderField { field: "end", .. }
    );
}

#[test]
fn rejects_a_header_that_is_not_the_right_map() {
    assert_refused!(
        refused(&with_header(|h| h.clear())),
        StoreError::HeaderEncoding { .. }
    );
    assert_refused!(
        refused(&with_header(|h| *h = vec![0xc1; 64])),
        StoreError::HeaderEncoding { .. }
    );
    // A list that declares four thousand million entries.
    assert_refused!(
        refused(&with_header(|h| *h = vec![0xdd, 0xff, 0xff, 0xff, 0xff])),
        StoreError::HeaderEncoding { .. }
    );
    let role =
        with_header(|header| replace(header, b"momentum\xa5shape\x92", b"momentun\xa5shape\x92"));
    assert_refused!(refused(&role), StoreError::HeaderEncoding { .. });
}

/// Adds one key to the header map.
fn add_key(header: &mut Vec<u8>, key: &str, value: &[u8]) {
    assert_eq!(
        header[0], 0xde,
        "the header is a map of sixteen or more keys"
    );
    header[2] += 1;
    header.push(0xa0 | key.len() as u8);
    header.extend(key.as_bytes());
    header.extend(value);
}

#[test]
fn ignores_unknown_header_keys_unless_they_nest_too_deeply() {
    let known = with_header(|header| add_key(header, "later", &[0x93, 1, 2, 3]));
    assert!(decode(&known, &Limits::default()).is_ok());
    let nested = [vec![0x91; 40], vec![0xc0]].concat();
    let deep = with_header(|header| add_key(header, "later", &nested));
    assert_refused!(refused(&deep), StoreError::HeaderEncoding { .. });
}

#[test]
fn rejects_header_fields_that_break_a_rule() {
    let upper = with_header(|header| replace(header, b"surprise_sigmoid", b"Surprise_sigmoid"));
    assert_refused!(
        refused(&upper),
        StoreError::HeaderField {
            field: "model.retention_gate",
            ..
        }
    );
    let score = 0.925_f64.to_be_bytes();
    let nan = with_header(|header| replace(header, &score, &f64::NAN.to_be_bytes()));
    assert_refused!(refused(&nan), StoreError::NotFinite { .. });
    let twice = with_header(|header| splice(header, b"\xa5w_out", b"\xa4w_in"));
    assert_refused!(
        refused(&twice),
        StoreError::HeaderField {
            field: "tensors.name",
            ..
        }
    );
    let count = with_header(|header| {
        // 24 + 480 weights, as a 16-bit number.
        replace(
            header,
            b"param_count\xcd\x01\xf8",
            b"param_count\xcd\x01\xf9",
        );
    });
    assert_refused!(
        refused(&count),
        StoreError::HeaderField {
            field: "param_count",
            ..
        }
    );
    let shape = with_header(|header| {
        replace(
            header,
            b"theta_shape\x92\x93\x02\x03\x04",
            b"theta_shape\x92\x93\x02\x04\x03",
        );
    });
    assert_refused!(
        refused(&shape),
        StoreError::HeaderField {
            field: "theta_shape",
            ..
        }
    );
}

#[test]
fn rejects_shapes_that_overflow_or_exceed_the_host() {
    let huge = with_header(|header| {
        let huge = b"momentum\xa5shape\x92\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x40";
        splice(header, b"momentum\xa5shape\x92\x40\x40", huge);
    });
    assert_refused!(
        refused(&huge),
        StoreError::HeaderField {
            field: "tensors.shape",
            ..
        }
    );
    let limits = Limits::default().with_max_params(4575);
    let error = decode(&small_file(), &limits).unwrap_err();
    assert_refused!(error, StoreError::Limit { found: 4576, .. });
    let limits = Limits::default().with_max_file_bytes(100);
    let error = decode(&small_file(), &limits).unwrap_err();
    assert_refused!(
        error,
        StoreError::Limit {
            field: "file length",
            ..
        }
    );
}

#[test]
fn rejects_sections_that_do_not_pair_with_tensors() {
    let missing = with_parts(|parts| drop(parts.sections.pop()));
    assert_refused!(
        refused(&missing),
        StoreError::HeaderField {
            field: "tensors",
            ..
        }
    );
    let surplus = with_parts(|parts| {
        let (row, stored) = (parts.sections[1].row, parts.sections[1].stored.clone());
        parts.sections.push(Part { row, stored });
    });
    assert_refused!(
        refused(&surplus),
        StoreError::HeaderField {
            field: "tensors",
            ..
        }
    );
}

#[test]
fn rejects_raw_lengths_that_the_shape_does_not_allow() {
    for section in [1, 2, 3] {
        for len in [u64::MAX, 1 << 40, 1 << 21] {
            let bomb = with_parts(|parts| parts.sections[section].set_raw_len(len));
            assert_refused!(refused(&bomb), StoreError::Mismatch { .. });
        }
    }
}

#[test]
fn rejects_frames_that_are_not_single_and_plain() {
    let bomb = with_parts(|parts| {
        parts.sections[1].stored = zstd::bulk::compress(&vec![0; 1 << 24], 19).unwrap();
    });
    assert_refused!(refused(&bomb), StoreError::Frame { .. });
    let twice = with_parts(|parts| {
        let frame = parts.sections[1].stored.clone();
        parts.sections[1].stored.extend(frame);
    });
    assert_refused!(refused(&twice), StoreError::Frame { .. });
    let skippable = with_parts(|parts| {
        parts.sections[1]
            .stored
            .extend([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    });
    assert_refused!(refused(&skippable), StoreError::Frame { .. });
    let garbage = with_parts(|parts| parts.sections[1].stored = vec![7; 30]);
    assert_refused!(refused(&garbage), StoreError::Frame { .. });
}

#[test]
fn rejects_malformed_coordinates() {
    let gaps = with_parts(|parts| {
        let mut raw = parts.sections[3].unpack();
        assert_eq!(parts.sections[3].codec(), 3);
        // The count takes 8 bytes, the gaps before the last one 6.
        raw[14] += 1;
        parts.sections[3].repack(&raw);
    });
    assert_refused!(refused(&gaps), StoreError::Coordinates { section: 3, .. });
    let bitmap = with_parts(|parts| {
        let mut raw = parts.sections[2].unpack();
        assert_eq!(parts.sections[2].codec(), 2);
        raw[0] ^= 1;
        parts.sections[2].repack(&raw);
    });
    assert_refused!(refused(&bitmap), StoreError::Coordinates { section: 2, .. });
    for tensor in [0, 2, 3, 4, 99] {
        let shared = with_parts(|parts| {
            let mut raw = parts.sections[4].unpack();
            assert_eq!((parts.sections[4].codec(), raw[0]), (4, 1));
            raw[0] = tensor;
            parts.sections[4].repack(&raw);
        });
        assert_refused!(refused(&shared), StoreError::Coordinates { section: 4, .. });
    }
}

#[test]
fn rejects_numbers_that_are_not_finite_on_save_and_on_load() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = refused_image(|image| image.tensors[0].values[5] = bad);
        assert_refused!(error, StoreError::NotFinite { index: 5, .. });
        let file = with_parts(|parts| {
            let mut raw = parts.sections[1].unpack();
            for (plane, byte) in bad.to_le_bytes().into_iter().enumerate() {
                raw[24 * plane + 5] = byte;
            }
            parts.sections[1].repack(&raw);
        });
        assert_refused!(refused(&file), StoreError::NotFinite { index: 5, .. });
    }
    let error = refused_image(|image| image.scalars.extend([("x".to_owned(), f64::NAN)]));
    assert_refused!(error, StoreError::NotFinite { .. });
    let error = refused_image(|image| {
        image
            .model
            .architecture
            .params
            .insert("x".to_owned(), f64::INFINITY);
    });
    assert_refused!(error, StoreError::NotFinite { .. });
}

#[test]
fn refuses_to_write_what_it_would_refuse_to_read() {
    let error = refused_image(|image| image.tensors[0].shape = vec![2, 3, 5]);
    assert_refused!(
        error,
        StoreError::HeaderField {
            field: "tensors.shape",
            ..
        }
    );
    let error = refused_image(|image| image.tensors[1].name = "w_in".to_owned());
    assert_refused!(
        error,
        StoreError::HeaderField {
            field: "tensors.name",
            ..
        }
    );
    let error = refused_image(|image| image.tensors[1].name.clear());
    assert_refused!(
        error,
        StoreError::HeaderField {
            field: "tensors.name",
            ..
        }
    );
    let error = refused_image(|image| image.tensors[0].shape = vec![24, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_refused!(
        error,
        StoreError::Limit {
            field: "rank of a tensor",
            ..
        }
    );
    let error = refused_image(|image| {
        let many = (0..65).map(|n| tensor(&n.to_string(), TensorRole::Weights, &[0], vec![]));
        image.tensors = many.collect();
    });
    assert_refused!(
        error,
        StoreError::Limit {
            field: "number of tensors",
            ..
        }
    );
    let error = refused_image(|image| image.model.preset = "x".repeat(257));
    assert_refused!(
        error,
        StoreError::HeaderField {
            field: "model.preset",
            ..
        }
    );
    let error = refused_image(|image| {
        let pair = |n: usize| (format!("{n:0250}"), "y".repeat(250));
        image.extra = (0..200).map(pair).collect();
    });
    assert_refused!(
        error,
        StoreError::Limit {
            field: "header length",
            ..
        }
    );
    assert!(encode(&image_at(0), &small_stamp()).is_ok());
}
