//! What could not be printed is told, whatever the command; only a reader that left is quiet.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use titans_store::{
    ChoiceRecord, MemoryImage, MemoryStore, ModelRecord, ShardId, StoreConfig, TensorRecord,
    TensorRole,
};

const FILE: &str = "memory/g-00000000000000000002.titanmem";

fn image(chunk: u64) -> MemoryImage {
    let choice = |name: &str, params: &[(&str, f64)]| ChoiceRecord {
        name: name.to_owned(),
        params: (params.iter())
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
    };
    let narrow = [("gain", f64::from(0.8_f32)), ("wide", 0.1), ("lr", 1e-4)];
    MemoryImage {
        shard: ShardId([3; 16]),
        model: ModelRecord {
            preset: "titans".to_owned(),
            architecture: choice("mlp", &narrow),
            attentional_bias: choice("l2", &[]),
            retention_gate: choice("l2", &[]),
            learning_algorithm: choice("momentum", &[]),
        },
        base_digest: [1; 32],
        model_digest: None,
        last_chunk_id: chunk,
        tokens_seen: 512,
        tokens_written: 20,
        scalars: BTreeMap::new(),
        tensors: vec![TensorRecord {
            name: "w".to_owned(),
            role: TensorRole::Weights,
            shape: vec![4],
            values: vec![0.5; 4],
        }],
        recall: None,
        created_unix: 1_795_885_267,
        rolled_back_from: None,
        extra: BTreeMap::new(),
    }
}

fn set_up() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("memory");
    let (mut store, _) = MemoryStore::open(&dir, ShardId([3; 16]), StoreConfig::default()).unwrap();
    for chunk in 1..=2 {
        store.save(&image(chunk)).unwrap();
    }
    root
}

/// Each subcommand, in an order in which each can do its work.
fn commands() -> Vec<Vec<&'static str>> {
    let first = "memory/g-00000000000000000001.titanmem";
    vec![
        vec!["--help"],
        vec!["--version"],
        vec!["inspect", "--help"],
        vec!["inspect", FILE],
        vec!["inspect", FILE, "--json"],
        vec!["verify", "memory"],
        vec!["verify", "--json", "memory"],
        vec!["list", "memory"],
        vec!["diff", first, FILE],
        vec!["rollback", "memory", "--to", "1"],
        vec!["backup", "memory", "b.tar"],
        vec!["restore", "b.tar"],
        vec!["restore", "b.tar", "new"],
        vec!["forget", "new", "--yes"],
    ]
}

fn run(root: &Path, arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_titanmem"));
    command.args(arguments).current_dir(root).stdout(stdout);
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_full_disk_is_told_by_every_command() {
    let root = set_up();
    for arguments in commands() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = run(root.path(), &arguments, full.into());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert_eq!(
            told,
            "titanmem: cannot write to standard output: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
    }
}

#[test]
fn a_closed_output_is_told_by_every_command() {
    let root = set_up();
    for arguments in commands() {
        let output = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" >&-"])
            .arg(env!("CARGO_BIN_EXE_titanmem"))
            .args(&arguments)
            .current_dir(root.path())
            .output()
            .unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(
            told.contains("Bad file descriptor"),
            "{arguments:?}: {told}"
        );
    }
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let root = set_up();
    for arguments in commands() {
        // The end to read from is closed before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(root.path(), &arguments, writer.into());
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_place_where_nothing_is_kept_is_a_choice() {
    let root = set_up();
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let output = run(root.path(), &["verify", "memory"], null.into());
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
    let both = OpenOptions::new().read(true).write(true).open("/dev/null");
    let output = run(root.path(), &["verify", "memory"], both.unwrap().into());
    assert_eq!(output.status.code(), Some(0));
    let file = File::create(root.path().join("out")).unwrap();
    run(root.path(), &["verify", "memory"], file.into());
    let kept = std::fs::read_to_string(root.path().join("out")).unwrap();
    assert_eq!(kept, "1 memory, 2 files, 0 damaged\n");
}

#[test]
fn dates_and_numbers_are_for_people() {
    let root = set_up();
    let output = run(root.path(), &["inspect", FILE], Stdio::piped());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("created    2026-11-28 17:01:07 UTC, "),
        "{text}"
    );
    assert!(text.contains("mlp (gain=0.8 lr=0.0001 wide=0.1)"), "{text}");
}

#[test]
fn the_command_alone_shows_what_people_come_for() {
    let output = run(Path::new("/"), &[], Stdio::piped());
    let told = stderr(&output);
    for line in ["verify", "list", "backup", "restore", "forget"] {
        assert!(
            told.contains(&format!("  titanmem {line} ")),
            "{line} in {told}"
        );
    }
}

#[test]
fn a_part_that_remains_is_named_and_is_exit_code_1() {
    let root = set_up();
    std::fs::write(root.path().join("memory/notes.txt"), "mine").unwrap();
    std::fs::create_dir(root.path().join("memory/lost+found")).unwrap();
    let output = run(root.path(), &["forget", "memory", "--yes"], Stdio::piped());
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("memory/notes.txt is not of a memory"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    let output = run(root.path(), &["forget", "nowhere", "--yes"], Stdio::piped());
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
    assert!(!root.path().join("nowhere").exists());
}

#[test]
fn a_folder_of_a_group_needs_its_word() {
    use std::os::unix::fs::PermissionsExt;
    let root = set_up();
    let dir = root.path().join("memory");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o2770)).unwrap();
    let strict = run(
        root.path(),
        &["rollback", "memory", "--to", "1"],
        Stdio::piped(),
    );
    assert!(
        stderr(&strict).contains("(mode 2770)"),
        "{}",
        stderr(&strict)
    );
    let shared = ["rollback", "memory", "--to", "1", "--group"];
    let output = run(root.path(), &shared, Stdio::piped());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn an_unreadable_folder_does_not_hide_the_others() {
    let root = set_up();
    std::fs::create_dir(root.path().join("lost+found")).unwrap();
    let output = run(root.path(), &["verify", "."], Stdio::piped());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, b"1 memory, 2 files, 0 damaged\n");
}
