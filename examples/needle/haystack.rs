//! The texts that needles are hidden in.

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use titans_needle::words::{ADJECTIVES, ADVERBS, NOUNS, PREPOSITIONS, VERBS};

use crate::text::{Vocabulary, WordId};

/// RULER's noise (arXiv:2404.06654), repeated without end.
const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
/// Sentences in the bank of the Zipf haystack.
const BANK: usize = 150;

/// An endless supply of sentences, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Haystack {
    sentences: Vec<Vec<WordId>>,
    order: Order,
    /// Sentences given out.
    given: usize,
}

#[derive(Debug)]
enum Order {
    /// One after the other, again from the first after the last.
    Cycle,
    /// The sentence of rank r with a weight of 1 / r.
    Zipf {
        cumulative: Vec<f64>,
        words: Box<ChaCha8Rng>,
    },
}

impl Haystack {
    /// RULER's five noise sentences, repeated.
    pub(crate) fn noise(vocabulary: &mut Vocabulary) -> Self {
        Self::cycle(vocabulary.sentences(NOISE))
    }

    /// Sentences drawn by a Zipf law from a seeded bank of 150, about 1500 contexts.
    pub(crate) fn zipf(vocabulary: &mut Vocabulary, seed: u64) -> Self {
        let mut words = ChaCha8Rng::seed_from_u64(seed);
        let sentences: Vec<_> = (0..BANK)
            .map(|_| vocabulary.sentence(&bank_sentence(&mut words)))
            .collect();
        let mut total = 0.0;
        let cumulative = (1..=BANK)
            .map(|rank| {
                total += 1.0 / rank as f64;
                total
            })
            .collect();
        Self {
            sentences,
            order: Order::Zipf {
                cumulative,
                words: Box::new(words),
            },
            given: 0,
        }
    }

    /// A text, again from its beginning after its end. `None` when it has no words.
    pub(crate) fn text(vocabulary: &mut Vocabulary, text: &str) -> Option<Self> {
        let sentences = vocabulary.sentences(text);
        (!sentences.is_empty()).then(|| Self::cycle(sentences))
    }

    /// Tokens of all sentences together: a text repeats after as many.
    pub(crate) fn tokens(&self) -> usize {
        self.sentences.iter().map(Vec::len).sum()
    }

    pub(crate) fn next_sentence(&mut self) -> &[WordId] {
        let index = match &mut self.order {
            Order::Cycle => self.given % self.sentences.len(),
            Order::Zipf { cumulative, words } => {
                let total = cumulative[cumulative.len() - 1];
                let drawn = words.random::<f64>() * total;
                cumulative
                    .partition_point(|up_to| *up_to <= drawn)
                    .min(cumulative.len() - 1)
            }
        };
        self.given += 1;
        &self.sentences[index]
    }

    fn cycle(sentences: Vec<Vec<WordId>>) -> Self {
        Self {
            sentences,
            order: Order::Cycle,
            given: 0,
        }
    }
}

fn bank_sentence(words: &mut ChaCha8Rng) -> String {
    let mut pick = |list: &[&'static str]| *list.choose(words).expect("the lists are not empty");
    format!(
        "{} {} {} {} {} {} {} {} {} of {} .",
        pick(&ADJECTIVES),
        pick(&NOUNS),
        pick(&ADVERBS),
        pick(&VERBS),
        pick(&ADJECTIVES),
        pick(&NOUNS),
        pick(&PREPOSITIONS),
        pick(&ADJECTIVES),
        pick(&NOUNS),
        pick(&NOUNS),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::CONTEXT;
    use std::collections::HashSet;

    fn sentences(haystack: &mut Haystack, count: usize) -> Vec<Vec<WordId>> {
        (0..count)
            .map(|_| haystack.next_sentence().to_vec())
            .collect()
    }

    #[test]
    fn noise_repeats_its_five_sentences() {
        let mut haystack = Haystack::noise(&mut Vocabulary::default());
        assert_eq!(haystack.tokens(), 24);
        let drawn = sentences(&mut haystack, 10);
        assert_eq!(drawn[..5], drawn[5..]);
    }

    #[test]
    fn zipf_has_about_1500_contexts_and_depends_on_the_seed() {
        let draw = |seed| {
            let mut haystack = Haystack::zipf(&mut Vocabulary::default(), seed);
            sentences(&mut haystack, 6000)
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        let contexts: HashSet<&[WordId]> = drawn
            .iter()
            .flat_map(|s| (0..s.len()).map(|t| &s[t.saturating_sub(CONTEXT)..t]))
            .collect();
        assert!((1450..1650).contains(&contexts.len()), "{}", contexts.len());
        // The first of 150 ranks has weight 1 / 5.6.
        let first = drawn_most(&drawn);
        let most = drawn.iter().filter(|s| **s == first).count();
        assert!((900..1250).contains(&most), "{most}");
    }

    fn drawn_most(drawn: &[Vec<WordId>]) -> Vec<WordId> {
        let count = |s: &&Vec<WordId>| drawn.iter().filter(|other| other == s).count();
        drawn[..200]
            .iter()
            .max_by_key(count)
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn a_text_starts_again_and_an_empty_one_is_none() {
        let mut vocabulary = Vocabulary::default();
        assert!(Haystack::text(&mut vocabulary, " \n").is_none());
        let mut haystack = Haystack::text(&mut vocabulary, "A b. C.").expect("has words");
        let drawn = sentences(&mut haystack, 3);
        assert_eq!(drawn[0], drawn[2]);
        assert_eq!(haystack.tokens(), 5);
    }
}
