//! Fixed features of text: no model is trained here.
//!
//! - The *value* of a word is a random unit vector that depends on the seed and its letters.
//! - The *key* of a place in the text is a random unit vector that depends on the seed and the
//!   last [`CONTEXT`] words before it, not reaching over the beginning of the sentence.
//!
//! So the memory learns "after these words comes that word", one association per token, and
//! a fact is found by its own wording. Two contexts that differ in one word have unrelated
//! keys: nothing is generalised, which is what a learned key would add.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::text::{Vocabulary, WordId};

/// Words that make a key.
pub(crate) const CONTEXT: usize = 3;

/// Keys and values of words.
#[derive(Debug)]
pub(crate) struct Features {
    key_dim: usize,
    value_dim: usize,
    seed: [u8; 32],
    /// A digest of each word's letters, by its number.
    digests: Vec<u64>,
    /// Values of all words, by number, row-major.
    values: Vec<f32>,
}

impl Features {
    pub(crate) fn new(key_dim: usize, value_dim: usize, seed: u64) -> Self {
        Self {
            key_dim,
            value_dim,
            seed: *blake3::hash(&seed.to_le_bytes()).as_bytes(),
            digests: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Makes the values of words that are new in the vocabulary.
    pub(crate) fn learn_words(&mut self, vocabulary: &Vocabulary) {
        for word in &vocabulary.words()[self.digests.len()..] {
            let digest = self.digest(word.as_bytes());
            self.digests.push(digest);
            let start = self.values.len();
            self.values.resize(start + self.value_dim, 0.0);
            unit_vector(digest, &mut self.values[start..]);
        }
    }

    /// The value of a word, of unit length.
    pub(crate) fn value(&self, word: WordId) -> &[f32] {
        &self.values[word as usize * self.value_dim..][..self.value_dim]
    }

    /// Appends the key of the place behind `before`, the words of the sentence so far.
    pub(crate) fn append_key(&self, before: &[WordId], keys: &mut Vec<f32>) {
        let context = &before[before.len().saturating_sub(CONTEXT)..];
        let mut bytes = [0; 8 * CONTEXT];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(context) {
            slot.copy_from_slice(&self.digests[*word as usize].to_le_bytes());
        }
        let start = keys.len();
        keys.resize(start + self.key_dim, 0.0);
        unit_vector(self.digest(&bytes[..8 * context.len()]), &mut keys[start..]);
    }

    /// The word whose value is nearest to `recalled` among all words, or `None` when next to
    /// nothing was recalled. Of equally near ones the first.
    pub(crate) fn nearest_word(&self, recalled: &[f32]) -> Option<WordId> {
        let energy: f32 = recalled.iter().map(|x| x * x).sum();
        if energy < SILENCE {
            return None;
        }
        let mut best = (f32::NEG_INFINITY, 0);
        for (word, value) in (0..).zip(self.values.chunks_exact(self.value_dim)) {
            let cosine: f32 = value.iter().zip(recalled).map(|(v, r)| v * r).sum();
            if cosine > best.0 {
                best = (cosine, word);
            }
        }
        Some(best.1)
    }

    fn digest(&self, bytes: &[u8]) -> u64 {
        let digest = blake3::keyed_hash(&self.seed, bytes);
        let mut head = [0; 8];
        head.copy_from_slice(&digest.as_bytes()[..8]);
        u64::from_le_bytes(head)
    }
}

/// Squared length under which a recall counts as no answer; what was stored has length 1.
const SILENCE: f32 = 1e-4;

fn unit_vector(digest: u64, vector: &mut [f32]) {
    let mut words = ChaCha8Rng::seed_from_u64(digest);
    for entry in vector.iter_mut() {
        *entry = (words.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for entry in vector {
        *entry /= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(features: &Features, before: &[WordId]) -> Vec<f32> {
        let mut key = Vec::new();
        features.append_key(before, &mut key);
        key
    }

    #[test]
    fn a_key_is_the_last_words_of_the_sentence_and_a_value_its_word() {
        let mut vocabulary = Vocabulary::default();
        let ids = vocabulary.sentence("a b c d e");
        let mut features = Features::new(16, 24, 5);
        features.learn_words(&vocabulary);
        assert_eq!(key(&features, &ids[..4]), key(&features, &ids[1..4]));
        assert_ne!(key(&features, &ids[..4]), key(&features, &ids[2..4]));
        assert_ne!(
            key(&features, &ids[..3]),
            key(&features, &[ids[1], ids[0], ids[2]])
        );
        let length: f32 = key(&features, &[]).iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
        for id in ids {
            assert_eq!(features.nearest_word(features.value(id)), Some(id));
        }
        assert_eq!(features.nearest_word(&[0.0; 24]), None);
    }

    #[test]
    fn features_hang_on_letters_and_seed_not_on_order() {
        let value = |text: &str, word: &str, seed| {
            let mut vocabulary = Vocabulary::default();
            vocabulary.sentence(text);
            let mut features = Features::new(8, 8, seed);
            features.learn_words(&vocabulary);
            features.value(vocabulary.id(word)).to_vec()
        };
        assert_eq!(value("one two", "two", 1), value("two one", "two", 1));
        assert_ne!(value("one two", "two", 1), value("one two", "two", 2));
    }
}
