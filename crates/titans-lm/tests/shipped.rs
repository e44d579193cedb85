//! The checkpoint in `checkpoint/` recalls facts from a text much longer than any that it was
//! trained on, and it is the memory that does it.

use std::path::PathBuf;

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use titans_core::Reads;
use titans_lm::{
    Fact, Haystack, ModelState, NeedleModel, TokenId, ValueKind, Words, asked, key, load, ruler,
    stated, value,
};

const TOKENS: usize = 16 << 10;
const PIECE: usize = 2048;
const FACTS: usize = 8;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("checkpoint")
}

fn shipped() -> NeedleModel {
    let path = folder().join("lmm.safetensors");
    load(&path, &Device::flex()).expect("our own file").0
}

/// Numbers and uuids, in the order in which the text states them.
fn facts() -> Vec<Fact> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let kinds = [ValueKind::Number, ValueKind::Uuid];
    (0..FACTS)
        .map(|index| {
            let kind = kinds[index % 2];
            let key = key(Words::All, &mut rng);
            let value = value(kind, &mut rng);
            ruler(kind, key, value)
        })
        .collect()
}

/// Sentences with the facts at equal distances, and which tokens are values.
fn text(facts: &[Fact]) -> (Vec<TokenId>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let haystack = Haystack::generated(2000, &mut rng);
    let (mut tokens, mut labels, mut given) = (Vec::new(), Vec::new(), 0);
    for sentence in 0.. {
        if tokens.len() >= TOKENS {
            break;
        }
        if given < facts.len() && tokens.len() >= given * TOKENS / facts.len() {
            let (statement, of_value) = stated(&facts[given]);
            tokens.extend(statement);
            labels.extend(of_value);
            given += 1;
        }
        tokens.extend(haystack.sentence(sentence));
        labels.resize(tokens.len(), 0.0);
    }
    (tokens, labels)
}

/// Reads a text in pieces; which tokens were written.
fn read(model: &NeedleModel, tokens: &[TokenId]) -> (ModelState, Vec<bool>) {
    let mut state = model.initial_state(1);
    let mut written = Vec::new();
    for piece in tokens.chunks(PIECE) {
        let output = model
            .forward(&[piece], &mut state, &Reads::Nothing, None)
            .expect("finite");
        for gates in output.gates {
            let open = gates.open.into_data_as::<f32>().try_into_vec::<f32>();
            written.extend(open.expect("numbers").iter().map(|open| *open > 0.5));
        }
    }
    (state, written)
}

fn right(model: &NeedleModel, state: &ModelState, facts: &[Fact]) -> usize {
    let is_right = |fact: &&Fact| {
        let (question, mut expected) = asked(fact);
        expected.pop();
        let answer = model.answer(&question, &mut state.clone(), 40, || ());
        answer.expect("finite") == expected
    };
    facts.iter().filter(is_right).count()
}

#[test]
fn the_shipped_model_recalls_and_its_memory_is_why() {
    let (model, facts) = (shipped(), facts());
    let (tokens, labels) = text(&facts);
    let (state, written) = read(&model, &tokens);
    assert_eq!(right(&model, &state, &facts), FACTS);

    // Nothing that it read, nothing that it knows.
    let empty = model.initial_state(1);
    assert_eq!(right(&model, &empty, &facts), 0);
    let closed = model.clone().with_forced_gate(false);
    let (never_written, _) = read(&closed, &tokens);
    assert_eq!(right(&closed, &never_written, &facts), 0);

    // Every token of a value is written, and hardly anything else.
    let of_values = labels.iter().filter(|label| **label > 0.5).count();
    let hits = written
        .iter()
        .zip(&labels)
        .filter(|(w, l)| **w && **l > 0.5);
    assert_eq!(hits.count(), of_values);
    let falsely = written
        .iter()
        .zip(&labels)
        .filter(|(w, l)| **w && **l < 0.5);
    let falsely = falsely.count();
    assert!(falsely <= 2, "{falsely} of {} tokens", tokens.len());

    assert_eq!(state.bytes(), read(&model, &tokens[..100]).0.bytes());
}

#[test]
fn every_shipped_checkpoint_is_read_and_small() {
    let mut found = 0;
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "safetensors") {
            let (model, notes) = load(&path, &Device::flex()).expect("our own file");
            let bytes = path.metadata().expect("a file").len();
            assert!(bytes <= 8_000_000, "{} has {bytes} bytes", path.display());
            assert!(model.config().rows > 0 && notes.contains_key("training_seed"));
            found += 1;
        }
    }
    assert!(found > 0);
}
