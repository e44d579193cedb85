//! What the targets share: small limits, files taken apart, and checksums made right.
//!
//! Checksums would hide the parser behind them, so two of the targets repair every checksum
//! of what they are given before they let it be read.

#[path = "../../crates/titans-store/tests/common/mod.rs"]
pub mod common;

use titans_store::fs::FaultyStorage;
use titans_store::{
    Limits, MemoryImage, MemoryStore, Precision, SaveMode, StoreConfig, decode, encode, encode_as,
};

use common::{SHARD, image_at, reseal, small_image, small_stamp};

/// Small enough that a run shows at once when a reader allocates by a number in the file.
pub fn limits() -> Limits {
    Limits::default()
        .with_max_file_bytes(1 << 20)
        .with_max_params(1 << 16)
}

/// The store under test.
pub fn config(mode: SaveMode) -> StoreConfig {
    StoreConfig::default().with_limits(limits()).with_mode(mode)
}

/// Files that are whole: exact, compact and tiny.
pub fn files() -> Vec<Vec<u8>> {
    let mut compact = small_image();
    compact.tensors.remove(0);
    let empty = MemoryImage {
        tensors: Vec::new(),
        ..small_image()
    };
    let stamp = small_stamp();
    vec![
        encode(&small_image(), &stamp).expect("it encodes"),
        encode(&image_at(7), &stamp).expect("it encodes"),
        encode_as(&compact, &stamp, Precision::Compact).expect("it encodes"),
        encode(&empty, &stamp).expect("it encodes"),
    ]
}

/// A folder with snapshots, and one with a journal.
pub fn folders() -> [FaultyStorage; 2] {
    [SaveMode::Snapshot, SaveMode::Journal].map(|mode| {
        let storage = FaultyStorage::default();
        let opened = MemoryStore::open_on(Box::new(storage.clone()), SHARD, config(mode));
        let (mut store, _) = opened.expect("it opens");
        store.save(&small_image()).expect("it saves");
        for chunk in 1..=4_u16 {
            let mut image = small_image();
            image.last_chunk_id += u64::from(chunk);
            image.tensors[2].values[usize::from(chunk) * 9] = f32::from(chunk);
            store.save(&image).expect("it saves");
        }
        storage
    })
}

/// The same bytes with every length-independent checksum made right, where the bytes are
/// enough of a file for that.
pub fn with_right_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < 160 || bytes.len() > 1 << 20 {
        return None;
    }
    let mut file = bytes.to_vec();
    let count = usize::from(u16::from_le_bytes([file[28], file[29]]));
    for index in 0..count {
        let at = 96 + 48 * index;
        let row = file.get(at..at + 48)?;
        let number = |from: usize| {
            let field = row[from..from + 8].first_chunk::<8>();
            field.and_then(|field| usize::try_from(u64::from_le_bytes(*field)).ok())
        };
        let (offset, len, raw_len) = (number(8)?, number(16)?, number(24)?);
        let Some(stored) = file.get(offset..offset.checked_add(len)?) else {
            continue;
        };
        let stored_sum = crc32fast::hash(stored);
        let raw_sum = match row[2] {
            0 => Some(stored_sum),
            _ if raw_len <= 1 << 20 => {
                let raw = zstd::bulk::decompress(stored, raw_len).ok();
                raw.map(|raw| crc32fast::hash(&raw))
            }
            _ => None,
        };
        file[at + 32..at + 36].copy_from_slice(&stored_sum.to_le_bytes());
        if let Some(raw_sum) = raw_sum {
            file[at + 36..at + 40].copy_from_slice(&raw_sum.to_le_bytes());
        }
    }
    Some(reseal(file))
}

/// What decodes must encode, to bytes that decode to the same numbers and encode the same.
pub fn assert_fixed_point(bytes: &[u8]) {
    let Ok((image, stamp)) = decode(bytes, &limits()) else {
        return;
    };
    let again = encode(&image, &stamp).expect("what was read can be written");
    let (back, back_stamp) = decode(&again, &limits()).expect("what was written can be read");
    let bits = |image: &MemoryImage| {
        let values = image.tensors.iter().flat_map(|tensor| &tensor.values);
        values.map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(bits(&image), bits(&back));
    assert_eq!((image, stamp), (back.clone(), back_stamp));
    assert_eq!(encode(&back, &back_stamp).expect("it encodes"), again);
}
