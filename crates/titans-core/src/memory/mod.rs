//! The memory itself: read, write, and what a write reports.

mod advance;
mod chunkwise;
mod config;
mod delta_rule;
mod descriptor;
mod host_state;
mod learned;
mod neural_memory;
mod pass;
mod passed;
mod per_token;
mod read;
mod recurrent;
mod rows;
mod rules;
mod sparse_gate;
mod state;
mod state_delta;
mod stream;
mod surprise;
mod tokens;
mod update;
mod updated;
mod write;

pub use config::MemoryConfig;
pub use delta_rule::{DecayOrder, DeltaChunk, DeltaResult, delta_chunk};
pub use descriptor::MemoryDescriptor;
pub use host_state::{HostState, StateRole, StateTensor};
pub use neural_memory::NeuralMemory;
pub use passed::{Form, Passed, ReadTime, Reading, Tail};
pub use state::{MemoryState, WriteReport};
pub use state_delta::{SparseDelta, StateDelta};
pub use tokens::{GateValues, TokenGates, Tokens};
pub use update::{ForgetScope, GateSpan, GradientBase, Reduction, SparseGate, UpdateConfig};
