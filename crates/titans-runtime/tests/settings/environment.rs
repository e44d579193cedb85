//! Variables of the environment are settings by other names.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use titans_core::{ComputeDevice, Preset};
use titans_runtime::{Durability, RuntimeConfig};

use super::{expect_same, read, with_variables};

#[test]
fn a_variable_is_read_as_its_key_is() {
    let found = with_variables(&[
        ("TITANMEM_CHUNK_TOKENS", "512"),
        ("TITANMEM_DURABILITY", "interval:5s"),
        ("TITANMEM_MORE_DEVICES", "cpu, cuda:1"),
        ("TITANMEM_LEDGER_MAX_BYTES", "4MiB"),
        ("TITANMEM_RECALL_WATCH_ENABLED", "false"),
        ("TITANMEM_STORE_MAX_PARAMS", "1000"),
        ("TITANMEM_BACKUPS_DIR", "/backups"),
        ("TITANMEM_PRESET", "delta"),
        ("TITANMEM_LEARNING_ALGORITHM_STEP_SIZE", "0.25"),
        ("TITANMEM_UPDATE_GATES", "per-token"),
        ("HOME", "/home/ada"),
    ]);
    let found = found.unwrap();
    assert_eq!(
        found.durability,
        Durability::Interval(Duration::from_secs(5))
    );
    assert_eq!(
        found.more_devices,
        [ComputeDevice::Cpu, ComputeDevice::Cuda(1)]
    );
    let expected = read(
        "[memory]\npreset = \"delta\"\nlearning_algorithm.step_size = 0.25\n\
         [runtime]\nchunk_tokens = 512\ndurability = \"interval:5s\"\n\
         more_devices = [\"cpu\", \"cuda:1\"]\n[ledger]\nmax_bytes = \"4MiB\"\n\
         [recall_watch]\nenabled = false\n[store]\nmax_params = 1000\n[backups]\ndir = \"/backups\"",
    );
    expect_same(&found, &expected);
}

#[test]
fn what_no_variable_names_stays() {
    let config = RuntimeConfig::preset(Preset::Yaad).with_savers(5);
    let one = ("TITANMEM_LEARNERS".to_owned(), "2".to_owned());
    let found = config.clone().overridden_by([one]).unwrap();
    expect_same(&found, &config.with_learners(2));
}

#[test]
fn what_is_wrong_is_told_by_its_variable() {
    let refused = |variables: &[_]| with_variables(variables).unwrap_err().to_string();
    assert_eq!(
        refused(&[("TITANMEM_CHUNK_TOKEN", "512")]),
        "unknown variable `TITANMEM_CHUNK_TOKEN` in the environment, \
         did you mean `TITANMEM_CHUNK_TOKENS`?"
    );
    assert_eq!(
        refused(&[("TITANMEM_SURPRISE_THRESHOLD", "inf")]),
        "`TITANMEM_SURPRISE_THRESHOLD` in the environment is \"inf\", expected a finite number"
    );
    assert_eq!(
        refused(&[("TITANMEM_ARCHITECTURE_HIDDEN", "64")]),
        "unknown variable `TITANMEM_ARCHITECTURE_HIDDEN` in the environment; \
         known are active_channels, channels, name"
    );
}

/// Every word in a file that looks like a variable of ours, but for pieces of a word.
fn variables_in(text: &str, found: &mut BTreeSet<String>) {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for (start, _) in text.match_indices("TITANMEM_") {
        let rest = &text[start..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        // The beginning alone is no name.
        if end > "TITANMEM_".len() {
            found.insert(rest[..end].to_owned());
        }
    }
}

fn sources(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git", "settings"].contains(&&*name) {
            sources(&path, found);
        } else if [".rs", ".sh", ".py"].iter().any(|end| name.ends_with(end)) {
            variables_in(&std::fs::read_to_string(&path).unwrap(), found);
        }
    }
}

#[test]
fn no_variable_that_this_workspace_reads_is_refused() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = BTreeSet::new();
    sources(&workspace, &mut found);
    assert!(
        found.contains("TITANMEM_SIMD") && found.len() > 10,
        "{found:?}"
    );
    for name in found {
        // What it says does not matter; a wrong value is a known name.
        let error = with_variables(&[(&name, "1")]).err();
        let text = error.map_or(String::new(), |error| error.to_string());
        assert!(!text.starts_with("unknown variable"), "{text}");
    }
}
