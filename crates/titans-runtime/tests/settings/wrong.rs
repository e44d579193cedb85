//! What is wrong is told by its name, its place, what was found and what is expected.

use std::path::PathBuf;

use titans_runtime::{BackupConfig, RecallWatch, RuntimeConfig};

use super::refused;

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (text, message) in [
        (
            "[runtime]\nchunk_token = 512",
            "unknown key `chunk_token` in [runtime], did you mean `chunk_tokens`?",
        ),
        (
            "[runtim]\nchunk_tokens = 512",
            "unknown key `runtim` at the top of the file, did you mean `runtime`?",
        ),
        (
            "[memory.architecture]\nchanels = 512",
            "unknown key `chanels` in [memory.architecture], did you mean `channels`?",
        ),
        (
            "[ledger]\nkeep_old = 3",
            "unknown key `keep_old` in [ledger], did you mean `keep_old` in [store]?",
        ),
        (
            "surprise_threshold = 0.5",
            "unknown key `surprise_threshold` at the top of the file, \
             did you mean `surprise_threshold` in [memory]?",
        ),
        (
            "[ledger]\ncolour = 3",
            "unknown key `colour` in [ledger]; known are max_bytes, neighbours, replay_bytes",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn a_wrong_value_is_told_with_what_is_expected() {
    for (text, message) in [
        (
            "[runtime]\nchunk_tokens = \"lots\"",
            "`chunk_tokens` in [runtime] is \"lots\", expected a whole number",
        ),
        (
            "[runtime]\nchunk_tokens = -1",
            "`chunk_tokens` in [runtime] is -1, expected a whole number",
        ),
        (
            "[runtime]\nresident_bytes = \"4GB\"",
            "`resident_bytes` in [runtime] is \"4GB\", expected bytes, as a whole number or with \
             a unit: \"4GiB\" (KiB, MiB, GiB, TiB)",
        ),
        (
            "[runtime]\nwhen_full = \"panic\"",
            "`when_full` in [runtime] is \"panic\", expected one of block, busy",
        ),
        (
            "[runtime]\ndevice = \"tpu\"",
            "`device` in [runtime] is \"tpu\", expected auto, cpu, cuda, cuda:N or wgpu",
        ),
        (
            "[backups]\ndir = \"x\"\nevery = 5",
            "`every` in [backups] is 5, expected a whole number with a unit: \"5s\" \
             (ns, us, ms, s, m, h, d)",
        ),
        (
            "[recall_watch]\nmax_drop = nan",
            "`max_drop` in [recall_watch] is NaN, expected a finite number",
        ),
        (
            "[memory.update]\nsurprise_threshold = inf",
            "`surprise_threshold` in [memory.update] is inf, expected a finite number",
        ),
        (
            "[memory.retention_gate]\ngain = \"NaN\"",
            "`gain` in [memory.retention_gate] is \"NaN\", expected a finite number",
        ),
        (
            "[memory]\npreset = \"spares\"",
            "`preset` in [memory] is \"spares\", expected one of sparse, article, titans, yaad, \
             moneta, memora, delta, lact",
        ),
        (
            "[memory.retention_gate]\nname = \"bregman\"",
            "`name` in [memory.retention_gate] is \"bregman\", expected one of none, l2, \
             surprise-sigmoid, elastic-net, lq, kl, row-norm",
        ),
        (
            "memory = 3",
            "`memory` at the top of the file is 3, expected a table",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn what_no_memory_can_be_is_refused() {
    assert_eq!(
        refused("[memory.architecture]\nname = \"mlp\"\ndepth = 2"),
        "no such memory can be built: memory architecture \"mlp\": hidden is missing, \
         expected a number"
    );
    assert_eq!(
        refused("[memory.architecture]\nchannels = 2.5"),
        "no such memory can be built: memory architecture \"sparse-channel-mlp\": channels is \
         2.5, expected a whole number of at most 2^53"
    );
    assert_eq!(
        refused("[memory.update]\nforget = \"everything\""),
        "no such memory can be built: update schedule \"update\": forget is everything, \
         expected one of dense, written"
    );
}

#[test]
fn backups_need_a_folder_and_texts_their_form() {
    assert_eq!(
        refused("[backups]\nkeep = 3"),
        "`dir` in [backups] is missing: backups go into a folder"
    );
    assert!(refused("[runtime").contains("TOML parse error"));
    let json = serde_json::from_str::<RuntimeConfig>("{\"runtime\": {\"savers\": null}}");
    assert!(json.is_err());
    let twice = "{\"runtime\": {\"savers\": 1, \"savers\": 2}}";
    let error = serde_json::from_str::<RuntimeConfig>(twice).unwrap_err();
    assert!(
        error.to_string().contains("`savers` is given twice"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_written_is_not_written_wrongly() {
    let watch = RecallWatch::default().with_max_drop(f32::NAN);
    let error = RuntimeConfig::default().with_recall_watch(watch).to_toml();
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("`max_drop` in [recall_watch]")
    );

    let mut config = RuntimeConfig::default();
    config.memory.update.surprise_threshold = f32::INFINITY;
    let error = config.to_toml().unwrap_err();
    assert!(
        error.to_string().contains("expected a finite number"),
        "{error}"
    );

    let no_text: PathBuf = {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(vec![0xff]).into()
    };
    let config = RuntimeConfig::default().with_backups(BackupConfig::new(no_text));
    assert!(config.to_toml().is_err());
    assert!(serde_json::to_string(&config).is_err());
}

#[test]
fn a_file_is_read_by_its_ending_and_named_in_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let toml = write("one.toml", "[runtime]\nsavers = 3");
    let json = write("one.json", "{\"runtime\": {\"savers\": 3}}");
    for path in [toml, json] {
        assert_eq!(RuntimeConfig::read(path).unwrap().savers, 3);
    }
    let wrong = write("two.json", "{\"runtime\": {\"saver\": 3}}");
    let error = RuntimeConfig::read(&wrong).unwrap_err().to_string();
    let expected = "unknown key `saver` in [runtime], did you mean `savers`?";
    assert_eq!(error, format!("{}: {expected}", wrong.display()));
    let error = RuntimeConfig::read(dir.path().join("absent")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}
