//! Images to bytes and back.

pub(crate) mod decode;
pub(crate) mod encode;
mod frame;
mod inspect;
mod planes;
mod sparse;

pub use decode::decode;
pub use encode::encode;
pub use inspect::{FileSummary, SectionSummary, TensorSummary, inspect};
