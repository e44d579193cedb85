//! What is written is read again as it was.

use std::time::Duration;

use proptest::prelude::*;
use titans_core::{
    AttentionalBias, ComputeDevice, LearningAlgorithm, MemoryArchitecture, Preset, Products,
    RetentionGate, UpdateConfig,
};
use titans_runtime::{
    BackupConfig, BackupDriver, Durability, FolderMode, LedgerConfig, OnDrop, RecallWatch,
    RuntimeConfig, WhenFull,
};
use titans_store::{DeltaCheck, Limits, NetworkFolders, Precision, SaveMode, StoreConfig};

use super::{expect_same, read};

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..200_000).prop_map(Duration::from_secs),
        (0_u64..5_000).prop_map(Duration::from_millis),
        any::<Duration>(),
    ]
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..100).prop_map(|mib| mib << 20),
        0_u64..4096
    ]
}

fn memories() -> impl Strategy<Value = RuntimeConfig> {
    let select = prop::sample::select::<Preset>;
    (
        select(Preset::ALL.to_vec()),
        (1_usize..200, any::<u64>()),
        prop::option::of(prop::sample::select(MemoryArchitecture::EXAMPLES.to_vec())),
        prop::option::of(prop::sample::select(AttentionalBias::EXAMPLES.to_vec())),
        prop::option::of(prop::sample::select(RetentionGate::EXAMPLES.to_vec())),
        prop::option::of(prop::sample::select(LearningAlgorithm::EXAMPLES.to_vec())),
        prop::option::of(prop::sample::select(UpdateConfig::EXAMPLES.to_vec())),
        prop::option::of(0.0_f32..10.0),
    )
        .prop_map(|(preset, (dim, seed), a, b, r, l, update, threshold)| {
            let mut config = RuntimeConfig::preset(preset);
            let memory = &mut config.memory;
            (memory.key_dim, memory.value_dim, memory.seed) = (dim, dim, seed);
            let miras = &mut memory.miras;
            miras.architecture = a.unwrap_or(miras.architecture);
            miras.attentional_bias = b.unwrap_or(miras.attentional_bias);
            miras.retention_gate = r.unwrap_or(miras.retention_gate);
            miras.learning_algorithm = l.unwrap_or(miras.learning_algorithm);
            memory.update = update.unwrap_or(memory.update);
            let update = &mut memory.update;
            update.surprise_threshold = threshold.unwrap_or(update.surprise_threshold);
            config
        })
        .prop_filter("a memory that can be built", |config| {
            config.memory.validate().is_ok()
        })
}

fn stores() -> impl Strategy<Value = StoreConfig> {
    let modes = prop_oneof![
        Just(SaveMode::Snapshot),
        Just(SaveMode::Journal),
        bytes().prop_map(|journal_above| SaveMode::BySize { journal_above }),
    ];
    let precisions = vec![
        Precision::Exact,
        Precision::ExactWeights,
        Precision::Compact,
    ];
    (
        (any::<usize>(), bytes(), any::<u64>(), modes),
        (prop::sample::select(precisions), any::<[bool; 3]>()),
    )
        .prop_map(
            |((keep_old, file, params, mode), (precision, [compare, accept, group]))| {
                let pick = |yes| {
                    StoreConfig::default().with_folders(match yes {
                        true => FolderMode::Group,
                        false => FolderMode::OwnerOnly,
                    })
                };
                pick(group)
                    .with_keep_old(keep_old)
                    .with_limits(
                        Limits::default()
                            .with_max_file_bytes(file)
                            .with_max_params(params),
                    )
                    .with_mode(mode)
                    .with_precision(precision)
                    .with_delta_check(if compare {
                        DeltaCheck::Compare
                    } else {
                        DeltaCheck::Trust
                    })
                    .with_network(if accept {
                        NetworkFolders::Accept
                    } else {
                        NetworkFolders::Refuse
                    })
            },
        )
}

fn backups() -> impl Strategy<Value = BackupConfig> {
    let drivers = prop_oneof![
        Just(BackupDriver::Program),
        durations().prop_map(|look_every| BackupDriver::Thread { look_every }),
    ];
    (
        "[^\0]{1,12}",
        durations(),
        any::<usize>(),
        durations(),
        any::<usize>(),
        drivers,
    )
        .prop_map(|(dir, every, keep, pause, per_tick, driver)| {
            BackupConfig::new(dir)
                .with_every(every)
                .with_keep(keep)
                .with_pause(pause)
                .with_per_tick(per_tick)
                .with_driver(driver)
        })
}

fn watches() -> impl Strategy<Value = RecallWatch> {
    (any::<usize>(), any::<usize>(), 0.0_f32..1.0, any::<bool>()).prop_map(
        |(probes, look_every, max_drop, rolls_back)| {
            RecallWatch::default()
                .with_probes(probes)
                .with_look_every(look_every)
                .with_max_drop(max_drop)
                .with_on_drop(if rolls_back {
                    OnDrop::RollBack
                } else {
                    OnDrop::Alert
                })
        },
    )
}

fn devices() -> impl Strategy<Value = ComputeDevice> {
    prop_oneof![
        Just(ComputeDevice::Auto),
        Just(ComputeDevice::Cpu),
        Just(ComputeDevice::Wgpu),
        any::<usize>().prop_map(ComputeDevice::Cuda),
    ]
}

fn configs() -> impl Strategy<Value = RuntimeConfig> {
    let durabilities = prop_oneof![
        Just(Durability::EveryChunk),
        any::<u64>().prop_map(|max_lag| Durability::Async { max_lag }),
        durations().prop_map(Durability::Interval),
    ];
    let products = prop::sample::select(vec![Products::F32, Products::Bf16, Products::F16]);
    (
        memories(),
        (
            devices(),
            prop::collection::vec(devices(), 0..3),
            products,
            any::<bool>(),
        ),
        (any::<usize>(), any::<usize>(), durabilities, bytes()),
        (
            any::<usize>(),
            any::<Option<usize>>(),
            any::<Option<usize>>(),
            any::<usize>(),
        ),
        (bytes(), any::<usize>(), bytes()),
        (
            prop::option::of(watches()),
            stores(),
            prop::option::of(backups()),
        ),
    )
        .prop_map(
            |(memory, on, queue, threads, ledger, (watch, store, backups))| {
                memory
                    .with_device(on.0)
                    .with_more_devices(on.1)
                    .with_products(on.2)
                    .with_when_full(if on.3 {
                        WhenFull::Busy
                    } else {
                        WhenFull::Block
                    })
                    .with_chunk_tokens(queue.0)
                    .with_queue_tokens(queue.1)
                    .with_durability(queue.2)
                    .with_resident_bytes(queue.3 as usize)
                    .with_learners(threads.0)
                    .with_learn_batch(threads.1)
                    .with_compute_threads(threads.2)
                    .with_savers(threads.3)
                    .with_ledger(
                        LedgerConfig::default()
                            .with_max_bytes(ledger.0 as usize)
                            .with_neighbours(ledger.1)
                            .with_replay_bytes(ledger.2),
                    )
                    .with_recall_watch(watch)
                    .with_store(store)
                    .with_backups(backups)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_is_read_again_as_it_was(config in configs()) {
        let text = config.to_toml().unwrap();
        expect_same(&read(&text), &config);
        let json = serde_json::to_string(&config).unwrap();
        expect_same(&serde_json::from_str(&json).unwrap(), &config);
    }
}

#[test]
fn every_preset_is_written_by_its_name() {
    for &preset in Preset::ALL {
        let config = RuntimeConfig::preset(preset);
        let text = config.to_toml().unwrap();
        let line = format!("preset = \"{preset}\"");
        assert!(text.contains(&line), "{text}");
        assert!(!text.contains("[memory."), "{text}");
        expect_same(&read(&text), &config);
    }
}

#[test]
fn the_defaults_read_as_people_would_write_them() {
    let text = RuntimeConfig::default()
        .with_backups(BackupConfig::new("/backups"))
        .to_toml()
        .unwrap();
    for line in [
        "device = \"cpu\"",
        "chunk_tokens = 4096",
        "durability = \"every-chunk\"",
        "resident_bytes = \"4GiB\"",
        "learn_batch = \"auto\"",
        "max_bytes = \"1MiB\"",
        "max_drop = 0.05",
        "mode = \"by-size:8MiB\"",
        "every = \"1d\"",
        "pause = \"1h\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn what_is_not_named_keeps_its_default() {
    expect_same(&read(""), &RuntimeConfig::default());
    let found = read("[recall_watch]\nprobes = 100");
    let watch = RecallWatch::default().with_probes(100);
    expect_same(&found, &RuntimeConfig::default().with_recall_watch(watch));
    let found = read("[recall_watch]\nenabled = false");
    expect_same(&found, &RuntimeConfig::default().with_recall_watch(None));
}

#[test]
fn one_number_of_a_choice_can_be_changed_and_another_choice_is_said_in_whole() {
    let found = read("[memory.architecture]\nchannels = 1024");
    let text = found.to_toml().unwrap();
    assert!(
        text.contains("channels = 1024") && text.contains("active_channels = 64"),
        "{text}"
    );
    let found = read(
        "[memory.architecture]\nname = \"mlp\"\ndepth = 2\nhidden = 32\nactivation = \"silu\"\n\
         wrap = \"plain\"\n[memory.update]\ngates = \"per-update\"",
    );
    expect_same(&read(&found.to_toml().unwrap()), &found);
}
