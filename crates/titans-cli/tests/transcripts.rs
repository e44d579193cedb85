//! Whole sessions, word for word: what users see is what is written in `transcripts/`.
//!
//! Lines that begin with `$ ` are commands, the lines below are what they print: standard
//! output, standard error, and the exit code unless it is 0. `TITANMEM_WRITE_TRANSCRIPTS=1`
//! writes the files anew; read the difference before committing it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use titans_store::{
    ChoiceRecord, MemoryImage, MemoryStore, ModelRecord, RecallRecord, SaveMode, ShardId,
    StoreConfig, TensorRecord, TensorRole, UserKey,
};

const SHARD: ShardId = ShardId([0x7f; 16]);

fn image(chunk: u64) -> MemoryImage {
    let choice = |name: &str| ChoiceRecord {
        name: name.to_owned(),
        params: BTreeMap::new(),
    };
    let value = |n: u64| {
        let learned = if n % 8 < chunk {
            0.001 * chunk as f32
        } else {
            0.0
        };
        (n as f32 * 0.7).sin() * 0.03 + learned
    };
    MemoryImage {
        shard: SHARD,
        model: ModelRecord {
            preset: "titans".to_owned(),
            architecture: choice("mlp"),
            attentional_bias: choice("l2"),
            retention_gate: choice("l2"),
            learning_algorithm: choice("momentum"),
        },
        base_digest: [1; 32],
        model_digest: None,
        last_chunk_id: chunk,
        tokens_seen: 512 * chunk,
        tokens_written: 20 * chunk,
        scalars: BTreeMap::new(),
        tensors: vec![
            TensorRecord {
                name: "w_in".to_owned(),
                role: TensorRole::Weights,
                shape: vec![64, 32],
                values: (0..2048).map(value).collect(),
            },
            TensorRecord {
                name: "w_in".to_owned(),
                role: TensorRole::Momentum,
                shape: vec![64, 32],
                values: vec![0.0; 2048],
            },
        ],
        recall: Some(RecallRecord {
            probe_id: "needle-v1".to_owned(),
            score: 0.9 + 0.01 * chunk as f64,
            n: 400,
        }),
        created_unix: 1_790_000_000 + 60 * chunk,
        rolled_back_from: None,
        extra: BTreeMap::new(),
    }
}

fn save(dir: &Path, mode: SaveMode, key: Option<&UserKey>) {
    let config = StoreConfig::default().with_mode(mode);
    let (mut store, _) = match key {
        Some(key) => MemoryStore::open_encrypted(dir, SHARD, config, key.clone()).unwrap(),
        None => MemoryStore::open(dir, SHARD, config).unwrap(),
    };
    for chunk in 1..=3 {
        let saved = store.save(&image(chunk)).unwrap();
        if chunk == 2 {
            store.pin_last_known_good(saved.generation).unwrap();
        }
    }
}

/// `snap` and `log` with three generations each, `sealed` with a key, and a model.
fn set_up(root: &Path) {
    save(&root.join("snap"), SaveMode::Snapshot, None);
    save(&root.join("log"), SaveMode::Journal, None);
    let key = UserKey::from_bytes([5; 32]);
    key.write_new(&root.join("user.key")).unwrap();
    save(&root.join("sealed"), SaveMode::Snapshot, Some(&key));
    fs::write(root.join("model.safetensors"), vec![9; 5000]).unwrap();
    fs::write(root.join("host.json"), b"{}").unwrap();
}

fn run(root: &Path, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    if let ["damage", file] = words[..] {
        let mut bytes = fs::read(root.join(file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(root.join(file), bytes).unwrap();
        return String::new();
    }
    let ["titanmem", arguments @ ..] = &words[..] else {
        panic!("{line}");
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_titanmem"));
    let output = command.args(arguments).current_dir(root).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    text.push_str(&String::from_utf8(output.stderr).unwrap());
    match output.status.code() {
        Some(0) => {}
        code => text.push_str(&format!("[exit code {}]\n", code.unwrap())),
    }
    let text: String = text.split_inclusive('\n').map(without_age).collect();
    text.replace(root.to_str().unwrap(), "[ROOT]")
}

/// How long ago something was depends on the clock.
fn without_age(line: &str) -> String {
    match line.split_once(" UTC, ") {
        Some((date, _)) => format!("{date} UTC, [AGE]\n"),
        None => line.to_owned(),
    }
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(name);
    let expected = fs::read_to_string(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    set_up(&root);
    let commands = expected.lines().filter_map(|line| line.strip_prefix("$ "));
    let found: Vec<_> = commands
        .map(|line| format!("$ {line}\n{}", run(&root, line)))
        .collect();
    let found = found.join("\n");
    if std::env::var_os("TITANMEM_WRITE_TRANSCRIPTS").is_some() {
        fs::write(&path, &found).unwrap();
    } else {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn looking() {
    check("looking.txt");
}

#[test]
fn damage() {
    check("damage.txt");
}

#[test]
fn rollback() {
    check("rollback.txt");
}

#[test]
fn backup_and_restore() {
    check("backup_and_restore.txt");
}

#[test]
fn forget() {
    check("forget.txt");
}

#[test]
fn keys() {
    check("keys.txt");
}

#[test]
fn help() {
    check("help.txt");
}
