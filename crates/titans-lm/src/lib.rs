//! A small language model on the layers of `titans-core`: what trains it, and what the
//! needle benchmark asks it.
//!
//! Words are read by hash, figures and codes by character ([`tokenize`]); a front end makes
//! of each token what its sentence is about and where in a value it stands ([`FrontEnd`]);
//! one [`TitansLayer`](titans_core::TitansLayer) keeps and recalls; a head names the next
//! token ([`NeedleModel`]). [`Trainer`] differentiates through the memory's own writes.
//!
//! It is a model of facts in text, not of text: it is never trained to continue a novel.

#![forbid(unsafe_code)]

mod checkpoint;
mod facts;
mod frontend;
mod haystack;
mod model;
mod sample;
mod templates;
mod tokens;
mod train;
mod values;

pub use checkpoint::{CheckpointError, Precision, load, read, save, transfer};
pub use facts::{
    Fact, Words, key, ruler, ruler_introduction, templated, templated_fact, training_fact,
    unseen_fact,
};
pub use frontend::{FrontEnd, FrontEndState, WIDTH};
pub use haystack::{Haystack, figures_in_passing};
pub use model::{ModelConfig, ModelOutput, ModelState, NeedleModel};
pub use sample::{Sample, SampleConfig, Source, asked, introduction, stated, with_random_words};
pub use templates::{SEEN, Template, UNSEEN};
pub use tokens::{
    FULL_STOP, Lexicon, PARAGRAPH, TokenId, VOCABULARY, ends_sentence, is_character_of_a_code,
    is_word, tokenize,
};
pub use train::{Stage, StepReport, Trainer};
pub use values::{ValueKind, made_up, value};
