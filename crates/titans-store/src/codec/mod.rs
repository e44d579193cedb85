//! Images to bytes and back.

mod coordinates;
pub(crate) mod decode;
pub(crate) mod delta;
pub(crate) mod encode;
mod frame;
mod inspect;
mod planes;
mod precision;
pub(crate) mod tensor;
mod values;

pub use decode::{decode, decode_with};
pub use delta::{Changed, ImageDelta, TensorDelta};
pub use encode::{encode, encode_as};
pub(crate) use inspect::inspect_within;
pub use inspect::{FileSummary, SectionSummary, TensorSummary, inspect, inspect_with};
pub use precision::Precision;
