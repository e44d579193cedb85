//! The first 96 bytes: enough to know the version, the owner and the order of a file.

use super::fields::{FieldReader, all_zero, checksum};
use super::layout::{
    DTYPE_COMPACT, DTYPE_EXACT, DTYPE_EXACT_WEIGHTS, INCOMPAT_ENCRYPTED, KIND_DELTA, KIND_FULL,
    KIND_JOURNAL, KNOWN_INCOMPAT, KNOWN_RO_COMPAT, MAGIC, MAJOR, MINOR, PREAMBLE_CHECKED,
    PREAMBLE_LEN,
};
use crate::codec::Precision;
use crate::error::StoreError;
use crate::image::{ShardId, hex};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    Delta,
    Journal,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Full => KIND_FULL,
            Self::Delta => KIND_DELTA,
            Self::Journal => KIND_JOURNAL,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Full, Self::Delta, Self::Journal]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

fn precision_code(precision: Precision) -> u8 {
    match precision {
        Precision::Exact => DTYPE_EXACT,
        Precision::ExactWeights => DTYPE_EXACT_WEIGHTS,
        Precision::Compact => DTYPE_COMPACT,
    }
}

fn precision_from_code(code: u8) -> Option<Precision> {
    [
        Precision::Exact,
        Precision::ExactWeights,
        Precision::Compact,
    ]
    .into_iter()
    .find(|precision| precision_code(*precision) == code)
}

/// The fields of the preamble, checked against its own checksum only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preamble {
    pub(crate) minor: u16,
    pub(crate) incompat: u32,
    pub(crate) ro_compat: u32,
    pub(crate) compat: u32,
    pub(crate) header_len: u32,
    pub(crate) section_count: u16,
    pub(crate) kind: Kind,
    pub(crate) precision: Precision,
    pub(crate) file_len: u64,
    pub(crate) sequence: u64,
    pub(crate) writer_epoch: u64,
    pub(crate) shard: ShardId,
}

impl Preamble {
    /// The preamble of a file that this version writes.
    pub(crate) fn to_bytes(self) -> [u8; PREAMBLE_LEN] {
        let mut bytes = Vec::with_capacity(PREAMBLE_LEN);
        bytes.extend(MAGIC);
        bytes.extend(MAJOR.to_le_bytes());
        bytes.extend(self.minor.to_le_bytes());
        bytes.extend(self.incompat.to_le_bytes());
        bytes.extend(self.ro_compat.to_le_bytes());
        bytes.extend(self.compat.to_le_bytes());
        bytes.extend(self.header_len.to_le_bytes());
        bytes.extend(self.section_count.to_le_bytes());
        bytes.extend([self.kind.code(), precision_code(self.precision)]);
        bytes.extend(self.file_len.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.writer_epoch.to_le_bytes());
        bytes.extend(self.shard.0);
        debug_assert_eq!(bytes.len(), PREAMBLE_CHECKED);
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());

        let mut preamble = [0; PREAMBLE_LEN];
        for (to, from) in preamble.iter_mut().zip(bytes) {
            *to = from;
        }
        preamble
    }

    /// Reads and checks the front of a file.
    ///
    /// The checksum comes before the version, so that a damaged version number is damage and
    /// not a file from the future. Later major versions keep these 96 bytes for that reason.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let Some(head) = bytes.get(..PREAMBLE_LEN) else {
            return Err(StoreError::TooShort {
                expected: PREAMBLE_LEN as u64,
                found: bytes.len() as u64,
            });
        };
        let mut fields = FieldReader::new(head);
        let magic: [u8; 8] = fields.bytes();
        if magic != MAGIC {
            return Err(StoreError::NotTitanmem {
                expected: hex(&MAGIC),
                found: hex(&magic),
            });
        }
        let major = fields.u16();
        let minor = fields.u16();
        let incompat = fields.u32();
        let ro_compat = fields.u32();
        let compat = fields.u32();
        let header_len = fields.u32();
        let section_count = fields.u16();
        let kind = fields.u8();
        let dtype = fields.u8();
        let file_len = fields.u64();
        let sequence = fields.u64();
        let writer_epoch = fields.u64();
        let shard = ShardId(fields.bytes());
        let crc = fields.u32();
        let pad: [u8; PREAMBLE_LEN - PREAMBLE_CHECKED - 4] = fields.bytes();
        fields.finish(PREAMBLE_LEN)?;

        let checked = head.get(..PREAMBLE_CHECKED).unwrap_or_default();
        checksum(|| "the preamble".to_owned(), checked, 0, crc)?;
        if major != MAJOR {
            return Err(StoreError::UnknownMajor {
                expected: MAJOR,
                found: major,
            });
        }
        let unknown = incompat & !KNOWN_INCOMPAT;
        if unknown != 0 {
            return Err(StoreError::UnknownFeature { found: unknown });
        }
        all_zero("preamble padding", &pad, PREAMBLE_CHECKED as u64 + 4)?;
        let kind = Kind::from_code(kind).ok_or_else(|| undefined("file kind", 30, kind))?;
        let precision =
            precision_from_code(dtype).ok_or_else(|| undefined("value type", 31, dtype))?;
        Ok(Self {
            minor,
            incompat,
            ro_compat,
            compat,
            header_len,
            section_count,
            kind,
            precision,
            file_len,
            sequence,
            writer_epoch,
            shard,
        })
    }

    /// Features that this build may read past but must not write over.
    pub(crate) fn unknown_ro_compat(&self) -> u32 {
        self.ro_compat & !KNOWN_RO_COMPAT
    }

    /// Whether the sections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.incompat & INCOMPAT_ENCRYPTED != 0
    }

    /// `Ok` when the file is what the caller came for.
    pub(crate) fn expect_kind(&self, kind: Kind) -> Result<(), StoreError> {
        match self.kind == kind {
            true => Ok(()),
            false => Err(undefined("file kind", 30, self.kind.code())),
        }
    }

    /// The preamble of a new file, with everything that this version fixes.
    pub(crate) fn new(sequence: u64, writer_epoch: u64, shard: ShardId) -> Self {
        Self {
            minor: MINOR,
            incompat: 0,
            ro_compat: 0,
            compat: 0,
            header_len: 0,
            section_count: 0,
            kind: Kind::Full,
            precision: Precision::Exact,
            file_len: 0,
            sequence,
            writer_epoch,
            shard,
        }
    }
}

fn undefined(field: &'static str, offset: u64, found: u8) -> StoreError {
    StoreError::UnknownCode {
        field,
        offset,
        found: u64::from(found),
    }
}
