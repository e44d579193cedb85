//! Every setting that changes recall, speed or size.
//!
//! Change one at a time, on your own rows. Numbers in the tables are measured; the page that has
//! them says by which command and on which machine: [docs/recall.md], [docs/benchmarks.md]. Where
//! there is a direction and no number, none was measured.
//!
//! **A memory on disk belongs to its configuration.** A folder whose memory has another
//! architecture, error, gate, step, update schedule, width or seed is refused with
//! [`OtherMemory`](crate::OpenError::OtherMemory). So the settings of the first table are
//! chosen before the first row is learned; those of the other tables may change whenever the
//! runtime is opened.
//!
//! # The memory: [`MemoryConfig`](crate::MemoryConfig)
//!
//! Defaults are those of the preset `sparse`.
//!
//! | setting | meaning | default | effect |
//! | --- | --- | --- | --- |
//! | `key_dim`, `value_dim` | numbers in a key and in a value | 64, 64 | wider values: proportionally more state, slower recall. Wider keys: slower recall, no more learned state in `sparse`, more in every other memory. A recall at width 1024 took 879 us with 8192 channels and 57 us with 1024 |
//! | `seed` | draws the frozen parameters and initial weights | 0 | another memory with the same properties |
//! | `miras.architecture`: [`channels`](crate::memory::SparseChannelMlp) | rows of the memory | 8192 | more: more pairs fit, proportionally more state, slower recall. With 64 channels 121 pairs fit, with 8192 12 709 |
//! | [`active_channels`](crate::memory::SparseChannelMlp) | rows that one token reads and writes | 64 | more: a token touches more of the state, so larger journal records, slower writes and recalls |
//! | `miras.learning_algorithm`: [`step_size`](crate::memory::NormalisedStep) | fraction of the error that a write removes | 1 | smaller: more pairs fit (22 182 at 0.3), but a pair is known only after several writes, so more is written (3.27 % instead of 1.62 % of a stream of 65 536 repeating tokens) |
//! | `update`: [`surprise_threshold`](crate::memory::UpdateConfig::surprise_threshold) | relative error that a token must exceed to be written | 0.6 | higher: less is written, so old pairs stay longer, and similar pairs are taken for known. 0 writes everything: at a step of 0.3, 53.1 % of the needles were left after 1 048 576 tokens, with 0.6 all |
//! | `miras.retention_gate`: [`offset`](crate::memory::SurpriseSigmoid) | how little a written row forgets | 9, which is 0.01 % | smaller: forgets more of what it writes over |
//! | [`gain`](crate::memory::SurpriseSigmoid) | how much more it forgets when the stream surprises | 0.8 | larger: forgets more in surprising stretches |
//! | [`smoothing`](crate::memory::SurpriseSigmoid) | decay of the smoothed surprise | 0.9 | larger: reacts more slowly |
//! | `update`: [`forget_scope`](crate::memory::ForgetScope) | which coordinates forget | written ones | `Dense`: everything fades, also what is not written |
//! | [`update_size`](crate::memory::UpdateConfig::update_size) | tokens whose gradients are taken at the same weights | 1 | part of what the memory is, not a setting of speed; `sparse` is fast at 1 |
//! | [`sparse_gate`](crate::memory::SparseGate) | share of the gradient that is kept | all | smaller: fewer weights change, smaller journal records |
//! | [`max_gradient_norm`](crate::memory::UpdateConfig::max_gradient_norm) | soft bound of the gradient | none | smaller: large errors write less |
//!
//! The presets with momentum have [`momentum_decay`](crate::memory::Momentum) besides: larger
//! carries surprise further into later tokens, and asks for a smaller step.
#![doc = include_str!("../../docs/parameters.md")]
//!
//! # The runtime: [`RuntimeConfig`](crate::RuntimeConfig)
//!
//! | setting | meaning | default | effect |
//! | --- | --- | --- | --- |
//! | `chunk_tokens` | tokens between two published snapshots | 4096 | smaller: readers see rows sooner, more saves for each token; what is learned is the same |
//! | `queue_tokens` | tokens of one user that may wait | 16 384 | larger: bursts are taken without waiting, more bytes for each open memory |
//! | `when_full` | what `observe` does when they would not fit | wait; [`observe_async`](crate::UserMemory::observe_async) does so without a thread | `Busy`: an error at once, and the caller decides |
//! | `durability` | when snapshots are saved | every chunk | see [`guide::durability`](super::durability) |
//! | `resident_bytes` | budget of all open memories | 4 GiB | larger: fewer memories leave and are loaded again |
//! | `learners` | threads that learn | 1 | more: users are learned beside each other; one for each device of `more_devices` |
//! | `learn_batch` | users whose chunks are learned together | 16, or 1 for memories that are written row by row on a CPU | in batches of 16, `titans` learned 2.07 times the chunks at 8 users and 128 tokens; `sparse` 1.02 times |
//! | `compute_threads` | threads of the pool that learns | one for each core | fewer: leaves cores to your program |
//! | `savers` | threads that save | 1 | more: users are saved beside each other; each needs about twelve times a state while it saves |
//! | `recall_watch` | the watch over recall | 512 probes, every 2048 tokens | `None`: 1.27 times the chunks with `sparse` and one user, no alert, no confidence |
//! | `ledger.max_bytes` | room for named items | 1 MiB, some 2100 items | smaller: older items lose their names; what they taught stays |
//! | `ledger.replay_bytes` | tokens kept on disk for [exact forgetting](crate::UserMemory::rebuild) | 0 | above 0: 4 bytes a number on disk, and one more flush for each save |
//! | `device`, `more_devices` | where it computes | the CPU | the GPU kernels have not been run on CUDA yet |
//! | `products` | type of matrix products in dense memories | `F32` | `Bf16` with AVX512-BF16: 1.6 to 2.0 times the tokens in updates of 64 tokens or more; without it slower than f32 |
//!
//! # The files: [`StoreConfig`](crate::StoreConfig)
//!
//! | setting | meaning | default | effect |
//! | --- | --- | --- | --- |
//! | `keep_old` | generations that stay behind the newest | 3 | more: more disk, more to fall back to |
//! | `mode`: [`SaveMode`](crate::store::SaveMode) | a whole file or a journal record | by size: a journal above 8 MiB | a record of 2 % of a million weights took 131 872 bytes; the whole file, with momenta in 16 bits, 5 044 864 |
//! | `precision`: [`Precision`](crate::store::Precision) | what a save rounds | nothing | `ExactWeights`: momenta in 16 bits, about a quarter less. `Compact`: everything in 16 bits, for idle users and export only; small changes are lost with every save |
//! | `delta_check` | whether an account of changes is checked | it is believed | `Compare` costs more than the save; for tests |
//! | `limits` | what is accepted from a file | 256 MiB, 16 Mi values | larger memories need larger limits |
//!
//! # As a file
//!
//! [`RuntimeConfig::read`](crate::RuntimeConfig::read) reads a file in TOML, or in JSON if its name
//! ends so; [`from_toml`](crate::RuntimeConfig::from_toml) and
//! [`to_toml`](crate::RuntimeConfig::to_toml) are for texts. What the file does not name keeps its
//! default. These are all tables; each key has the name of its field.
//!
//! ```
//! use titanmem::RuntimeConfig;
//!
//! let config = RuntimeConfig::from_toml(
//!     r#"
//!     [memory]
//!     preset = "sparse"           # and what is to be other than it says:
//!     key_dim = 128
//!     surprise_threshold = 0.5    # a name of the article, or our own: update.surprise_threshold
//!
//!     [memory.architecture]       # also attentional_bias, retention_gate, learning_algorithm
//!     channels = 4096             # another `name = ".."` asks for all of its parameters
//!
//!     [runtime]
//!     device = "cpu"              # auto, cpu, cuda, cuda:N, wgpu
//!     chunk_tokens = 512
//!     when_full = "busy"          # or "block"
//!     durability = "interval:5s"  # or "every-chunk", "async:4"
//!     resident_bytes = "8GiB"     # or a whole number of bytes
//!     compute_threads = "auto"    # or a whole number
//!
//!     [ledger]
//!     replay_bytes = "64MiB"
//!
//!     [recall_watch]              # enabled = false for none
//!     on_drop = "roll-back"
//!
//!     [store]                     # its limits are max_file_bytes and max_params
//!     mode = "by-size:8MiB"       # or "snapshot", "journal"
//!
//!     [backups]                   # without this table there are none
//!     dir = "/backups/titanmem"
//!     every = "24h"
//!     driver = "thread:5m"        # or "program"
//!     "#,
//! )?;
//! assert_eq!(config.memory.key_dim, 128);
//! # Ok::<(), titanmem::SettingsError>(())
//! ```
//!
//! Sizes have the units KiB, MiB, GiB and TiB, durations ns, us, ms, s, m, h and d, after a whole
//! number. An unknown key is refused with the nearest known one, a wrong value with what is
//! expected; NaN and infinity are no values. What is code is in no file: alerts, and the attachment
//! of backups. `RuntimeConfig` is also `Serialize` and `Deserialize`, in the same form.
//!
//! The memory of a folder is in its files: `titanmem inspect --config memories` prints it as such a
//! text, and [`Runtime::open_existing`](crate::Runtime::open_existing) opens the folder without one.
//!
//! # From the environment
//!
//! [`RuntimeConfig::overridden_by_environment`](crate::RuntimeConfig::overridden_by_environment)
//! reads the same settings from variables: `TITANMEM_`, the table, the key, without the table for
//! `[memory]` and `[runtime]`. So `TITANMEM_CHUNK_TOKENS=512`, `TITANMEM_LEDGER_MAX_BYTES=4MiB`,
//! `TITANMEM_UPDATE_FORGET=dense`, `TITANMEM_TOP_K_RATIO=0.02`. A variable that begins so and is no
//! setting is refused, but for those that other parts of the library read.
//!
//! The variable `TITANMEM_SIMD` takes narrower vectors for the loops of this library: slower,
//! with the same bits. Which processors have which speed: [docs/platforms.md].
//!
//! [docs/recall.md]: https://github.com/titanmem/titanmem/blob/main/docs/recall.md
//! [docs/benchmarks.md]: https://github.com/titanmem/titanmem/blob/main/docs/benchmarks.md
//! [docs/platforms.md]: https://github.com/titanmem/titanmem/blob/main/docs/platforms.md
