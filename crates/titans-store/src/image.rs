//! What a generation says: names, shapes and numbers, without any tensor library.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The owner of a memory, as sixteen opaque bytes.
///
/// `Display` is 32 hexadecimal digits. Callers derive it by a keyed hash, so that no user
/// name reaches a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub [u8; 16]);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardId({self})")
    }
}

/// One of the four choices of a memory: its name and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChoiceRecord {
    /// Lower-case ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// Finite parameters by name.
    #[serde(default)]
    pub params: BTreeMap<String, f64>,
}

/// Which memory the numbers belong to: a preset and its four choices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name of the preset the choices came from.
    pub preset: String,
    /// What the memory is.
    pub architecture: ChoiceRecord,
    /// What an error is.
    pub attentional_bias: ChoiceRecord,
    /// What is kept.
    pub retention_gate: ChoiceRecord,
    /// How it moves.
    pub learning_algorithm: ChoiceRecord,
}

/// What a tensor is to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TensorRole {
    /// What the memory has learned.
    Weights,
    /// The accumulated surprise of the learning algorithm.
    Momentum,
    /// What an update that is not finished still needs.
    Pending,
}

impl TensorRole {
    /// All roles that this version knows.
    pub const ALL: [Self; 3] = [Self::Weights, Self::Momentum, Self::Pending];
}

impl fmt::Display for TensorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::Momentum => "momentum",
            Self::Pending => "pending",
        })
    }
}

/// One tensor, its values in row-major order.
///
/// Equality compares numbers, so `-0.0 == 0.0`; the file keeps the bits.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRecord {
    /// Name, unique among the tensors of the same role.
    pub name: String,
    /// What it is to the memory.
    pub role: TensorRole,
    /// Sizes of the dimensions; empty for a scalar.
    pub shape: Vec<u64>,
    /// As many finite values as the shape has coordinates.
    pub values: Vec<f32>,
}

/// How well the memory answered its held-out questions when it was saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallRecord {
    /// Which questions.
    pub probe_id: String,
    /// Fraction answered.
    pub score: f64,
    /// How many were asked.
    pub n: u64,
}

/// Everything that one generation says about a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryImage {
    /// Whose memory.
    pub shard: ShardId,
    /// Which memory.
    pub model: ModelRecord,
    /// Digest of the frozen initial parameters, without which the values mean nothing.
    pub base_digest: [u8; 32],
    /// Digest of the frozen main model, if the memory belongs to one.
    pub model_digest: Option<[u8; 32]>,
    /// The last chunk folded into the values.
    pub last_chunk_id: u64,
    /// Tokens read so far.
    pub tokens_seen: u64,
    /// Tokens surprising enough to be written.
    pub tokens_written: u64,
    /// Finite numbers that belong to no tensor, for example a scalar momentum.
    pub scalars: BTreeMap<String, f64>,
    /// The tensors, in an order that the caller chooses and gets back.
    pub tensors: Vec<TensorRecord>,
    /// The recall measured on these values, if it was.
    pub recall: Option<RecallRecord>,
    /// When the image was taken, in seconds since 1970.
    pub created_unix: u64,
    /// The generation that a rollback left behind, if this one is a rollback.
    pub rolled_back_from: Option<u64>,
    /// Anything else, for people.
    pub extra: BTreeMap<String, String>,
}

impl MemoryImage {
    /// A copy of everything but the tensors.
    pub(crate) fn without_tensors(&self) -> Self {
        Self {
            shard: self.shard,
            model: self.model.clone(),
            base_digest: self.base_digest,
            model_digest: self.model_digest,
            last_chunk_id: self.last_chunk_id,
            tokens_seen: self.tokens_seen,
            tokens_written: self.tokens_written,
            scalars: self.scalars.clone(),
            tensors: Vec::new(),
            recall: self.recall.clone(),
            created_unix: self.created_unix,
            rolled_back_from: self.rolled_back_from,
            extra: self.extra.clone(),
        }
    }

    /// Whether both images have the same tensors by name, role and shape.
    pub(crate) fn has_tensors_of(&self, other: &Self) -> bool {
        let tensors = |image: &Self| {
            let key = |t: &TensorRecord| (t.name.clone(), t.role, t.shape.clone(), t.values.len());
            image.tensors.iter().map(key).collect::<Vec<_>>()
        };
        tensors(self) == tensors(other)
    }

    /// Whether both images are the same bit for bit; if not, what differs.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        for (tensor, back) in self.tensors.iter().zip(&other.tensors) {
            let bits = tensor.values.iter().map(|value| value.to_bits());
            if !bits.eq(back.values.iter().map(|value| value.to_bits())) {
                return Some(format!("{} {:?}", tensor.role, tensor.name));
            }
        }
        // What is left of the values compares equal, whatever the sign of a zero.
        (self != other).then(|| "the header".to_owned())
    }
}

/// What the store adds to an image when it becomes a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the generation.
    pub sequence: u64,
    /// How many times the folder has been opened for writing.
    pub writer_epoch: u64,
    /// Number and digest of the generation before.
    pub parent: Option<(u64, [u8; 32])>,
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
