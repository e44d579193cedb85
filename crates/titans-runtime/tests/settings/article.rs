//! The names of the article are names of our settings.

use titans_core::{MemoryArchitecture, Preset, RetentionGate, SparseGate};
use titans_runtime::RuntimeConfig;

use super::{expect_same, read, refused, with_variables};

/// What the article sets them to.
const ITS_VALUES: &str = "surprise_threshold = 0.15\ntop_k_ratio = 0.02\nalpha_lambda = 0.8\n\
                          alpha_gamma = 0.2\nchunk_size = 4096\neta = 1e-4\nbeta = 0.9";

#[test]
fn its_values_are_the_preset_of_its_name() {
    let found = read(&format!("[memory]\npreset = \"article\"\n{ITS_VALUES}"));
    expect_same(&found, &RuntimeConfig::preset(Preset::Article));
}

#[test]
fn each_name_sets_what_the_table_of_parameters_says() {
    let found = read(
        "[memory]\npreset = \"article\"\nsurprise_threshold = 0.3\ntop_k_ratio = 0.05\n\
         alpha_lambda = 0.7\nalpha_gamma = 0.4\nchunk_size = 1024\neta = 2e-4\nbeta = 0.95",
    );
    let mut expected = RuntimeConfig::preset(Preset::Article).with_chunk_tokens(1024);
    let memory = &mut expected.memory;
    memory.update.surprise_threshold = 0.3;
    memory.update.sparse_gate = SparseGate::Elements { ratio: 0.05 };
    memory.update.update_size = 1024;
    let RetentionGate::SurpriseSigmoid(gate) = &mut memory.miras.retention_gate else {
        panic!("the gate of the article");
    };
    (gate.gain, gate.offset, gate.smoothing) = (0.7, 0.4, 0.95);
    let titans_core::LearningAlgorithm::GradientDescent(descent) =
        &mut memory.miras.learning_algorithm
    else {
        panic!("the step of the article");
    };
    descent.step_size = 2e-4;
    expect_same(&found, &expected);
}

#[test]
fn in_sparse_the_ratio_is_that_of_channels_and_the_chunk_no_update() {
    let found = read("[memory]\ntop_k_ratio = 0.02\nchunk_size = 1024");
    let MemoryArchitecture::SparseChannelMlp(mlp) = found.memory.miras.architecture else {
        panic!("the default memory");
    };
    assert_eq!((mlp.channels, mlp.active_channels), (8192, 164));
    assert_eq!(
        (found.chunk_tokens, found.memory.update.update_size),
        (1024, 1)
    );
    let found = read("[memory]\ntop_k_ratio = 0.02\narchitecture.channels = 1000");
    let MemoryArchitecture::SparseChannelMlp(mlp) = found.memory.miras.architecture else {
        panic!("the default memory");
    };
    assert_eq!((mlp.channels, mlp.active_channels), (1000, 20));
}

#[test]
fn an_update_of_given_size_is_not_changed_by_the_chunk() {
    let found = read("[memory]\npreset = \"article\"\nchunk_size = 1024\nupdate.update_size = 64");
    assert_eq!(
        (found.chunk_tokens, found.memory.update.update_size),
        (1024, 64)
    );
}

#[test]
fn both_names_of_one_setting_are_refused_by_name() {
    for (text, first, second) in [
        (
            "[memory]\neta = 1\nlearning_algorithm.step_size = 1",
            "eta",
            "`step_size` in [memory.learning_algorithm]",
        ),
        (
            "[memory]\nbeta = 0.9\nretention_gate.smoothing = 0.9",
            "beta",
            "`smoothing` in [memory.retention_gate]",
        ),
        (
            "[memory]\nalpha_lambda = 1\nretention_gate.gain = 1",
            "alpha_lambda",
            "`gain` in [memory.retention_gate]",
        ),
        (
            "[memory]\nalpha_gamma = 1\nretention_gate.offset = 1",
            "alpha_gamma",
            "`offset` in [memory.retention_gate]",
        ),
        (
            "[memory]\nsurprise_threshold = 1\nupdate.surprise_threshold = 1",
            "surprise_threshold",
            "`surprise_threshold` in [memory.update]",
        ),
        (
            "[memory]\ntop_k_ratio = 0.1\narchitecture.active_channels = 8",
            "top_k_ratio",
            "`active_channels` in [memory.architecture]",
        ),
        (
            "[memory]\npreset = \"article\"\ntop_k_ratio = 0.1\nupdate.top_elements = 0.1",
            "top_k_ratio",
            "`top_elements` in [memory.update]",
        ),
        (
            "[memory]\nchunk_size = 64\n[runtime]\nchunk_tokens = 64",
            "chunk_size",
            "`chunk_tokens` in [runtime]",
        ),
    ] {
        let expected = format!(
            "`{first}` in [memory] and {second} are two names of one setting; give one of them"
        );
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn a_name_without_meaning_for_the_memory_says_so() {
    assert_eq!(
        refused("[memory]\npreset = \"delta\"\nalpha_lambda = 0.8"),
        "`alpha_lambda` in [memory] has no meaning here: it is `gain` of \
         [memory.retention_gate], which \"none\" lacks"
    );
    assert_eq!(
        refused("[memory]\ntop_k_ratio = 1.5"),
        "`top_k_ratio` in [memory] is 1.5, expected over 0 and at most 1"
    );
}

#[test]
fn they_are_variables_too() {
    let found = with_variables(&[("TITANMEM_ETA", "0.3"), ("TITANMEM_CHUNK_SIZE", "512")]);
    expect_same(
        &found.unwrap(),
        &read("[memory]\neta = 0.3\nchunk_size = 512"),
    );
    let both = [("TITANMEM_CHUNK_SIZE", "1"), ("TITANMEM_CHUNK_TOKENS", "1")];
    assert_eq!(
        with_variables(&both).unwrap_err().to_string(),
        "`TITANMEM_CHUNK_SIZE` in the environment and `TITANMEM_CHUNK_TOKENS` in the environment \
         are two names of one setting; give one of them"
    );
}
