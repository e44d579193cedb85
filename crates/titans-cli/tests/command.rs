//! The command as its users run it: text, JSON, exit codes, one-line errors.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use titans_store::{
    ChoiceRecord, Generation, MemoryImage, MemoryStore, ModelRecord, ShardId, StoreConfig,
    TensorRecord, TensorRole,
};

fn titanmem(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_titanmem"));
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn image(shard: ShardId) -> MemoryImage {
    let choice = |name: &str| ChoiceRecord {
        name: name.to_owned(),
        params: BTreeMap::new(),
    };
    MemoryImage {
        shard,
        model: ModelRecord {
            preset: "titans".to_owned(),
            architecture: choice("mlp"),
            attentional_bias: choice("l2"),
            retention_gate: choice("l2"),
            learning_algorithm: choice("momentum"),
        },
        base_digest: [1; 32],
        model_digest: None,
        last_chunk_id: 3,
        tokens_seen: 1536,
        tokens_written: 77,
        scalars: BTreeMap::new(),
        tensors: vec![TensorRecord {
            name: "w_in".to_owned(),
            role: TensorRole::Weights,
            shape: vec![8, 4],
            values: (0..32).map(|i| i as f32).collect(),
        }],
        recall: None,
        created_unix: 1_790_000_000,
        rolled_back_from: None,
        extra: BTreeMap::new(),
    }
}

/// Two memories below a root, with two generations each.
fn memories(root: &Path) -> Vec<PathBuf> {
    let dirs = [root.join("ab"), root.join("cd").join("ef")];
    for (number, dir) in dirs.iter().enumerate() {
        let shard = ShardId([number as u8; 16]);
        let (mut store, _) = MemoryStore::open(dir, shard, StoreConfig::default()).unwrap();
        store.save(&image(shard)).unwrap();
        store.save(&image(shard)).unwrap();
    }
    dirs.into()
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[200] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn inspect_describes_a_file() {
    let root = tempfile::tempdir().unwrap();
    let dirs = memories(root.path());
    let file = dirs[0].join(Generation::new(2).file_name());
    let output = titanmem(&["inspect", file.to_str().unwrap()]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
    let text = stdout(&output);
    for part in [
        "2, parent 1, writer epoch 1",
        "mlp, l2, l2, momentum",
        "weights \"w_in\" [8, 4]",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let output = titanmem(&["inspect", "--json", file.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["sequence"], 2);
    assert_eq!(json["sections"][1]["tensor"]["shape"][0], 8);
    assert_eq!(json["sections"][1]["raw_bytes"], 66);
}

#[test]
fn inspect_prints_numbers_as_wide_as_they_were() {
    let root = tempfile::tempdir().unwrap();
    let shard = ShardId([1; 16]);
    let mut image = image(shard);
    let narrow = [
        ("gain".to_owned(), f64::from(0.8_f32)),
        ("wide".to_owned(), 0.1 + 0.2),
    ];
    image.model.retention_gate.params = narrow.into();
    let (mut store, _) = MemoryStore::open(root.path(), shard, StoreConfig::default()).unwrap();
    store.save(&image).unwrap();
    let file = root.path().join(Generation::new(1).file_name());
    let text = stdout(&titanmem(&["inspect", file.to_str().unwrap()]));
    assert!(
        text.contains("(gain=0.8 wide=0.30000000000000004)"),
        "{text}"
    );
    assert!(
        text.contains(" UTC, ") && !text.contains("since 1970"),
        "{text}"
    );
}

#[test]
fn inspect_names_what_is_wrong_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let dirs = memories(root.path());
    let file = dirs[0].join(Generation::new(1).file_name());
    damage(&file);
    let absent = root.path().join("absent");
    for (path, part) in [
        (&file, "digest"),
        (&absent, "cannot read"),
        (&dirs[0], "cannot read"),
    ] {
        let output = titanmem(&["inspect", path.to_str().unwrap()]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error.starts_with("titanmem: ") && error.contains(part),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn verify_walks_all_memories_below_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let dirs = memories(root.path());
    let output = titanmem(&["verify", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "2 memories, 4 files, 0 damaged\n");

    damage(&dirs[1].join(Generation::new(2).file_name()));
    let output = titanmem(&["verify", root.path().to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&json["files"], &json["damaged"]), (&4.into(), &1.into()));
    assert_eq!(stderr(&output).lines().count(), 1);
    let output = titanmem(&["verify", dirs[0].to_str().unwrap()]);
    assert_eq!(stdout(&output), "1 memory, 2 files, 0 damaged\n");
}

#[test]
fn users_lists_all_memories_below_a_folder_and_what_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let dirs = memories(root.path());
    let dir = root.path().to_str().unwrap();
    let output = titanmem(&["users", dir]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.ends_with(" bytes\n") && text.contains("\n2 users, "),
        "{text}"
    );
    assert!(
        !text.contains("DAMAGED") && text.contains("UTC, "),
        "{text}"
    );

    // One that was opened and had something set aside; the other is listed all the same.
    fs::create_dir(dirs[0].join("quarantine")).unwrap();
    fs::write(dirs[0].join("quarantine/g-1"), "no memory").unwrap();
    let output = titanmem(&["users", dir, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("quarantine/g-1 was damaged and set aside"));
    let listed: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let users = listed["users"].as_array().unwrap();
    assert_eq!(users.len(), 2);
    assert!(users.iter().all(|user| user["generations"] == 2));
    assert!(users.iter().all(|user| user["bytes"].as_u64() > Some(1000)));
    assert!(
        users
            .iter()
            .all(|user| user["last_saved_unix"].as_u64() > Some(1_790_000_000))
    );
    let shards: Vec<_> = users.iter().map(|user| user["shard"].as_str()).collect();
    assert!(
        shards.iter().all(|shard| shard.unwrap().len() == 32),
        "{shards:?}"
    );

    let empty = tempfile::tempdir().unwrap();
    let output = titanmem(&["users", empty.path().to_str().unwrap()]);
    assert!(
        stderr(&output).contains("there is no memory in"),
        "{output:?}"
    );
}

#[test]
fn verify_refuses_a_folder_without_memories() {
    let root = tempfile::tempdir().unwrap();
    let absent = root.path().join("absent");
    for (path, part) in [
        (root.path(), "there is no memory"),
        (absent.as_path(), "cannot list"),
    ] {
        let output = titanmem(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0_and_an_example() {
    assert_eq!(titanmem(&["inspect"]).status.code(), Some(2));
    assert_eq!(titanmem(&["frobnicate"]).status.code(), Some(2));
    for command in ["inspect", "verify"] {
        let output = titanmem(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(&format!("titanmem {command} memories")));
    }
}
