//! The key of one user, so that destroying it forgets the user everywhere at once.
//!
//! Each section of an encrypted file is sealed by itself with XChaCha20-Poly1305 under a
//! random nonce of 24 bytes. What the seal binds, beside the contents, is the preamble and
//! the row of the section table: no section can be moved to another place, file or owner.
//! Checksums cover the sealed bytes, so damage is found without the key.

use crate::format::limits::Limits;

/// Bytes that sealing adds: the nonce in front and the tag behind.
pub(crate) const SEAL_BYTES: u64 = 24 + 16;

/// What a reader may read: bounds, and the key of its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) key: Option<&'a UserKey>,
}

impl<'a> Access<'a> {
    /// Access without a key.
    pub(crate) fn plain(limits: &'a Limits) -> Self {
        Self { limits, key: None }
    }
}

#[cfg(feature = "encryption")]
pub use sealed::UserKey;
#[cfg(feature = "encryption")]
pub(crate) use sealed::{seal, unseal};

#[cfg(not(feature = "encryption"))]
pub use absent::UserKey;
#[cfg(not(feature = "encryption"))]
pub(crate) use absent::{seal, unseal};

#[cfg(feature = "encryption")]
mod sealed {
    use std::fmt;
    use std::fs::{File, OpenOptions};
    use std::io::{self, Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    use zeroize::Zeroizing;

    use crate::error::StoreError;

    const KEY_BYTES: usize = 32;
    const NONCE_BYTES: usize = 24;

    /// The secret that encrypts the memory of one user. It is wiped from RAM when dropped.
    #[derive(Clone)]
    pub struct UserKey(Zeroizing<[u8; KEY_BYTES]>);

    impl fmt::Debug for UserKey {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("UserKey(..)")
        }
    }

    impl UserKey {
        /// A new key from the randomness of the operating system.
        ///
        /// # Errors
        /// [`StoreError::NoRandomness`] when there is none.
        pub fn generate() -> Result<Self, StoreError> {
            let mut bytes = Zeroizing::new([0; KEY_BYTES]);
            random(bytes.as_mut_slice())?;
            Ok(Self(bytes))
        }

        /// The key with these bytes, from a key store of the caller's.
        pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
            Self(Zeroizing::new(bytes))
        }

        /// Writes the key to a new file for its owner only, and makes it durable.
        ///
        /// # Errors
        /// What the operating system says, for example that the file exists.
        pub fn write_new(&self, path: &Path) -> Result<(), StoreError> {
            let write = || {
                let mut options = OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)?;
                file.write_all(self.0.as_slice())?;
                file.sync_all()?;
                sync_parent(path)
            };
            write().map_err(io_error("write key", path))
        }

        /// Reads a key that [`UserKey::write_new`] wrote.
        ///
        /// # Errors
        /// [`StoreError::NotAKey`] for a file of another length, and what the operating
        /// system says.
        pub fn read(path: &Path) -> Result<Self, StoreError> {
            let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
            let read = File::open(path)
                .and_then(|file| file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes));
            read.map_err(io_error("read key", path))?;
            match bytes.first_chunk::<KEY_BYTES>() {
                Some(key) if bytes.len() == KEY_BYTES => Ok(Self::from_bytes(*key)),
                _ => Err(StoreError::NotAKey {
                    path: path.to_owned(),
                }),
            }
        }

        /// Overwrites and removes a key file. Without the key, every copy of every file it
        /// encrypted is noise, wherever the copy lies.
        ///
        /// Flash devices may keep the overwritten block for a while; a key store in hardware
        /// is stronger.
        ///
        /// # Errors
        /// What the operating system says. A file that is not there is no error.
        pub fn destroy(path: &Path) -> Result<(), StoreError> {
            let destroy = || {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.write_all(&[0; KEY_BYTES])?;
                file.sync_all()?;
                std::fs::remove_file(path)?;
                sync_parent(path)
            };
            match destroy() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome.map_err(io_error("destroy key", path)),
            }
        }
    }

    /// `plain` sealed for `bound`, with the nonce in front.
    pub(crate) fn seal(key: &UserKey, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let payload = Payload {
            msg: plain,
            aad: bound,
        };
        let sealed = cipher(key)
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StoreError::SelfCheck {
                field: "the length of a section to seal".to_owned(),
            })?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What [`seal`] was given; `None` for another key, other bytes or another place.
    pub(crate) fn unseal(key: &UserKey, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: bound,
        };
        cipher(key).decrypt(&XNonce::from(*nonce), payload).ok()
    }

    fn cipher(key: &UserKey) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*key.0).into())
    }

    fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
        getrandom::fill(bytes).map_err(|source| StoreError::NoRandomness {
            source: io::Error::other(source),
        })
    }

    fn sync_parent(path: &Path) -> io::Result<()> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io {
            action,
            path,
            source,
        }
    }
}

/// Without the feature there are no keys, and the compiler knows it.
#[cfg(not(feature = "encryption"))]
mod absent {
    use crate::error::StoreError;

    /// A key; there are none without the feature `encryption`.
    #[derive(Clone, Debug)]
    pub enum UserKey {}

    pub(crate) fn seal(key: &UserKey, _: &[u8], _: &[u8]) -> Result<Vec<u8>, StoreError> {
        match *key {}
    }

    pub(crate) fn unseal(key: &UserKey, _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        match *key {}
    }
}
