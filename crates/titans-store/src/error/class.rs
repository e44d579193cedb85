//! What to do about an error: sorted by who or what can mend it.

use std::io;

use rustix::io::Errno;

use super::StoreError;

/// What an error is about, and so who can mend it.
///
/// Beside the class, [`StoreError::may_heal`] says whether the same call can succeed later
/// without anybody changing what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// What was handed over, or a file from elsewhere, is not acceptable: another owner, key,
    /// model or version, numbers that are not finite, a limit. The same again fails the same.
    Input,
    /// The place: the disk is full or fails, a name or a permission is not there, too many
    /// files are open, a flush failed, another process has the folder.
    Place,
    /// Bytes are not what was written. An older generation or a backup is the way on.
    Damage,
    /// The store is used in a way that it must refuse: a forgotten folder, a folder that
    /// already holds a memory, a pin that is not there, a writer that was overtaken. The
    /// program has to do something else.
    Misuse,
}

impl StoreError {
    /// What the error is about.
    pub fn class(&self) -> ErrorClass {
        match self.cause() {
            Self::Io { .. }
            | Self::NotDurable { .. }
            | Self::NoRandomness { .. }
            | Self::Locked { .. }
            | Self::NoLocks { .. }
            | Self::OpenToOthers { .. }
            | Self::NetworkFolder { .. } => ErrorClass::Place,
            Self::BackupDigest { .. } | Self::BackupLayout { .. } | Self::SelfCheck { .. } => {
                ErrorClass::Damage
            }
            Self::Overtaken { .. }
            | Self::Replayed { .. }
            | Self::NoSuchGeneration { .. }
            | Self::NothingPinned { .. }
            | Self::NotEmpty { .. }
            | Self::Forgotten { .. }
            | Self::ReadOnly { .. }
            | Self::HeaderUnwritable { .. } => ErrorClass::Misuse,
            damage if damage.is_damage() => ErrorClass::Damage,
            _ => ErrorClass::Input,
        }
    }

    /// Whether the same call may succeed later, when the place has recovered: room on a full
    /// disk (`ENOSPC`, `EDQUOT`), file handles (`EMFILE`, `ENFILE`) or memory (`ENOMEM`) that
    /// were short, a device that failed (`EIO`), a place that was mounted read-only for a
    /// while (`EROFS`) or does not answer, a flush that failed, a lock that another process
    /// still holds.
    ///
    /// After such an error of a save, the same open store can be asked again at any time: what
    /// was acknowledged before is untouched, the number of the failed save is spent, and the
    /// next save is a whole file, so it builds on nothing of which nobody knows whether it is
    /// there. Nothing need be opened again, after [`StoreError::NotDurable`] neither.
    pub fn may_heal(&self) -> bool {
        match self.cause() {
            Self::Io { source, .. } => is_passing(source),
            Self::NotDurable { .. } | Self::NoRandomness { .. } | Self::Locked { .. } => true,
            _ => false,
        }
    }

    /// Whether the bytes are bad, so that an older generation should take their place.
    ///
    /// A file that is merely too new, too large for this host or another shard's is not
    /// damaged: falling back from it would silently lose what it holds. Undefined codes
    /// count as too new, because they are only reached once the checksums match.
    pub fn is_damage(&self) -> bool {
        match self.cause() {
            Self::Io { source, .. } => source.raw_os_error() == Some(Errno::IO.raw_os_error()),
            Self::NotTitanmem { .. }
            | Self::TooShort { .. }
            | Self::NotZero { .. }
            | Self::Mismatch { .. }
            | Self::Checksum { .. }
            | Self::Digest { .. }
            | Self::Misplaced { .. }
            | Self::HeaderEncoding { .. }
            | Self::HeaderField { .. }
            | Self::Frame { .. }
            | Self::Coordinates { .. }
            | Self::NotFinite { .. }
            | Self::Record { .. }
            | Self::Orphan { .. }
            | Self::BadDelta { .. }
            | Self::WrongSequence { .. } => true,
            _ => false,
        }
    }

    /// Whether the disk or the quota is full.
    pub(crate) fn is_out_of_space(&self) -> bool {
        match self.cause() {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Whether a file was not there.
    pub fn is_not_found(&self) -> bool {
        match self.cause() {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// Whether an error of the operating system can pass by itself: no room, too few file handles,
/// a device or a network that does not answer.
pub fn is_passing(error: &io::Error) -> bool {
    let by_kind = matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::WriteZero
    );
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    let by_number = matches!(
        number,
        Some(Errno::IO | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NXIO | Errno::NODEV)
    );
    by_kind || by_number
}
