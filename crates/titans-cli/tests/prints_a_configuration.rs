//! What `titanmem inspect --config` prints is the configuration with which a memory was written.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use titans_runtime::{Rows, Runtime, RuntimeConfig};

const PRESETS: [&str; 8] = [
    "sparse", "article", "titans", "yaad", "moneta", "memora", "delta", "lact",
];

fn inspect(path: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_titanmem"));
    let command = command.args(["inspect", "--config"]).arg(path).args(more);
    command.output().unwrap()
}

/// A folder in which somebody has a memory.
fn remember(dir: &Path, config: &RuntimeConfig, user: &str) {
    let runtime = Runtime::open(dir, config.clone()).unwrap();
    let key = vec![0.125; config.memory.key_dim];
    let value = vec![0.125; config.memory.value_dim];
    let memory = runtime.user(user).unwrap();
    drop(memory.observe(Rows::row(&key), Rows::row(&value)).unwrap());
    memory.flush().unwrap();
}

#[test]
fn the_configuration_of_a_folder_is_read_again_as_it_was() {
    for preset in PRESETS {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("memories");
        let mut config = RuntimeConfig::preset_named(preset).unwrap();
        (config.memory.key_dim, config.memory.value_dim) = (32, 16);
        config.memory.seed = u64::MAX - 1;
        remember(&dir, &config, "ada");
        let output = inspect(&dir, &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{preset}: {:?}", output.stderr);
        let read = RuntimeConfig::from_toml(&text);
        assert_eq!(read.unwrap().memory, config.memory, "{preset}:\n{text}");
        let json = inspect(&dir, &["--json"]).stdout;
        let read: RuntimeConfig = serde_json::from_slice(&json).unwrap();
        assert_eq!(read.memory, config.memory, "{preset}");
    }
}

#[test]
fn numbers_of_32_bits_are_printed_as_such() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("memories");
    remember(&dir, &RuntimeConfig::default(), "ada");
    let text = String::from_utf8(inspect(&dir, &[]).stdout).unwrap();
    for line in [
        "gain = 0.8",
        "surprise_threshold = 0.6",
        "channels = 8192",
        "forget = \"written\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.contains("(preset: sparse)"), "{text}");
}

#[test]
fn memories_of_two_configurations_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    for preset in ["sparse", "delta"] {
        let config = RuntimeConfig::preset_named(preset).unwrap();
        remember(&root.path().join(preset), &config, "ada");
    }
    let output = inspect(root.path(), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("different configurations"), "{error}");
    assert!(inspect(&root.path().join("delta"), &[]).status.success());

    let empty = root.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = String::from_utf8(inspect(&empty, &[]).stderr).unwrap();
    assert!(error.contains("there is no memory in"), "{error}");
}
