//! The main job as its users run it: recall over the bar, bad input as one line, nothing lost.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command;

/// What the command leaves.
struct Output {
    code: u8,
    stdout: String,
    stderr: String,
}

fn run(arguments: &[&str]) -> Output {
    let arguments = ["needle"].iter().chain(arguments).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command(arguments, &mut out, &mut err);
    Output {
        code,
        stdout: String::from_utf8(out).unwrap(),
        stderr: String::from_utf8(err).unwrap(),
    }
}

/// A refusal: exit code `code`, nothing on standard output, and one line that has `part`.
fn refused(arguments: &[&str], code: u8, part: &str) {
    let output = run(arguments);
    let error = output.stderr;
    assert_eq!(output.code, code, "{error}");
    assert_eq!(output.stdout, "");
    assert!(error.contains(part), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn both_generated_haystacks_are_recalled_and_the_controls_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for out in [&first, &second] {
        let output = run(&[
            "--tokens",
            "8Ki,12289",
            "--min-recall",
            "98",
            "--out",
            str(out),
        ]);
        assert!(output.code == 0, "{}", output.stderr);
        assert_eq!(output.stderr, "");
        assert_eq!(output.stdout.matches("| noise").count(), 2);
    }
    // Same seed, same cells; what depends on the machine lies in a file of its own.
    for name in ["cells.jsonl", "summary.csv", "heatmap.svg"] {
        let read = |dir: &PathBuf| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read(&first), read(&second), "{name}");
    }
    for name in ["run.json", "timings.jsonl"] {
        assert!(first.join(name).exists(), "{name}");
    }
    let summary = fs::read_to_string(first.join("summary.csv")).unwrap();
    for line in summary.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [n, no_write, shuffled] = [fields[2], fields[8], fields[9]];
        assert_eq!(n, "64");
        assert!(no_write.parse::<usize>().unwrap() <= 1, "{line}");
        assert!(shuffled.parse::<usize>().unwrap() <= 1, "{line}");
    }
    let cell: serde_json::Value = fs::read_to_string(first.join("cells.jsonl"))
        .unwrap()
        .lines()
        .next()
        .map(|line| serde_json::from_str(line).unwrap())
        .unwrap();
    assert_eq!(cell["context_length"], 8192);
    assert_eq!(cell["hits"], cell["n"]);
}

#[test]
fn real_text_prints_what_is_true_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let book = dir.path().join("book.txt");
    let words: Vec<String> = (0..3000).map(|i| format!("word{}", i * i % 977)).collect();
    fs::write(&book, words.join(" ")).unwrap();
    let output = run(&["--haystack", str(&book), "--tokens", "4Ki"]);
    assert!(output.code == 0);
    assert!(output.stdout.contains("trained write gate"));
    assert!(
        output
            .stderr
            .contains("has 3000 tokens, so it is repeated to 4Ki")
    );
}

#[test]
fn a_damaged_newest_file_falls_back_and_says_so() {
    let output = run(&["--tokens", "8Ki", "--chunk", "1024", "--damage-newest"]);
    assert!(output.code == 0, "{}", output.stderr);
    let error = output.stderr;
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.contains("generation 8 is damaged"), "{error}");
}

#[test]
fn bad_input_is_one_line_and_a_non_zero_exit() {
    let dir = tempfile::tempdir().unwrap();
    let (binary, empty) = (dir.path().join("binary"), dir.path().join("empty"));
    fs::write(&binary, b"good text \xff").unwrap();
    fs::write(&empty, " \n").unwrap();
    refused(&["--haystack", "absent.txt"], 1, "cannot read absent.txt");
    refused(&["--haystack", str(&binary)], 1, "is not UTF-8 at byte 10");
    refused(&["--haystack", str(&empty)], 1, "empty has no words");
    refused(
        &["--tokens", "767"],
        1,
        "64 needles are 768 tokens, more than the 767",
    );
    refused(&["--out", str(&binary.join("out"))], 1, "cannot create");
    refused(
        &["--memories", str(&binary), "--tokens", "1Ki"],
        1,
        "cannot create",
    );
    refused(&["--chunk", "0", "--tokens", "1Ki"], 1, "chunk_tokens is 0");
    refused(
        &["--device", "cuda:7", "--tokens", "1Ki"],
        1,
        "no cuda:7 device",
    );
    refused(&["--tokens", "0"], 2, "at least 1 token");
    refused(&["--needles", "0"], 2, "1 to 4096");
    refused(&["--preset", "dense"], 2, "this build knows sparse");
    refused(&["--wings"], 2, "unexpected argument '--wings'");
}

#[test]
fn recall_under_the_bar_fails_after_printing_the_table() {
    let output = run(&["--tokens", "1Ki", "--min-recall", "100.5"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("| zipf"));
    assert!(output.stderr.contains("recall is under 100.5 %"));
}

#[test]
fn an_earlier_memory_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "--memories",
        str(dir.path()),
        "--tokens",
        "1Ki",
        "--needles",
        "3",
    ];
    assert!(run(&arguments).code == 0);
    refused(&arguments, 1, "is not empty");
}
