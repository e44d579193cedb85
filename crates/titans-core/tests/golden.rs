//! Golden vectors: every value that an independent float64 source gives for a case.
//!
//! A case is a safetensors file whose metadata key `config` says what was computed; the
//! arrays are inputs `in.*`, intermediate values `mid.*` and results `out.*`. Two kinds:
//! `ref_*` is a plain loop over the equations of Titans and MIRAS, `peer_*` the layer of
//! titans-pytorch, whose projections are computed here and whose memory is ours.
//!
//! The small set in `tests/golden` runs for everyone; `TITANS_GOLDEN_DIR` names a folder
//! of more. Every file of a folder must run, and every `out.*` array must be compared.

#[path = "golden/case.rs"]
mod case;
#[path = "golden/peer.rs"]
mod peer;
#[path = "golden/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use case::Case;

/// Largest relative error of one array, `max |a - b| / max |b|`, in f32. The reference
/// loop itself, run in f32, is off by up to 1.8e-5; every wrong reading that was tried is
/// off by more than 2e-4.
const F32_TOLERANCE: f64 = 5e-5;
/// The same in f64, where only the order of sums differs. The peer's normalisations add
/// the smallest number of the element type, which here is the same.
const F64_TOLERANCE: f64 = 1e-10;
/// f32 constants of a configuration (a gradient bound of 0.05) are off by this much from
/// the f64 ones of a case.
const F64_TOLERANCE_WITH_CONSTANTS: f64 = 5e-8;

fn folders() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    // Tests run in the folder of the crate; a relative path is meant from the workspace.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let more = std::env::var_os("TITANS_GOLDEN_DIR").map(|folder| workspace.join(folder));
    [Some(own), more].into_iter().flatten().collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    files
}

/// Cases that a folder's index names.
fn indexed(folder: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(folder.join("cases.json")) else {
        return Vec::new();
    };
    let index: serde_json::Value = serde_json::from_str(&text).expect("cases.json is JSON");
    let cases = index.as_array().expect("cases.json is a list");
    cases
        .iter()
        .map(|case| case["file"].as_str().expect("a case has a file").to_owned())
        .collect()
}

#[test]
fn golden_vectors_are_reproduced() {
    let mut failures = Vec::new();
    let mut run = 0;
    for folder in folders() {
        let files = files(&folder);
        assert!(!files.is_empty(), "{} holds no case", folder.display());
        for name in indexed(&folder) {
            let listed = files.iter().any(|file| file.ends_with(&name));
            assert!(
                listed,
                "{name} is in the index and not in {}",
                folder.display()
            );
        }
        for file in files {
            let case = Case::open(&file);
            for (dtype, tolerance) in [
                (DType::F32, F32_TOLERANCE),
                (DType::F64, f64_tolerance(&case)),
            ] {
                let errors = match &case.name {
                    name if name.starts_with("ref_") => reference::run(&case, dtype),
                    name if name.starts_with("peer_") => peer::run(&case, dtype),
                    name => panic!("{name} is neither a ref_ nor a peer_ case"),
                };
                let (worst, error) = errors.worst();
                let missed = errors.not_compared(&case);
                let verdict = if error > tolerance || !missed.is_empty() {
                    failures.push(format!("{} in {dtype:?}", case.name));
                    "FAILED"
                } else {
                    "ok"
                };
                println!(
                    "{:<42} {dtype:?}  {error:9.2e} at {worst:<28} {verdict} {}",
                    case.name,
                    missed.join(" ")
                );
            }
            run += 1;
        }
    }
    println!("{run} cases, {} failures", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

fn f64_tolerance(case: &Case) -> f64 {
    let constant = |key: &str| !case.config[key].is_null();
    let options = &case.config["kw"];
    let peer_constant = |key: &str| !options[key].is_null();
    if constant("max_grad_norm") || peer_constant("max_grad_norm") {
        return F64_TOLERANCE_WITH_CONSTANTS;
    }
    F64_TOLERANCE
}
