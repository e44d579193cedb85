//! The model reads in pieces what it reads whole, comes back from its file, goes on training
//! where it stopped, and its memory can be served by the runtime.

use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use titans_core::{Reads, Wiring};
use titans_lm::{
    Haystack, ModelConfig, ModelState, NeedleModel, Precision, SampleConfig, Source, Stage,
    TokenId, Trainer, read, save, tokenize, transfer,
};

fn config(wiring: Wiring) -> ModelConfig {
    ModelConfig {
        wiring,
        rows: 768,
        active: 64,
        window: 8,
        ..ModelConfig::default()
    }
}

fn model(wiring: Wiring) -> NeedleModel {
    NeedleModel::new(config(wiring), &[], &Device::flex()).expect("valid")
}

fn text() -> Vec<TokenId> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let facts = "One of the special magic numbers for iron-gate is: 7041982. ";
    let mut text = tokenize(facts);
    text.extend(Haystack::generated(6, &mut rng).tokens());
    text
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data_as::<f32>()
        .try_into_vec::<f32>()
        .expect("numbers")
}

/// Logits after the last token of a text that is read in such pieces.
fn last_logits(model: &NeedleModel, text: &[TokenId], pieces: &[usize]) -> (Vec<f32>, ModelState) {
    let mut state = model.initial_state(1);
    let (mut start, mut last) = (0, Vec::new());
    for piece in pieces {
        let part = &text[start..start + piece];
        let reads = Reads::At(vec![vec![piece - 1]]);
        let output = model
            .forward(&[part], &mut state, &reads, None)
            .expect("finite");
        last = numbers(model.logits(&output, None));
        start += piece;
    }
    assert_eq!(start, text.len());
    (last, state)
}

fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn pieces_of_any_length_give_what_the_whole_gives() {
    let text = text();
    for wiring in Wiring::ALL {
        let model = model(*wiring).with_forced_gate(true);
        let (whole, state) = last_logits(&model, &text, &[text.len()]);
        let ones = vec![1; text.len()];
        for pieces in [&ones[..], &[3, 20, text.len() - 23], &[text.len() - 1, 1]] {
            let (found, found_state) = last_logits(&model, &text, pieces);
            let apart = apart(&found, &whole);
            // Logits are tens, and scores of attention are powers of e.
            assert!(apart < 1e-2, "{wiring} in {}: {apart}", pieces.len());
            assert_eq!(found_state.bytes(), state.bytes(), "{wiring}");
        }
    }
}

#[test]
fn a_stated_value_is_recalled_even_untrained_when_its_sentence_is_asked_again() {
    // The value is written and nothing else; the question is the statement itself.
    let open = model(Wiring::Lmm).with_forced_gate(true);
    let model = model(Wiring::Lmm).with_forced_gate(false);
    let mut state = model.initial_state(1);
    for (model, part) in [
        (&model, "The code of iron-gate is"),
        (&open, "52"),
        (&model, "."),
    ] {
        model
            .forward(&[&tokenize(part)], &mut state, &Reads::Nothing, None)
            .expect("finite");
    }
    let question = tokenize("The code of iron-gate is");
    let answer = model
        .answer(&question, &mut state.clone(), 2, || ())
        .expect("finite");
    assert_eq!(answer, tokenize("52"));
    let mut empty = model.initial_state(1);
    let answer = model
        .answer(&question, &mut empty, 2, || ())
        .expect("finite");
    assert_ne!(answer, tokenize("52"));
}

#[test]
fn a_checkpoint_comes_back_and_damage_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    let text = text();
    for wiring in Wiring::ALL {
        let model = model(*wiring);
        let notes = [("step", "7".to_owned())];
        save(&model, &path, Precision::Single, &notes).expect("writes");
        let (back, found) = titans_lm::load(&path, &Device::flex()).expect("reads");
        assert_eq!(found.get("step").map(String::as_str), Some("7"));
        let whole = [text.len()];
        let logits = |model| last_logits(model, &text, &whole).0;
        assert!(logits(&model) == logits(&back), "{wiring}");

        save(&model, &path, Precision::Half, &notes).expect("writes");
        let (half, _) = titans_lm::load(&path, &Device::flex()).expect("reads");
        assert!(logits(&half) != logits(&model) && apart(&logits(&half), &logits(&model)) < 0.5);
    }
    let bytes = std::fs::read(&path).expect("reads");
    for cut in [0, 7, 100, bytes.len() - 1] {
        let error = read(&bytes[..cut], &Device::flex())
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some(), "{cut}");
    }
    let missing = dir.path().join("none.safetensors");
    let error = titans_lm::load(&missing, &Device::flex())
        .err()
        .map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.starts_with("cannot read")));
}

#[test]
fn another_wiring_begins_from_what_is_common() {
    let trained = train(model(Wiring::Lmm), 3, None).model();
    let begun = transfer(model(Wiring::Mag), &trained);
    let text = text();
    let logits = |model: &NeedleModel| last_logits(model, &text, &[text.len()]).0;
    // Its attention adds nothing yet.
    assert!(apart(&logits(&begun), &logits(&trained)) < 1e-4);
    assert!(apart(&logits(&model(Wiring::Mag)), &logits(&trained)) > 1e-3);
}

fn train(model: NeedleModel, steps: u64, from: Option<(u64, &std::path::Path)>) -> Trainer {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let source = Source::new(vec![Haystack::generated(60, &mut rng)], 1);
    let stage = Stage {
        steps: 4,
        batch: 2,
        samples: SampleConfig {
            tokens: 160,
            facts: 1..=2,
            reads: 12,
            hard_negatives: 0.5,
            word_dropout: 0.1,
            same_subject: 0.2,
            wording_dropout: 0.2,
        },
        learning_rate: 1e-2,
        last_learning_rate: 1e-2,
    };
    let mut trainer = Trainer::new(model, 9);
    if let Some((step, path)) = from {
        trainer = trainer.resume(step, path).expect("our own file");
    }
    for _ in 0..steps {
        trainer.step(&source, &stage, 1e-2).expect("finite");
    }
    trainer
}

#[test]
fn training_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let (parameters, moments) = (
        dir.path().join("a.safetensors"),
        dir.path().join("a.optimizer"),
    );
    for wiring in [Wiring::Lmm, Wiring::FullAttention] {
        let through = train(model(wiring), 4, None).model();
        let half = train(model(wiring), 2, None);
        half.save_optimizer(&moments).expect("writes");
        save(&half.model(), &parameters, Precision::Single, &[]).expect("writes");
        let (back, _) = titans_lm::load(&parameters, &Device::flex()).expect("reads");
        let resumed = train(back, 2, Some((half.step_number(), &moments))).model();
        let text = text();
        let logits = |model: &NeedleModel| last_logits(model, &text, &[text.len()]).0;
        assert!(logits(&through) == logits(&resumed), "{wiring}");
        assert!(logits(&through) != logits(&half.model()), "{wiring}");
    }
}
