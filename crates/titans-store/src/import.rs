//! Memories of strangers: tighter limits, a new owner, and a mark that stays.
//!
//! A file that passes is well formed and within bounds. It may still steer the model it is
//! given to: format checks are not trust, and the host should probe it before its first use.

use crate::codec::decode::decode_all;
use crate::error::StoreError;
use crate::format::limits::Limits;
use crate::image::{MemoryImage, ShardId, TensorRecord, hex};
use crate::key::Access;

/// What an import accepts.
#[derive(Clone, Copy, Debug)]
pub struct ImportRules<'a> {
    /// Bounds on the file. [`Limits::untrusted`] unless there is a reason.
    pub limits: Limits,
    /// Largest absolute value of a weight or momentum. Trained weights stay below ten.
    pub max_value: f32,
    /// Largest root mean square of a tensor.
    pub max_rms: f64,
    /// Digest of the frozen initial parameters that this host has.
    pub base_digest: [u8; 32],
    /// Digest of the frozen model of this host, if memories here belong to one.
    pub model_digest: Option<[u8; 32]>,
    /// Names and shapes of the weights that this host expects.
    pub weights: &'a [(&'a str, &'a [u64])],
    /// A key shared with whoever made the file, and the keyed BLAKE3 digest that came with it.
    pub proof: Option<(&'a [u8; 32], [u8; 32])>,
}

impl<'a> ImportRules<'a> {
    /// The rules of a host with this base and these weights.
    pub fn new(base_digest: [u8; 32], weights: &'a [(&'a str, &'a [u64])]) -> Self {
        Self {
            limits: Limits::untrusted(),
            max_value: 100.0,
            max_rms: 10.0,
            base_digest,
            model_digest: None,
            weights,
            proof: None,
        }
    }
}

/// Reads a memory that comes from outside and makes it one of `owner`.
///
/// What a host must not take over goes: who it belonged to, its recall score, and whether it
/// was rolled back. `extra` says `provenance = imported`, whatever the file said.
///
/// # Errors
/// As [`decode`](crate::decode), and one of [`StoreError::WrongProof`],
/// [`StoreError::WrongOrigin`], [`StoreError::TooLarge`] and [`StoreError::TooLoud`].
pub fn import_untrusted(
    bytes: &[u8],
    owner: ShardId,
    rules: &ImportRules<'_>,
) -> Result<MemoryImage, StoreError> {
    if let Some((key, expected)) = rules.proof {
        let found = blake3::keyed_hash(key, bytes);
        // The comparison of `blake3::Hash` takes the same time for every difference.
        if found != blake3::Hash::from_bytes(expected) {
            return Err(StoreError::WrongProof {
                expected: hex(&expected),
                found: hex(found.as_bytes()),
            });
        }
    }
    let mut image = decode_all(bytes, Access::plain(&rules.limits))?.image;
    origin(
        "base_digest",
        &hex(&rules.base_digest),
        &hex(&image.base_digest),
    )?;
    let digest = |digest: Option<[u8; 32]>| digest.map_or("none".to_owned(), |digest| hex(&digest));
    let (expected, found) = (digest(rules.model_digest), digest(image.model_digest));
    origin("model_digest", &expected, &found)?;
    let weights = image.tensors.iter();
    let weights = weights.filter(|tensor| tensor.role == crate::image::TensorRole::Weights);
    let found: Vec<_> = weights
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    origin(
        "theta_shape",
        &format!("{:?}", rules.weights),
        &format!("{found:?}"),
    )?;
    image
        .tensors
        .iter()
        .try_for_each(|tensor| check_values(tensor, rules))?;
    image.shard = owner;
    image.recall = None;
    image.rolled_back_from = None;
    image
        .extra
        .insert("provenance".to_owned(), "imported".to_owned());
    Ok(image)
}

fn origin(field: &'static str, expected: &str, found: &str) -> Result<(), StoreError> {
    if expected != found {
        return Err(StoreError::WrongOrigin {
            field,
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    }
    Ok(())
}

fn check_values(tensor: &TensorRecord, rules: &ImportRules<'_>) -> Result<(), StoreError> {
    let field = || format!("{} {:?}", tensor.role, tensor.name);
    let too_large = |value: &&f32| value.abs() > rules.max_value;
    let mut values = tensor.values.iter().enumerate();
    if let Some((index, &found)) = values.find(|(_, value)| too_large(value)) {
        return Err(StoreError::TooLarge {
            field: field(),
            index: index as u64,
            limit: rules.max_value,
            found,
        });
    }
    let squares: f64 = tensor
        .values
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    let rms = (squares / tensor.values.len().max(1) as f64).sqrt();
    if rms > rules.max_rms {
        return Err(StoreError::TooLoud {
            field: field(),
            limit: rules.max_rms,
            found: rms,
        });
    }
    Ok(())
}
