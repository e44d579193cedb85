//! `TITANMEM_SIMD` is read once in the life of a process, so every word has a process of its own:
//! this test, run again.

use std::process::Command;

use burn::tensor::Device;
use titans_core::{ConfigError, NeuralMemory, Preset};

/// Whether this process is one of those that the test starts.
const IS_CHILD: &str = "TITANMEM_TEST_LEVEL";

fn build() -> Result<NeuralMemory, ConfigError> {
    NeuralMemory::new(Preset::Sparse.config(), &Device::flex())
}

#[test]
fn a_memory_is_built_at_a_level_of_the_machine_and_at_no_other() {
    if std::env::var_os(IS_CHILD).is_some() {
        match build() {
            Ok(_) => println!("built"),
            Err(error) => println!("refused: {error}"),
        }
        return;
    }
    let of = |word: &str| {
        let program = std::env::current_exe().expect("this test");
        let child = Command::new(program)
            .args(["--nocapture", "--test-threads=1"])
            .env(IS_CHILD, "1")
            .env("TITANMEM_SIMD", word)
            .output()
            .expect("it runs");
        assert!(child.status.success(), "{word:?}: {child:?}");
        String::from_utf8(child.stdout).expect("text")
    };
    for word in ["", "native", "scalar"] {
        assert!(of(word).contains("built"), "{word:?}");
    }
    for word in ["avx3", "Scalar", "avx2 "] {
        let said = of(word);
        let expected = format!("refused: TITANMEM_SIMD is {word:?}, which is no level of vectors");
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("this machine takes scalar, "), "{said}");
    }
}
