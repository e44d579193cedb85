//! Images to write, and files taken apart by an implementation of the layout of its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;

use titans_store::{
    ChoiceRecord, MemoryImage, ModelRecord, RecallRecord, ShardId, Stamp, TensorRecord, TensorRole,
    encode,
};

pub const SHARD: ShardId = ShardId([0xa5; 16]);

pub fn choice(name: &str, params: &[(&str, f64)]) -> ChoiceRecord {
    ChoiceRecord {
        name: name.to_owned(),
        params: params
            .iter()
            .map(|&(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

pub fn tensor(name: &str, role: TensorRole, shape: &[u64], values: Vec<f32>) -> TensorRecord {
    TensorRecord {
        name: name.to_owned(),
        role,
        shape: shape.to_vec(),
        values,
    }
}

/// A small image with one tensor for each codec and each form of values, and every optional
/// field filled.
pub fn small_image() -> MemoryImage {
    let dense = (0..24).map(|i| 1.1e30 * (0.25 + i as f32)).collect();
    let mut bitmap: Vec<f32> = (0..480).map(|i| 0.37 * i as f32 - 3.0).collect();
    let mut hash = 1_u32;
    for value in &mut bitmap {
        hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if hash >> 31 == 0 {
            *value = 0.0;
        }
    }
    let shared = bitmap
        .iter()
        .map(|&value| if value == 0.0 { 0.0 } else { 0.5 - value })
        .collect();
    let mut gaps = vec![0.0; 4096];
    for (n, at) in [3, 700, 701, 2900, 4095].into_iter().enumerate() {
        gaps[at] = if n == 2 { -0.0 } else { 1.0 / (at as f32) };
    }
    MemoryImage {
        shard: SHARD,
        model: ModelRecord {
            preset: "titans".to_owned(),
            architecture: choice("mlp", &[("hidden", 64.0), ("layers", 3.0)]),
            attentional_bias: choice("l2", &[]),
            retention_gate: choice("surprise_sigmoid", &[("gamma", 0.2), ("lambda", 0.8)]),
            learning_algorithm: choice("normalised_step", &[("step_size", 1e-4)]),
        },
        base_digest: [0x11; 32],
        model_digest: Some([0x22; 32]),
        last_chunk_id: 41,
        tokens_seen: 21_504,
        tokens_written: 430,
        scalars: BTreeMap::from([("momentum".to_owned(), 0.1625), ("tiny".to_owned(), -0.0)]),
        tensors: vec![
            tensor("w_in", TensorRole::Weights, &[2, 3, 4], dense),
            tensor("w_out", TensorRole::Weights, &[480], bitmap),
            tensor("w_in", TensorRole::Momentum, &[64, 64], gaps),
            tensor("m_out", TensorRole::Momentum, &[480], shared),
            tensor(
                "rest",
                TensorRole::Pending,
                &[5],
                vec![0.5, -1.25, 8.0, 3.0, -0.0],
            ),
        ],
        recall: Some(RecallRecord {
            probe_id: "needle-v1".to_owned(),
            score: 0.925,
            n: 400,
        }),
        created_unix: 1_790_000_000,
        rolled_back_from: Some(39),
        extra: BTreeMap::from([("note".to_owned(), "fixture".to_owned())]),
    }
}

/// The image after `chunk` chunks: generations that can be told apart.
pub fn image_at(chunk: u64) -> MemoryImage {
    MemoryImage {
        last_chunk_id: chunk,
        tensors: vec![tensor(
            "w",
            TensorRole::Weights,
            &[3],
            vec![chunk as f32, 0.5, -0.0],
        )],
        recall: None,
        ..small_image()
    }
}

pub fn small_stamp() -> Stamp {
    Stamp {
        sequence: 42,
        writer_epoch: 3,
        parent: Some((41, [0x33; 32])),
    }
}

pub fn small_file() -> Vec<u8> {
    encode(&small_image(), &small_stamp()).unwrap()
}

/// A file as its parts, so that a test can change one and keep every checksum right.
pub struct Parts {
    pub preamble: Vec<u8>,
    pub sections: Vec<Part>,
    pub tail: Vec<u8>,
}

pub struct Part {
    pub row: [u8; 48],
    pub stored: Vec<u8>,
}

impl Part {
    /// A plain section of a kind of its own.
    pub fn plain(kind: u16, flags: u32, stored: Vec<u8>) -> Self {
        let mut row = [0; 48];
        row[..2].copy_from_slice(&kind.to_le_bytes());
        row[4..8].copy_from_slice(&flags.to_le_bytes());
        let mut part = Self { row, stored };
        part.set_raw(&part.stored.clone());
        part
    }

    pub fn set_raw_len(&mut self, len: u64) {
        self.row[24..32].copy_from_slice(&len.to_le_bytes());
    }

    pub fn set_raw(&mut self, raw: &[u8]) {
        self.set_raw_len(raw.len() as u64);
        self.row[36..40].copy_from_slice(&crc32fast::hash(raw).to_le_bytes());
    }

    pub fn raw_len(&self) -> u64 {
        u64::from_le_bytes(self.row[24..32].try_into().unwrap())
    }

    pub fn codec(&self) -> u8 {
        self.row[2]
    }

    /// Replaces the raw bytes and packs them.
    pub fn repack(&mut self, raw: &[u8]) {
        self.set_raw(raw);
        self.stored = zstd::bulk::compress(raw, 1).unwrap();
    }

    pub fn unpack(&self) -> Vec<u8> {
        zstd::bulk::decompress(&self.stored, self.raw_len() as usize).unwrap()
    }
}

impl Parts {
    pub fn of(file: &[u8]) -> Self {
        let count = u16::from_le_bytes(file[28..30].try_into().unwrap());
        let sections = (0..usize::from(count))
            .map(|index| {
                let row: [u8; 48] = file[96 + 48 * index..][..48].try_into().unwrap();
                let number = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
                let (offset, len) = (number(8) as usize, number(16) as usize);
                Part {
                    row,
                    stored: file[offset..offset + len].to_vec(),
                }
            })
            .collect();
        Self {
            preamble: file[..96].to_vec(),
            sections,
            tail: file[file.len() - 64..].to_vec(),
        }
    }

    /// Lays the parts out again, with lengths, checksums and digest made right.
    pub fn assemble(mut self) -> Vec<u8> {
        let mut file = self.preamble.clone();
        file.resize(96 + 48 * self.sections.len(), 0);
        let count = (self.sections.len() as u16).to_le_bytes();
        file[28..30].copy_from_slice(&count);
        let header_len = self
            .sections
            .first()
            .map_or(0, |part| part.stored.len() as u32);
        file[24..28].copy_from_slice(&header_len.to_le_bytes());
        for (index, part) in self.sections.iter_mut().enumerate() {
            file.resize(file.len().next_multiple_of(64), 0);
            let offset = (file.len() as u64).to_le_bytes();
            part.row[8..16].copy_from_slice(&offset);
            part.row[16..24].copy_from_slice(&(part.stored.len() as u64).to_le_bytes());
            part.row[32..36].copy_from_slice(&crc32fast::hash(&part.stored).to_le_bytes());
            file[96 + 48 * index..][..48].copy_from_slice(&part.row);
            file.extend(&part.stored);
        }
        file.resize(file.len().next_multiple_of(64), 0);
        file.extend(&self.tail);
        reseal(file)
    }
}

/// Makes lengths, the checksum of the preamble and the digest right again.
pub fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let len = (file.len() as u64).to_le_bytes();
    file[32..40].copy_from_slice(&len);
    let crc = crc32fast::hash(&file[..72]).to_le_bytes();
    file[72..76].copy_from_slice(&crc);
    let body = file.len() - 64;
    file[body + 32..body + 40].copy_from_slice(&len);
    let digest = blake3::hash(&file[..body]);
    file[body..body + 32].copy_from_slice(digest.as_bytes());
    file
}

/// Puts `to` in the place of the only `from`.
pub fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let at = position(bytes, from);
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// Puts `to`, of any length, in the place of the only `from`.
pub fn splice(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let at = position(bytes, from);
    bytes.splice(at..at + from.len(), to.iter().copied());
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    let at: Vec<_> = (0..=bytes.len() - part.len())
        .filter(|&at| bytes[at..].starts_with(part))
        .collect();
    assert_eq!(at.len(), 1, "{part:02x?} occurs at {at:?}");
    at[0]
}
