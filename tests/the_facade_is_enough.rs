//! Whatever a configuration names can be written with `titanmem` as the only dependency, and
//! what programs share between threads can be shared.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use titanmem::memory::{
    AttentionalBias, ForgetScope, GateSpan, GradientBase, L2, L2Scale, LearningAlgorithm,
    MemoryArchitecture, NormalisedStep, Reduction, RetentionGate, SparseChannelMlp, SparseGate,
    SurpriseSigmoid, UpdateConfig,
};
use titanmem::store::{
    DeltaCheck, Erasure, FolderMode, Limits, NetworkFolders, Place, Precision, SaveMode,
};
use titanmem::{
    Alerts, BackupConfig, BackupDriver, Device, Durability, LedgerConfig, MemoryConfig,
    MemorySnapshot, MirasConfig, OnDrop, Products, RecallWatch, Rows, Runtime, RuntimeConfig,
    StoreConfig, Ticket, UserMemory, WhenFull,
};

/// The names of the fields that a value prints of itself, but not those of its parts.
fn fields(value: &impl Debug) -> BTreeSet<String> {
    let text = format!("{value:#?}");
    let own = text.lines().filter_map(|line| line.strip_prefix("    "));
    own.filter(|line| !line.starts_with([' ', '}', ']', ')']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn expect_fields(value: &impl Debug, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    // A new field is a type that somebody has to name below.
    assert_eq!(fields(value), expected);
}

#[test]
fn every_type_of_the_runtimes_configuration_has_a_name_here() {
    let config = RuntimeConfig::default();
    let _: &MemoryConfig = &config.memory;
    let _: (Device, &Vec<Device>) = (config.device, &config.more_devices);
    let _: (Products, WhenFull, Durability) =
        (config.products, config.when_full, config.durability);
    let _: (LedgerConfig, Option<RecallWatch>) = (config.ledger, config.recall_watch);
    let _: (StoreConfig, &Alerts) = (config.store, &config.alerts);
    let _: &Option<BackupConfig> = &config.backups;
    expect_fields(
        &config,
        &[
            "memory",
            "device",
            "more_devices",
            "products",
            "chunk_tokens",
            "queue_tokens",
            "when_full",
            "durability",
            "resident_bytes",
            "learners",
            "learn_batch",
            "compute_threads",
            "savers",
            "ledger",
            "recall_watch",
            "store",
            "alerts",
            "backups",
            "storage",
        ],
    );

    let watch = config.recall_watch.expect("recall is watched by default");
    let _: OnDrop = watch.on_drop;
    expect_fields(&watch, &["probes", "look_every", "max_drop", "on_drop"]);
    expect_fields(&config.ledger, &["max_bytes", "neighbours", "replay_bytes"]);

    let backups = BackupConfig::new("backups");
    let _: (&PathBuf, Duration) = (&backups.dir, backups.pause);
    assert_eq!(backups.driver, BackupDriver::Program);
    expect_fields(
        &backups,
        &[
            "dir",
            "every",
            "keep",
            "pause",
            "per_tick",
            "driver",
            "attachment",
        ],
    );
}

#[test]
fn every_type_of_the_stores_configuration_has_a_name_here() {
    let store = StoreConfig::default();
    let _: (Limits, SaveMode, Precision) = (store.limits, store.mode, store.precision);
    assert_eq!(store.delta_check, DeltaCheck::Trust);
    assert_eq!(store.network, NetworkFolders::Refuse);
    assert_eq!(store.folders, FolderMode::OwnerOnly);
    expect_fields(
        &store,
        &[
            "keep_old",
            "limits",
            "mode",
            "precision",
            "delta_check",
            "network",
            "folders",
        ],
    );
}

#[test]
fn every_choice_of_a_memory_can_be_written_here() {
    let written = MemoryConfig {
        key_dim: 64,
        value_dim: 64,
        seed: 0,
        miras: MirasConfig {
            architecture: MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
                channels: 8192,
                active_channels: 64,
            }),
            attentional_bias: AttentionalBias::L2(L2 {
                scale: L2Scale::Half,
            }),
            retention_gate: RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
                gain: 0.8,
                offset: 9.0,
                smoothing: 0.9,
            }),
            learning_algorithm: LearningAlgorithm::NormalisedStep(NormalisedStep {
                step_size: 1.0,
            }),
        },
        update: UpdateConfig {
            update_size: 1,
            gradient_base: GradientBase::UpdateStart,
            gate_span: GateSpan::PerToken,
            reduction: Reduction::Sum,
            surprise_threshold: 0.6,
            sparse_gate: SparseGate::None,
            forget_scope: ForgetScope::Written,
            max_gradient_norm: None,
        },
    };
    assert_eq!(written, titanmem::Preset::Sparse.config());
}

/// The names that a crate exports, by the text of its root module.
fn exports(root: &str) -> BTreeSet<&str> {
    let uses = root.split("pub use ").skip(1);
    let lists = uses
        .filter_map(|text| text.split_once(';'))
        .map(|(list, _)| list);
    lists
        .flat_map(|list| list.split(['{', '}', ',', ':', ' ', '\n']))
        .filter(|name| name.chars().any(|c| c.is_ascii_uppercase()) || name.ends_with("_chunk"))
        .collect()
}

#[test]
fn every_name_of_the_mathematics_is_in_a_module_here() {
    let core = exports(include_str!("../crates/titans-core/src/lib.rs"));
    let mut here = exports(include_str!("../src/memory.rs"));
    here.extend(exports(include_str!("../src/layers.rs")));
    assert!(core.len() > 100, "{core:?}");
    let missing: Vec<_> = core.difference(&here).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whatever a program holds may go to another thread and be used by several. Nothing is run:
/// what lost this would not be compiled.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    // Handles and what they answer with.
    is_shared::<Runtime>();
    is_shared::<UserMemory>();
    is_shared::<Ticket>();
    is_shared::<titanmem::TicketFuture>();
    is_shared::<MemorySnapshot>();
    is_shared::<titanmem::runtime::Users>();
    is_shared::<titanmem::Recalled>();
    is_shared::<titanmem::CloseReport>();
    is_shared::<titanmem::ForgottenItem>();
    is_shared::<titanmem::Stats>();
    // Rows borrow, so they go to scoped threads.
    is_shared::<Rows<'static>>();
    // Configurations and ids.
    is_shared::<RuntimeConfig>();
    is_shared::<BackupConfig>();
    is_shared::<LedgerConfig>();
    is_shared::<RecallWatch>();
    is_shared::<Alerts>();
    is_shared::<StoreConfig>();
    is_shared::<titanmem::MemoryConfig>();
    is_shared::<titanmem::layers::LayerConfig>();
    is_shared::<titanmem::UserId>();
    is_shared::<titanmem::ItemId>();
    // Errors, so that they fit into `Box<dyn Error + Send + Sync>`.
    is_shared::<titanmem::RuntimeError>();
    is_shared::<titanmem::OpenError>();
    is_shared::<titanmem::ObserveError>();
    is_shared::<titanmem::RecallError>();
    is_shared::<titanmem::WaitError>();
    is_shared::<titanmem::CommandError>();
    is_shared::<titanmem::ConfigError>();
    is_shared::<titanmem::StoreError>();
    is_shared::<titanmem::memory::InputError>();
    is_shared::<titanmem::memory::StateError>();
    // The mathematics and the files.
    is_shared::<titanmem::memory::NeuralMemory>();
    is_shared::<titanmem::memory::MemoryState>();
    is_shared::<titanmem::layers::NeuralMemoryBlock>();
    is_shared::<titanmem::layers::BlockState>();
    is_shared::<titanmem::layers::TitansLayer>();
    is_shared::<titanmem::layers::LayerState>();
    is_shared::<titanmem::store::MemoryStore>();
    is_shared::<titanmem::store::MemoryReader>();
    is_shared::<titanmem::store::MemoryImage>();
};

#[test]
fn rows_receipts_and_errors_need_no_other_crate() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let runtime = Runtime::open(root.path().join("memories"), RuntimeConfig::default())?;
    let row = [titanmem::half::f16::from_f32(0.125); 64];
    let row = Rows::row(&row);
    runtime.user("ada")?.observe(row, row)?.wait()?;
    let receipt = runtime.forget_user("ada")?.expect("there was a memory");
    assert_eq!(receipt.erasure, Erasure::Unlinked);
    let generations = receipt
        .places
        .iter()
        .find(|p| p.place == Place::Generations);
    assert!(generations.is_some_and(|report| report.removed > 0));

    let device: titanmem::burn::tensor::Device = Device::Cpu.open()?;
    assert!(titanmem::memory::NeuralMemory::new(runtime.config().memory, &device).is_ok());
    Ok(())
}
