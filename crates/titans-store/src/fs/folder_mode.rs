//! Who besides its owner may use a folder.

/// Who besides its owner may use the folders of memories.
///
/// Nobody, unless this says otherwise: whoever can write into a folder can put a memory in it.
/// On a volume that several processes share through a group (`fsGroup` of Kubernetes gives
/// every folder `g+rwxs`), say [`Group`](Self::Group). What is created in a folder that its
/// group may write then gets the rights of the group that the folder has, whatever the umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolderMode {
    /// Folders that anybody else may write are refused.
    #[default]
    OwnerOnly,
    /// Folders that the group may write are accepted, and shared with it. Those that everybody
    /// may write are refused.
    Group,
}

impl FolderMode {
    /// The permission bits of a folder for which it is refused.
    pub fn refused_bits(self) -> u32 {
        match self {
            Self::OwnerOnly => 0o022,
            Self::Group => 0o002,
        }
    }
}
