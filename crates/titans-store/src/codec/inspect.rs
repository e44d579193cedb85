//! What a file says of itself, for people: no values, nothing unpacked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Precision;
use crate::error::StoreError;
use crate::format::container::Container;
use crate::format::layout::{
    CODEC_BITMAP, CODEC_DENSE, CODEC_GAPS, CODEC_PLAIN, CODEC_SHARED, ELEM_BYTES, ELEM_F16,
    ELEM_F32, ELEM_SPLIT, MAJOR, SECTION_HEADER, SECTION_TENSOR,
};
use crate::format::limits::Limits;
use crate::format::preamble::Kind;
use crate::format::section::Section;
use crate::image::{ModelRecord, RecallRecord, TensorRole, hex};
use crate::key::{Access, UserKey};

/// One file, described.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FileSummary {
    /// Major and minor version of the format.
    pub version: (u16, u16),
    /// Program and version that wrote the file.
    pub writer: String,
    /// Owner, as 32 hexadecimal digits.
    pub shard: String,
    /// Number of the generation.
    pub sequence: u64,
    /// How many times the folder had been opened for writing.
    pub writer_epoch: u64,
    /// Number of the generation before, if there was one.
    pub parent_sequence: Option<u64>,
    /// Digest of the generation before, in hexadecimal.
    pub parent_digest: Option<String>,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// BLAKE3 digest of all but the trailer, in hexadecimal.
    pub digest: String,
    /// Feature bits that a reader may ignore and a writer may not.
    pub ro_compat: u32,
    /// Feature bits that anyone may ignore.
    pub compat: u32,
    /// Whether the sections are encrypted.
    pub encrypted: bool,
    /// What the writer rounded.
    pub precision: Precision,
    /// Which memory.
    pub model: ModelRecord,
    /// What the host has said beside it, by name.
    pub extra: BTreeMap<String, String>,
    /// Number of weights.
    pub param_count: u64,
    /// Digest of the frozen initial parameters, in hexadecimal.
    pub base_digest: String,
    /// Digest of the frozen main model, in hexadecimal.
    pub model_digest: Option<String>,
    /// The last chunk folded into the values.
    pub last_chunk_id: u64,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens written so far.
    pub tokens_written: u64,
    /// When the image was taken, in seconds since 1970.
    pub created_unix: u64,
    /// The generation that a rollback left behind.
    pub rolled_back_from: Option<u64>,
    /// The recall measured on these values.
    pub recall: Option<RecallRecord>,
    /// The sections in the order of the file.
    pub sections: Vec<SectionSummary>,
}

/// One section, described.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SectionSummary {
    /// `header`, `tensor` or `unknown`.
    pub kind: &'static str,
    /// `plain`, `dense`, `bitmap`, `gaps`, `shared` or `unknown`.
    pub codec: &'static str,
    /// `bytes`, `single`, `half`, `split` or `unknown`.
    pub element: &'static str,
    /// The tensor that the section holds.
    pub tensor: Option<TensorSummary>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// CRC-32 of the bytes in the file.
    pub crc_stored: u32,
    /// CRC-32 of the bytes before compression.
    pub crc_raw: u32,
}

/// A tensor without its values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// What it is to the memory.
    pub role: TensorRole,
    /// Sizes of its dimensions.
    pub shape: Vec<u64>,
}

/// Describes a file after checking its frame, digest and header, with the default limits.
///
/// # Errors
/// As [`decode`](crate::decode), except for faults inside a packed section.
pub fn inspect(bytes: &[u8]) -> Result<FileSummary, StoreError> {
    inspect_with(bytes, None)
}

/// [`inspect`] of a file that may be encrypted.
///
/// # Errors
/// As [`inspect`], and [`StoreError::WrongKey`].
pub fn inspect_with(bytes: &[u8], key: Option<&UserKey>) -> Result<FileSummary, StoreError> {
    let limits = Limits::default();
    inspect_within(
        bytes,
        Access {
            limits: &limits,
            key,
        },
    )
}

/// The same within the limits of the caller.
pub(crate) fn inspect_within(bytes: &[u8], access: Access<'_>) -> Result<FileSummary, StoreError> {
    let container = Container::parse(bytes, access, Kind::Full)?;
    let mut entries = container.header.tensors.iter();
    let sections = container
        .sections
        .iter()
        .map(|section| {
            let entry = match section.kind {
                SECTION_TENSOR => entries.next(),
                _ => None,
            };
            let tensor = entry.map(|entry| TensorSummary {
                name: entry.name.clone(),
                role: entry.role,
                shape: entry.shape.clone(),
            });
            summary(section, tensor)
        })
        .collect();
    let (preamble, header) = (&container.preamble, &container.header);
    Ok(FileSummary {
        version: (MAJOR, preamble.minor),
        writer: header.writer.clone(),
        shard: preamble.shard.to_string(),
        sequence: preamble.sequence,
        writer_epoch: preamble.writer_epoch,
        parent_sequence: header.parent_seq,
        parent_digest: header.parent_digest.map(|digest| hex(&digest.0)),
        file_bytes: preamble.file_len,
        digest: hex(&container.digest),
        ro_compat: preamble.ro_compat,
        compat: preamble.compat,
        encrypted: preamble.is_encrypted(),
        precision: preamble.precision,
        model: header.model.clone(),
        extra: header.extra.clone(),
        param_count: header.param_count,
        base_digest: hex(&header.base_digest.0),
        model_digest: header.model_digest.map(|digest| hex(&digest.0)),
        last_chunk_id: header.last_chunk_id,
        tokens_seen: header.tokens_seen,
        tokens_written: header.tokens_written,
        created_unix: header.created_unix,
        rolled_back_from: header.rolled_back_from,
        recall: header.recall.clone(),
        sections,
    })
}

fn summary(section: &Section, tensor: Option<TensorSummary>) -> SectionSummary {
    SectionSummary {
        kind: match section.kind {
            SECTION_HEADER => "header",
            SECTION_TENSOR => "tensor",
            _ => "unknown",
        },
        codec: match section.codec {
            CODEC_PLAIN => "plain",
            CODEC_DENSE => "dense",
            CODEC_BITMAP => "bitmap",
            CODEC_GAPS => "gaps",
            CODEC_SHARED => "shared",
            _ => "unknown",
        },
        element: match section.elem {
            ELEM_BYTES => "bytes",
            ELEM_F32 => "single",
            ELEM_F16 => "half",
            ELEM_SPLIT => "split",
            _ => "unknown",
        },
        tensor,
        offset: section.offset,
        stored_bytes: section.stored_len,
        raw_bytes: section.raw_len,
        crc_stored: section.crc_stored,
        crc_raw: section.crc_raw,
    }
}
