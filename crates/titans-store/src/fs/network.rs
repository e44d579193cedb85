//! Whether a folder lies on a network file system.

use std::io;

use super::disk::DiskStorage;

/// Network file systems by the number that `statfs(2)` gives.
#[cfg(target_os = "linux")]
const NETWORK: [(u32, &str); 7] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
];

impl DiskStorage {
    /// The kind of network file system that the folder lies on, if it does.
    pub(crate) fn network_file_system(&self) -> io::Result<Option<&'static str>> {
        #[cfg(target_os = "linux")]
        {
            let magic = rustix::fs::fstatfs(&self.folder)?.f_type;
            // The numbers are those of `statfs(2)`; the type differs between machines.
            #[allow(clippy::unnecessary_cast)]
            let kind = NETWORK.iter().find(|(number, _)| *number == magic as u32);
            Ok(kind.map(|(_, kind)| *kind))
        }
        #[cfg(not(target_os = "linux"))]
        Ok(None)
    }
}
