//! One-shot facts and where they are hidden.

use std::collections::HashSet;

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use titans_needle::words::{ADJECTIVES, NOUNS};

use crate::haystack::Haystack;
use crate::text::{Vocabulary, WordId};

/// Distinct keys that the word lists give.
pub(crate) const MAX_NEEDLES: usize = ADJECTIVES.len() * NOUNS.len();

/// A fact that the text states once.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    /// The sentence that states it.
    pub(crate) sentence: Vec<WordId>,
    /// What comes before the value: the question, in the needle's own words.
    pub(crate) question: Vec<WordId>,
    /// The value.
    pub(crate) answer: WordId,
    /// Where it is hidden: 0 at the beginning of the text, 1 at its end.
    pub(crate) depth: f64,
}

/// RULER's needles: `One of the special magic numbers for <adjective-noun> is: <7 digits>.`,
/// with distinct keys and values, at uniform depths.
pub(crate) fn make(vocabulary: &mut Vocabulary, count: usize, seed: u64) -> Vec<Needle> {
    let mut words = ChaCha8Rng::seed_from_u64(seed);
    let mut keys: Vec<String> = ADJECTIVES
        .iter()
        .flat_map(|adjective| NOUNS.iter().map(move |noun| format!("{adjective}-{noun}")))
        .collect();
    keys.shuffle(&mut words);
    let mut numbers = HashSet::new();
    let last = count.saturating_sub(1).max(1) as f64;
    keys.into_iter()
        .take(count)
        .enumerate()
        .map(|(index, key)| {
            let number = loop {
                let number = words.random_range(1_000_000..=9_999_999);
                if numbers.insert(number) {
                    break number;
                }
            };
            let question = format!("One of the special magic numbers for {key} is:");
            Needle {
                sentence: vocabulary.sentence(&format!("{question} {number}.")),
                question: vocabulary.sentence(&question),
                answer: vocabulary.id(&number.to_string()),
                depth: if count == 1 { 0.5 } else { index as f64 / last },
            }
        })
        .collect()
}

/// A text of exactly so many tokens: sentences of the haystack with the needles between.
#[derive(Debug)]
pub(crate) struct HiddenNeedles<'a> {
    haystack: &'a mut Haystack,
    /// Not yet given out, in the order of their depths.
    needles: &'a [Needle],
    haystack_tokens: usize,
    haystack_given: usize,
}

impl<'a> HiddenNeedles<'a> {
    /// # Errors
    /// When the needles alone are longer than the text, in words.
    pub(crate) fn new(
        haystack: &'a mut Haystack,
        needles: &'a [Needle],
        tokens: usize,
    ) -> Result<Self, String> {
        let needed: usize = needles.iter().map(|needle| needle.sentence.len()).sum();
        let haystack_tokens = tokens.checked_sub(needed).ok_or_else(|| {
            format!(
                "{} needles are {needed} tokens, more than the {tokens} of the text",
                needles.len()
            )
        })?;
        Ok(Self {
            haystack,
            needles,
            haystack_tokens,
            haystack_given: 0,
        })
    }

    /// The next sentence; the last of the haystack is cut to length.
    pub(crate) fn next_sentence(&mut self) -> Option<&[WordId]> {
        if let Some((needle, rest)) = self.needles.split_first() {
            let place = (needle.depth * self.haystack_tokens as f64) as usize;
            if self.haystack_given >= place {
                self.needles = rest;
                return Some(&needle.sentence);
            }
        }
        let left = self.haystack_tokens - self.haystack_given;
        if left == 0 {
            return None;
        }
        let sentence = self.haystack.next_sentence();
        let sentence = &sentence[..sentence.len().min(left)];
        self.haystack_given += sentence.len();
        Some(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: usize, needles: usize) -> Result<(Vec<WordId>, Vec<Needle>), String> {
        let mut vocabulary = Vocabulary::default();
        let needles = make(&mut vocabulary, needles, 3);
        let mut haystack = Haystack::noise(&mut vocabulary);
        let mut hidden = HiddenNeedles::new(&mut haystack, &needles, tokens)?;
        let mut text = Vec::new();
        while let Some(sentence) = hidden.next_sentence() {
            text.extend_from_slice(sentence);
        }
        Ok((text, needles))
    }

    #[test]
    fn the_text_has_its_length_and_every_needle_once_in_order() {
        for (tokens, count) in [(1021, 64), (768, 64), (100, 1), (17, 0), (4096, 7)] {
            let (text, needles) = text(tokens, count).expect("fits");
            assert_eq!(text.len(), tokens);
            let places: Vec<usize> = needles
                .iter()
                .map(|needle| {
                    let places = text.iter().filter(|word| **word == needle.answer);
                    assert_eq!(places.count(), 1);
                    text.iter()
                        .position(|word| *word == needle.answer)
                        .unwrap_or(0)
                })
                .collect();
            assert!(places.is_sorted(), "{places:?}");
        }
    }

    #[test]
    fn needles_lie_at_their_depths() {
        let (text, needles) = text(100_000, 11).expect("fits");
        for needle in needles {
            let place = text.iter().position(|word| *word == needle.answer);
            let depth = place.expect("hidden") as f64 / 1e5;
            assert!(
                (depth - needle.depth).abs() < 0.01,
                "{depth} {}",
                needle.depth
            );
        }
    }

    #[test]
    fn more_needles_than_text_are_an_error_and_distinct_facts_are_not() {
        let error = text(767, 64).expect_err("one token short");
        assert_eq!(
            error,
            "64 needles are 768 tokens, more than the 767 of the text"
        );
        let mut vocabulary = Vocabulary::default();
        let needles = make(&mut vocabulary, 200, 1);
        let answers: HashSet<_> = needles.iter().map(|needle| needle.answer).collect();
        let keys: HashSet<_> = needles
            .iter()
            .map(|needle| needle.question.clone())
            .collect();
        assert_eq!((answers.len(), keys.len()), (200, 200));
    }
}
