//! The operations of a memory that may have a faster form elsewhere.
//!
//! For sparse memories [`TensorOps`] is the reference: the equations, token by token, on dense
//! tensors. Dense memories are tensor operations all through ([`NeuralMemory`]), which is
//! theirs; [`MemoryOps::dense`] puts something faster in the place of an update and a read.
//! [`HostOps`] is what runs by default; [`RoundedHostOps`] makes the products of dense memories
//! in fewer bits. A GPU crate adds its own [`MemoryOps`]; a test
//! holds every implementation against the reference.
//!
//! [`NeuralMemory`]: crate::NeuralMemory

mod changes;
mod coefficients;
mod dense;
mod expansion;
mod finite;
mod host;
mod host_activation;
mod host_dense;
mod host_rounded;
mod host_tensor;
mod largest;
mod memory_ops;
mod products;
mod relative_error;
mod sparse;
mod tensor;
mod top_k;

pub use changes::Changes;
pub use coefficients::UpdateCoefficients;
pub use dense::{DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated};
pub use expansion::Expansion;
pub use host::HostOps;
pub use host_rounded::RoundedHostOps;
pub use memory_ops::MemoryOps;
pub use products::Products;
pub use relative_error::{LARGEST_RELATIVE_ERROR, relative_error};
pub use sparse::{ActiveChannels, WriteRule, Written};
pub use tensor::TensorOps;
pub use top_k::top_k_into;

pub(crate) use coefficients::products;
pub(crate) use host_tensor::{HostTensor, host_floats};
pub(crate) use largest::where_kept;
pub(crate) use relative_error::{energy, relative, relative_errors, root};
