//! Long-term memory of constant size for inference engines and agents.
//!
//! `titanmem` keeps one small neural network for each user of your program. The network learns
//! pairs of vectors while it is used, is saved to a checksummed file after every chunk, and is
//! read by any number of threads while it learns; after a million tokens it is as large as after
//! one.
//!
//! # The life of a token
//!
//! ```text
//!  your program                titanmem                                        disk
//!  ------------                --------                                        ----
//!  observe(keys, values) ----> queue of the user ----> learner thread
//!    returns at once             bounded                 takes one chunk of 4096 tokens,
//!                                                        writes only what surprises the memory
//!                                                          |
//!                                                        publish: one pointer swap
//!                                                          |              |
//!       recall(queries) <----- newest snapshot <-----------+              saver thread
//!    waits for nobody            never changes                              encode, flush,
//!                                                                           rename ----> file
//!  ticket.wait() <------------------------------------------------------------- durable ---+
//! ```
//!
//! A *key* is what you will ask with, a *value* is what should come back. Both are rows of
//! numbers that you choose: embeddings, hidden states, keys and values of an attention layer. No
//! tensor library is in the signatures of the runtime: rows come in as slices of `f32`,
//! [`f16` or `bf16`](half).
//!
//! # Remember
//!
//! ```
//! use titanmem::{Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let runtime = Runtime::open(dir, RuntimeConfig::default())?;
//! let alice = runtime.user("alice")?;
//!
//! // Any embedding of 64 numbers will do; here are two made-up ones.
//! let key: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! let value: Vec<f32> = (0..64).map(|i| (i as f32).cos()).collect();
//! let ticket = alice.observe(Rows::row(&key), Rows::row(&value))?;
//! ticket.wait()?; // learned, and on disk
//!
//! let recalled = alice.recall(Rows::row(&key))?;
//! assert!(recalled.row(0).iter().zip(&value).all(|(r, v)| (r - v).abs() < 1e-3));
//! # Ok(())
//! # }
//! ```
//!
//! # Many users
//!
//! Each user has a memory of their own, in files of their own. When more users come than fit into
//! [`resident_bytes`](RuntimeConfig::resident_bytes), a memory that nobody holds a handle of is
//! saved and leaves; it is loaded again when it is asked for.
//!
//! ```
//! use titanmem::{Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let mut config = RuntimeConfig::default();
//! config.resident_bytes = 2 * config.bytes_per_user(); // room for two
//! let runtime = Runtime::open(dir, config)?;
//!
//! let row: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! for name in ["ada", "bob", "eve", "tom"] {
//!     let memory = runtime.user(name)?;
//!     memory.observe_item(1_u64, Rows::row(&row), Rows::row(&row))?;
//!     memory.flush()?;
//! }
//! assert_eq!(runtime.resident_users(), 2);
//! assert_eq!(runtime.user("ada")?.snapshot()?.items().count(), 1);
//!
//! let receipt = runtime.forget_user("eve")?.expect("there was a memory");
//! assert!(receipt.is_complete());
//! # Ok(())
//! # }
//! ```
//!
//! # A layer in a Burn model
//!
//! The same memory is a [layer](layers) that can be trained. One word, [`Wiring`](layers::Wiring),
//! says how it stands beside attention.
//!
//! ```
//! use titanmem::burn;
//! use titanmem::burn::module::{Module, Param};
//! use titanmem::burn::tensor::Tensor;
//! use titanmem::layers::{
//!     BlockConfig, Initial, KeyConfig, LayerConfig, LayerState, Reads, Target, TitansLayer, Wiring,
//! };
//!
//! #[derive(Module, Debug)]
//! struct Model {
//!     memory: TitansLayer,
//!     head: Param<Tensor<2>>,
//! }
//!
//! impl Model {
//!     /// `[batch, tokens, 32]` to `[batch, tokens, 10]`; `state` goes from piece to piece.
//!     fn forward(&self, rows: Tensor<3>, state: &mut LayerState) -> Tensor<3> {
//!         let output = self.memory.forward(rows, state, &Reads::All, None);
//!         output.expect("finite rows").rows.matmul(self.head.val().unsqueeze())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut memory = titanmem::Preset::Titans.config();
//! (memory.key_dim, memory.value_dim) = (16, 16);
//! let config = LayerConfig {
//!     wiring: Wiring::Mag, // memory as a gate beside sliding-window attention
//!     block: BlockConfig {
//!         dim: 32,
//!         memory,
//!         keys: KeyConfig::Dense { kernel: 4, largest_step: 0.02 },
//!         target: Target::Same,
//!         write_gate: None, // every token is written
//!         gathered: 0,
//!     },
//!     heads: 2,
//!     head_dim: 16,
//!     window: 64,
//!     persistent: 4,
//! };
//! let device = titanmem::Device::Cpu.open()?;
//! let mut initial = Initial::new(1, &device); // parameters from a seed
//! let model = Model {
//!     memory: TitansLayer::new(config, &mut initial)?,
//!     head: initial.matrix(32, 10, 1.0),
//! };
//!
//! let mut state = model.memory.initial_state(2); // two texts at once
//! for _piece in 0..3 {
//!     let rows = initial.normal([2, 20, 32], 1.0);
//!     assert_eq!(model.forward(rows, &mut state).dims(), [2, 20, 10]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A hook in an engine
//!
//! An engine that moves rows out of its KV cache can hand them over at that moment, in the type
//! and with the stride that they have, and ask the memory for them later.
//!
//! ```
//! use titanmem::half::bf16;
//! use titanmem::{ObserveError, Rows, Runtime, RuntimeConfig, UserMemory};
//!
//! /// Rows of one head that leave the cache: `dim` numbers each, the beginnings of two rows
//! /// `stride` numbers apart.
//! fn on_evict(
//!     memory: &UserMemory,
//!     (keys, values): (&[bf16], &[bf16]),
//!     (dim, stride): (usize, usize),
//! ) -> Result<(), ObserveError> {
//!     let rows = |data| Rows::matrix(data, dim).with_row_stride(stride);
//!     // Dropping the ticket cancels nothing. Only a full queue makes this wait.
//!     memory.observe(rows(keys), rows(values))?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let dir = root.path().join("memories");
//! let runtime = Runtime::open(dir, RuntimeConfig::default())?;
//! let sequence = runtime.user("sequence 7")?;
//!
//! // Two heads of 64 numbers beside each other in every row; the first head is handed over.
//! let number = |i: usize| bf16::from_f32((i as f32 * 12.9898).sin() * 43_758.547 % 1.0);
//! let keys: Vec<bf16> = (0..8 * 128).map(number).collect();
//! let values: Vec<bf16> = (8 * 128..16 * 128).map(number).collect();
//! on_evict(&sequence, (&keys, &values), (64, 128))?;
//! sequence.flush()?; // tests and shutdown need this, an engine does not
//!
//! let mut read = vec![0.0; 64]; // may be used again and again
//! sequence.recall_into(Rows::row(&keys[..64]), &mut read)?;
//! let error = |(r, v): (&f32, &bf16)| (r - v.to_f32()).powi(2);
//! let length: f32 = values[..64].iter().map(|v| v.to_f32().powi(2)).sum();
//! assert!(read.iter().zip(&values).map(error).sum::<f32>() < 0.1 * length);
//! # Ok(())
//! # }
//! ```
//!
//! # Which preset
//!
//! A [`Preset`] is a named choice of architecture, error, forgetting and step. Start with
//! `sparse`.
//!
//! | you want | take |
//! | --- | --- |
//! | facts that are stated once, recalled after a long text | [`sparse`](Preset::Sparse), the default |
//! | the smallest state, equations that can be checked on paper | [`delta`](Preset::Delta) |
//! | a memory inside a model that you train | [`titans`](Preset::Titans), [`yaad`](Preset::Yaad), [`moneta`](Preset::Moneta), [`memora`](Preset::Memora); [`lact`](Preset::Lact) for large chunks |
//! | the seed article to the letter, for comparison | [`article`](Preset::Article); it recalls nothing, and its page says why |
//!
//! How much each of them recalls is in [`guide::recall`].
//!
//! # What it is not
//!
//! - Not a database. Beyond the newest items of its [ledger](LedgerConfig) a memory cannot list
//!   what it knows, return stored text, or promise that a given fact survives.
//! - Not better than a flat vector index at exact recall of a few thousand vectors.
//! - Not an embedder and not a language model: keys and values are yours.
//!
//! # Where to read on
//!
//! | question | page |
//! | --- | --- |
//! | What survives a crash, a full disk, a damaged file? | [`guide::durability`] |
//! | How much fits, and how is recall watched? | [`guide::recall`] |
//! | Which setting changes recall, speed or size, and how is it written in a file? | [`guide::tuning`] |
//! | How is it sized, backed up, watched, restored, upgraded? | [`guide::operations`] |
//! | What is protected, and what is not? | [`guide::security`] |
//! | Users, tickets, threads, metrics | [`runtime`] |
//! | How does an asynchronous program wait? | [its section there](runtime#asynchronous-programs) |
//! | The mathematics by itself, and every choice of a configuration | [`memory`] |
//! | Layers of a model | [`layers`] |
//! | Files, generations, backups | [`store`] |
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | (none) | the CPU backend, nothing to install |
//! | `wgpu` | devices behind Vulkan, Metal or DX12 |
//! | `cuda` | CUDA devices; the build links LLVM 23, which it downloads |
//!
//! It needs Rust 1.95 or newer and a 64-bit Unix; Linux on x86-64 is what is built and tested.
#![forbid(unsafe_code)]

pub mod guide;
pub mod layers;
pub mod memory;

#[doc(inline)]
pub use {titans_runtime as runtime, titans_store as store};

// The names that most programs need have their pages here.
#[doc(inline)]
pub use titans_core::{ComputeDevice as Device, MemoryConfig, Preset};
#[doc(inline)]
pub use titans_runtime::{
    Durability, ItemId, MemorySnapshot, RecallInfo, Recalled, Rows, Runtime, RuntimeConfig,
    RuntimeError, SettingsError, Ticket, UserId, UserMemory, WhenFull,
};

// These have their pages in the modules.
#[doc(no_inline)]
pub use memory::{ConfigError, MirasConfig, Products};
#[doc(no_inline)]
pub use runtime::{
    Alert, AlertKind, AlertSink, Alerts, BackupConfig, BackupDriver, BackupFailure, BackupSummary,
    CloseReport, Element, ForgetReceipt, ForgottenItem, Health, Latency, LedgerConfig, Neighbour,
    OnDrop, ProbeScore, Progress, Rebuilt, RecallWatch, Resumed, RolledBack, SettingName, ShardId,
    Stats, StoredItem, StoredUser, TickReport, TicketFuture, UserReport, Users, describe_metrics,
};
#[doc(no_inline)]
pub use runtime::{
    CommandError, ExistingError, IoError, ObserveError, OpenError, RecallError, RowsError, Stopped,
    WaitError,
};
#[doc(no_inline)]
pub use store::{FolderMode, StoreConfig, StoreError};

// The crates whose types are in public signatures, in the versions that fit.
#[doc(no_inline)]
pub use {burn, half};

#[doc(no_inline)]
pub use {titans_core, titans_runtime, titans_store};

/// The program on the page of the repository is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(test)]
mod tests {
    /// The program on the page of the repository is the one that runs.
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/remember.rs");
        let (_, program) = example.split_once('\n').expect("a line of documentation");
        assert!(include_str!("../README.md").contains(program));
    }
}
