//! Text as tokens: words, numbers and punctuation marks, each with a number.

use std::collections::HashMap;

/// A text without full stops is cut into pieces of so many tokens.
const MAX_SENTENCE: usize = 64;

/// A token by its number in a [`Vocabulary`].
pub(crate) type WordId = u32;

/// The distinct tokens of a text, numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, WordId>,
}

impl Vocabulary {
    pub(crate) fn id(&mut self, word: &str) -> WordId {
        if let Some(id) = self.ids.get(word) {
            return *id;
        }
        let id = self.words.len() as WordId;
        self.words.push(word.to_owned());
        self.ids.insert(word.to_owned(), id);
        id
    }

    pub(crate) fn word(&self, id: WordId) -> &str {
        &self.words[id as usize]
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// The tokens of one sentence.
    pub(crate) fn sentence(&mut self, text: &str) -> Vec<WordId> {
        words(text).map(|word| self.id(word)).collect()
    }

    /// The sentences of a text, each ending with its mark or after 64 tokens.
    pub(crate) fn sentences(&mut self, text: &str) -> Vec<Vec<WordId>> {
        let mut sentences = Vec::new();
        let mut sentence = Vec::new();
        for word in words(text) {
            sentence.push(self.id(word));
            if matches!(word, "." | "!" | "?") || sentence.len() == MAX_SENTENCE {
                sentences.push(std::mem::take(&mut sentence));
            }
        }
        if !sentence.is_empty() {
            sentences.push(sentence);
        }
        sentences
    }
}

/// Runs of letters and digits, joined across `-`, `'` and the apostrophe, and single marks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if first.is_alphanumeric() {
            word_end(rest)
        } else {
            first.len_utf8()
        };
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(word)
    })
}

fn word_end(text: &str) -> usize {
    let mut end = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((start, char)) = chars.next() {
        let joins = matches!(char, '-' | '\'' | '\u{2019}')
            && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if !char.is_alphanumeric() && !joins {
            break;
        }
        end = start + char.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_marks_are_tokens() {
        let found: Vec<_> =
            words("The quiet-harbour's 42 is: \u{201c}caf\u{e9}\u{201d} - no.").collect();
        assert_eq!(
            found,
            [
                "The",
                "quiet-harbour's",
                "42",
                "is",
                ":",
                "\u{201c}",
                "caf\u{e9}",
                "\u{201d}",
                "-",
                "no",
                "."
            ]
        );
        assert_eq!(words(" \n ").count(), 0);
    }

    #[test]
    fn sentences_end_with_their_mark_and_the_last_may_lack_one() {
        let mut vocabulary = Vocabulary::default();
        let sentences = vocabulary.sentences("A b. C! d e");
        let text: Vec<Vec<&str>> = sentences
            .iter()
            .map(|sentence| sentence.iter().map(|id| vocabulary.word(*id)).collect())
            .collect();
        assert_eq!(text, [vec!["A", "b", "."], vec!["C", "!"], vec!["d", "e"]]);
        assert_eq!(vocabulary.words().len(), 7);
    }
}
