//! The JSON and the names of the OCI image layout, as far as a backup uses them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::image::hex;

pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX_FILE: &str = "index.json";
pub(super) const PAD_FILE: &str = "pad";
const BLOBS: &str = "blobs/sha256/";

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.titanmem.backup.v1";
pub(super) const CONFIG_TYPE: &str = "application/vnd.titanmem.config.v1";
pub(super) const MEMORY_TYPE: &str = "application/vnd.titanmem.memory.v1";
pub(super) const MODEL_TYPE: &str = "application/vnd.titanmem.model.v1";

pub(super) const SHARD: &str = "titanmem.shard";
pub(super) const GENERATION: &str = "titanmem.generation";
/// Set on the layer of a model that the backup only names.
pub(super) const REFERENCE: &str = "titanmem.reference";

/// Bytes of index or manifest; ours take under two thousand.
pub(super) const MAX_JSON: u64 = 64 << 10;
/// Bytes of a configuration.
pub(super) const MAX_CONFIG: u64 = 16 << 20;
/// Entries of the tar file; ours has seven.
pub(super) const MAX_ENTRIES: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    pub(super) media_type: String,
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: String,
    #[serde(default)]
    pub(super) artifact_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, &hex(&Sha256::digest(bytes)), bytes.len() as u64)
    }

    pub(super) fn new(media_type: &str, sha256: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{sha256}"),
            size,
            annotations: BTreeMap::new(),
        }
    }

    /// The digest without its algorithm; `None` when it is not 64 lower-case digits of
    /// SHA-256.
    pub(super) fn sha256(&self) -> Option<&str> {
        let digits = self.digest.strip_prefix("sha256:")?;
        is_digest(digits).then_some(digits)
    }

    pub(super) fn is_reference(&self) -> bool {
        self.annotations.contains_key(REFERENCE)
    }
}

fn is_digest(digits: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.len() == 64 && digits.bytes().all(is_hex)
}

/// The name of the blob with this digest.
pub(super) fn blob_name(sha256: &str) -> String {
    format!("{BLOBS}{sha256}")
}

/// The digest in the name of a blob.
pub(super) fn blob_digest(name: &str) -> Option<&str> {
    name.strip_prefix(BLOBS).filter(|digits| is_digest(digits))
}

/// Hashes what passes through, with both digests by which a memory may know its model.
pub(super) struct Hashing<T> {
    inner: T,
    sha256: Sha256,
    blake3: blake3::Hasher,
    bytes: u64,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            sha256: Sha256::new(),
            blake3: blake3::Hasher::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    pub(super) fn finish(self) -> Hashes {
        Hashes {
            sha256: self.sha256.finalize().into(),
            blake3: *self.blake3.finalize().as_bytes(),
            bytes: self.bytes,
        }
    }
}

/// Digests and length of what passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) sha256: [u8; 32],
    pub(super) blake3: [u8; 32],
    pub(super) bytes: u64,
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.add(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only what was written: a short write is not hashed twice.
        let len = self.inner.write(bytes)?;
        self.add(bytes.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
