//! What the shards of one runtime share: its configuration, the memory on each device, where
//! the files are, and what is counted. It knows no shard and no thread that serves one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::alert::AlertLine;
use crate::checkpoint::MemoryIdentity;
use crate::compute::Compute;
use crate::config::{Durability, RuntimeConfig, WhenFull};
use crate::devices::Memories;
use crate::error::{OpenError, Stopped};
use crate::metric::describe_metrics;
use crate::stats::{Meters, Timers};

/// On two cores up to twice as fast as one after the other for a dense memory. A larger batch
/// keeps its users waiting longer.
const LEARN_BATCH: usize = 16;

/// How much may wait in front of the learner and behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) chunk_tokens: usize,
    pub(crate) queue_tokens: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) durability: Durability,
    /// Bytes of a ledger, at most.
    pub(crate) ledger_bytes: usize,
    /// Whether the buffers of a replaced snapshot are of use for the next one.
    pub(crate) keep_replaced: bool,
}

/// What every shard of a runtime needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: RuntimeConfig,
    pub(crate) bounds: Bounds,
    /// Users whose chunks are learned at once, at most.
    pub(crate) learn_batch: usize,
    pub(crate) memories: Memories,
    pub(crate) identity: MemoryIdentity,
    /// The folder of all memories, absolute.
    pub(crate) root: PathBuf,
    pub(crate) timers: Timers,
    pub(crate) meters: Meters,
    pub(crate) alerts: Arc<AlertLine>,
    /// Bytes of one state of a memory.
    pub(crate) state_bytes: usize,
    pub(crate) compute: Compute,
    /// The process that opened the runtime: a child that is forked has none of its threads.
    process: u32,
    /// How often it had been forked then.
    forks: u64,
}

impl Context {
    pub(crate) fn new(config: RuntimeConfig, root: PathBuf) -> Result<Self, OpenError> {
        let config = RuntimeConfig {
            device: config.device.resolve(),
            more_devices: (config.more_devices.iter())
                .map(|device| device.resolve())
                .collect(),
            ..config
        };
        let memories = Memories::open(&config)?;
        let memory = memories.any();
        describe_metrics();
        let compute = Compute::start(&config, &root)?;
        Ok(Self {
            bounds: Bounds {
                chunk_tokens: config.chunk_tokens,
                queue_tokens: config.queue_tokens,
                when_full: config.when_full,
                durability: config.durability,
                ledger_bytes: config.ledger.max_bytes,
                keep_replaced: memory.writes_in_place(),
            },
            learn_batch: config
                .learn_batch
                .unwrap_or(match memory.writes_in_place() {
                    true => 1,
                    false => LEARN_BATCH,
                }),
            identity: MemoryIdentity::new(memory),
            state_bytes: config.memory.state_bytes(),
            alerts: Arc::new(AlertLine::new(config.alerts.clone())),
            memories,
            root,
            timers: Timers::new(),
            meters: Meters::new(),
            compute,
            process: std::process::id(),
            forks: titans_process::forks(),
            config,
        })
    }

    /// Widths of keys and values.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.config.memory.key_dim, self.config.memory.value_dim)
    }

    /// Whether tokens are kept beside the memories as they came.
    pub(crate) fn keeps_tokens(&self) -> bool {
        self.config.ledger.replay_bytes > 0
    }

    /// An error in a child of the process that opened the runtime. Asked before any lock is
    /// taken: in the child, another thread of the parent may hold it forever.
    pub(crate) fn check_process(&self) -> Result<(), Stopped> {
        check_process(self.process, self.forks)
    }
}

/// An error in another process than the one that had been forked so often.
fn check_process(parent: u32, forks: u64) -> Result<(), Stopped> {
    match titans_process::forks() == forks {
        true => Ok(()),
        false => Err(Stopped::Forked {
            parent,
            child: std::process::id(),
        }),
    }
}
