//! What the bytes of a file mean. Nothing here touches a disk or a compressor.

pub(crate) mod carried;
pub(crate) mod container;
pub(crate) mod fields;
pub(crate) mod header;
pub(crate) mod layout;
pub(crate) mod limits;
pub(crate) mod preamble;
pub(crate) mod section;
pub(crate) mod trailer;
