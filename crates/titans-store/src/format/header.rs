//! The MessagePack header: everything of an image but its values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Cursor;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{
    Limits, MAX_DEPTH, MAX_HEADER_LEN, MAX_RANK, MAX_STRING, MAX_TENSOR_VALUES, MAX_TENSORS,
    at_most,
};
use crate::error::StoreError;
use crate::image::{ChoiceRecord, MemoryImage, ModelRecord, RecallRecord, Stamp, TensorRole, hex};

/// The header as it stands in the file. Keys are strings and never change their type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) writer: String,
    pub(crate) model: ModelRecord,
    pub(crate) theta_shape: Vec<Vec<u64>>,
    pub(crate) param_count: u64,
    pub(crate) base_digest: Digest,
    #[serde(default)]
    pub(crate) model_digest: Option<Digest>,
    pub(crate) last_chunk_id: u64,
    pub(crate) tokens_seen: u64,
    pub(crate) tokens_written: u64,
    pub(crate) created_unix: u64,
    #[serde(default)]
    pub(crate) parent_seq: Option<u64>,
    #[serde(default)]
    pub(crate) parent_digest: Option<Digest>,
    /// Digest of the journal record that says the same as this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repeats: Option<Digest>,
    #[serde(default)]
    pub(crate) rolled_back_from: Option<u64>,
    #[serde(default)]
    pub(crate) recall: Option<RecallRecord>,
    #[serde(default)]
    pub(crate) scalars: BTreeMap<String, f64>,
    pub(crate) tensors: Vec<TensorEntry>,
    #[serde(default)]
    pub(crate) extra: BTreeMap<String, String>,
}

/// What the header says of one tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TensorEntry {
    pub(crate) name: String,
    pub(crate) role: TensorRole,
    pub(crate) shape: Vec<u64>,
}

impl TensorEntry {
    /// How many values the shape holds, or `None` past the range of `u64`.
    pub(crate) fn value_count(&self) -> Option<u64> {
        value_count(&self.shape)
    }
}

/// The product of a shape; 1 for a scalar.
pub(crate) fn value_count(shape: &[u64]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1_u64, |count, &size| count.checked_mul(size))
}

impl Header {
    /// The header of `image` as generation `stamp`.
    pub(crate) fn new(image: &MemoryImage, stamp: &Stamp) -> Self {
        let weights = || {
            let is_weights =
                |tensor: &&crate::image::TensorRecord| tensor.role == TensorRole::Weights;
            image.tensors.iter().filter(is_weights)
        };
        Self {
            writer: concat!("titans-store ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: image.model.clone(),
            theta_shape: weights().map(|tensor| tensor.shape.clone()).collect(),
            param_count: weights()
                .filter_map(|tensor| value_count(&tensor.shape))
                .fold(0, u64::saturating_add),
            base_digest: Digest(image.base_digest),
            model_digest: image.model_digest.map(Digest),
            last_chunk_id: image.last_chunk_id,
            tokens_seen: image.tokens_seen,
            tokens_written: image.tokens_written,
            created_unix: image.created_unix,
            parent_seq: stamp.parent.map(|(sequence, _)| sequence),
            parent_digest: stamp.parent.map(|(_, digest)| Digest(digest)),
            repeats: None,
            rolled_back_from: image.rolled_back_from,
            recall: image.recall.clone(),
            scalars: image.scalars.clone(),
            tensors: image
                .tensors
                .iter()
                .map(|tensor| TensorEntry {
                    name: tensor.name.clone(),
                    role: tensor.role,
                    shape: tensor.shape.clone(),
                })
                .collect(),
            extra: image.extra.clone(),
        }
    }

    /// The MessagePack bytes, once every rule holds.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        self.validate()?;
        let bytes = rmp_serde::to_vec_named(self)
            .map_err(|source| StoreError::HeaderUnwritable { source })?;
        at_most("header length", bytes.len() as u64, MAX_HEADER_LEN)?;
        Ok(bytes)
    }

    /// Reads a header and checks every rule.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, StoreError> {
        at_most("header length", bytes.len() as u64, MAX_HEADER_LEN)?;
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
        reader.set_max_depth(MAX_DEPTH);
        let header = Self::deserialize(&mut reader)
            .map_err(|source| StoreError::HeaderEncoding { source })?;
        let read = reader.get_ref().position();
        if read != bytes.len() as u64 {
            return Err(StoreError::HeaderField {
                field: "end",
                expected: format!("at byte {} of the header", bytes.len()),
                found: format!("at byte {read}"),
            });
        }
        header.validate()?;
        for role in TensorRole::ALL {
            at_most("values of one role", header.count(role)?, limits.max_params)?;
        }
        Ok(header)
    }

    /// Number and digest of the generation before.
    pub(crate) fn parent(&self) -> Option<(u64, [u8; 32])> {
        self.parent_seq
            .zip(self.parent_digest)
            .map(|(sequence, digest)| (sequence, digest.0))
    }

    fn count(&self, role: TensorRole) -> Result<u64, StoreError> {
        self.tensors
            .iter()
            .filter(|entry| entry.role == role)
            .try_fold(0_u64, |sum, entry| sum.checked_add(entry.value_count()?))
            .ok_or_else(|| {
                rule(
                    "tensors.shape",
                    "sizes whose product fits in 64 bits",
                    "more",
                )
            })
    }

    fn validate(&self) -> Result<(), StoreError> {
        text("writer", &self.writer)?;
        text("model.preset", &self.model.preset)?;
        choice("model.architecture", &self.model.architecture)?;
        choice("model.attentional_bias", &self.model.attentional_bias)?;
        choice("model.retention_gate", &self.model.retention_gate)?;
        choice("model.learning_algorithm", &self.model.learning_algorithm)?;
        numbers("scalars", &self.scalars)?;
        for (key, value) in &self.extra {
            text("extra", key)?;
            text("extra", value)?;
        }
        if let Some(recall) = &self.recall {
            text("recall.probe_id", &recall.probe_id)?;
            finite("recall.score", recall.score)?;
        }
        if self.parent_seq.is_some() != self.parent_digest.is_some() {
            return Err(rule(
                "parent_seq",
                "beside parent_digest, or neither",
                "one of them",
            ));
        }
        self.validate_tensors()
    }

    fn validate_tensors(&self) -> Result<(), StoreError> {
        at_most("number of tensors", self.tensors.len() as u64, MAX_TENSORS)?;
        let mut seen = BTreeSet::new();
        for entry in &self.tensors {
            text("tensors.name", &entry.name)?;
            at_most("rank of a tensor", entry.shape.len() as u64, MAX_RANK)?;
            let count = entry.value_count().unwrap_or_default();
            at_most("values of a tensor", count, MAX_TENSOR_VALUES)?;
            if entry.name.is_empty() || !seen.insert((entry.role, entry.name.as_str())) {
                return Err(rule(
                    "tensors.name",
                    "a name used once per role",
                    &entry.name,
                ));
            }
        }
        TensorRole::ALL
            .iter()
            .try_for_each(|&role| self.count(role).map(drop))?;
        let params = self.count(TensorRole::Weights)?;
        if self.param_count != params {
            return Err(rule(
                "param_count",
                &params.to_string(),
                &self.param_count.to_string(),
            ));
        }
        let shapes = self
            .tensors
            .iter()
            .filter(|entry| entry.role == TensorRole::Weights)
            .map(|entry| &entry.shape);
        if !shapes.eq(&self.theta_shape) {
            return Err(rule(
                "theta_shape",
                "the shapes of the weights",
                &format!("{:?}", self.theta_shape),
            ));
        }
        Ok(())
    }
}

fn rule(field: &'static str, expected: &str, found: &str) -> StoreError {
    StoreError::HeaderField {
        field,
        expected: expected.to_owned(),
        found: found.chars().take(80).collect(),
    }
}

fn text(field: &'static str, text: &str) -> Result<(), StoreError> {
    if text.len() as u64 > MAX_STRING || text.chars().any(char::is_control) {
        let expected = format!("at most {MAX_STRING} bytes without control characters");
        return Err(rule(field, &expected, &format!("{text:?}")));
    }
    Ok(())
}

fn choice(field: &'static str, choice: &ChoiceRecord) -> Result<(), StoreError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    text(field, &choice.name)?;
    if choice.name.is_empty() || !choice.name.chars().all(is_plain) {
        let found = format!("{:?}", choice.name);
        return Err(rule(
            field,
            "lower-case ASCII letters, digits, _ and -",
            &found,
        ));
    }
    numbers(field, &choice.params)
}

fn numbers(field: &'static str, numbers: &BTreeMap<String, f64>) -> Result<(), StoreError> {
    for (name, &value) in numbers {
        text(field, name)?;
        finite(field, value)?;
    }
    Ok(())
}

fn finite(field: &'static str, value: f64) -> Result<(), StoreError> {
    if !value.is_finite() {
        return Err(StoreError::NotFinite {
            field: format!("header field {field}"),
            index: 0,
            found: value,
        });
    }
    Ok(())
}

/// Thirty-two bytes, in MessagePack as binary rather than as a list of numbers.
#[derive(Clone, Copy)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(DigestVisitor)
    }
}

struct DigestVisitor;

impl Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("32 bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
        match bytes.try_into() {
            Ok(digest) => Ok(Digest(digest)),
            Err(_) => Err(E::invalid_length(bytes.len(), &self)),
        }
    }
}
