//! What a crate is published with: a page of its own, both licences, and word of what
//! documentation is built from.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the crates that are published.
fn published() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).expect("the folder of crates can be listed");
    let crates = crates.map(|entry| entry.expect("it can be listed").path());
    crates
        .chain([root.to_owned()])
        .filter(|dir| dir.join("Cargo.toml").is_file())
        .filter(|dir| !manifest(dir).contains("publish = false"))
        .collect()
}

fn manifest(dir: &Path) -> String {
    fs::read_to_string(dir.join("Cargo.toml")).expect("the manifest can be read")
}

#[test]
fn each_has_a_page_and_both_licences() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = published();
    assert!(crates.len() > 5, "{crates:?}");
    for dir in crates {
        let page = fs::read_to_string(dir.join("README.md"));
        let page = page.unwrap_or_else(|error| panic!("{}/README.md: {error}", dir.display()));
        assert!(page.starts_with("# "), "{} has no title", dir.display());
        for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
            // A link to the root's; a dangling one cannot be read.
            let found = fs::read(dir.join(name));
            let found = found.unwrap_or_else(|error| panic!("{}/{name}: {error}", dir.display()));
            let expected = fs::read(root.join(name)).expect("the licence can be read");
            assert_eq!(found, expected, "{}/{name}", dir.display());
        }
    }
}

#[test]
fn each_says_what_its_documentation_is_built_from() {
    for dir in published() {
        let manifest = manifest(&dir);
        for line in ["readme = \"README.md\"", "[package.metadata.docs.rs]"] {
            assert!(manifest.contains(line), "{} lacks {line}", dir.display());
        }
    }
}
