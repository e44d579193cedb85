//! The table in `docs/parameters.md` has every name of the article, and the defaults that it
//! gives are those of the presets.

use titanmem::{Preset, RuntimeConfig};

const NAMES: [&str; 7] = [
    "surprise_threshold",
    "top_k_ratio",
    "alpha_lambda",
    "alpha_gamma",
    "chunk_size",
    "eta",
    "beta",
];

/// The cells of the first table's rows.
fn rows() -> Vec<Vec<String>> {
    let table = include_str!("../docs/parameters.md").lines();
    let table = table.skip_while(|line| !line.starts_with("| --- ")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The preset with a parameter set to what a cell begins with.
fn with(preset: Preset, name: &str, cell: &str) -> RuntimeConfig {
    let number = cell.split([' ', ',']).next().expect("a number");
    let text = format!("[memory]\npreset = \"{preset}\"\n{name} = {number}");
    RuntimeConfig::from_toml(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_name_has_a_row_with_the_defaults_of_both_presets() {
    let rows = rows();
    let named: Vec<_> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    assert_eq!(named, NAMES);
    for row in &rows {
        let name = row[1].trim_matches('`');
        for (preset, cell) in [(Preset::Article, &row[4]), (Preset::Sparse, &row[5])] {
            let (found, expected) = (with(preset, name, cell), RuntimeConfig::preset(preset));
            assert_eq!(found.memory, expected.memory, "{name} of {preset}");
            assert_eq!(
                found.chunk_tokens, expected.chunk_tokens,
                "{name} of {preset}"
            );
        }
    }
}

#[test]
fn our_keys_in_the_table_are_keys() {
    for row in rows() {
        let name = row[1].trim_matches('`');
        // Both names at once are refused with both, so the key of the row is what it says.
        let key = row[2].split('`').nth(1).expect("a key in backquotes");
        let number = row[4].split([' ', ',']).next().expect("a number");
        let text =
            format!("memory.preset = \"article\"\nmemory.{name} = {number}\n{key} = {number}");
        let error = RuntimeConfig::from_toml(&text).expect_err("two names");
        assert!(
            error.to_string().contains("are two names of one setting"),
            "{text}: {error}"
        );
    }
}
