//! The text around the facts, sentence by sentence.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::tokens::{TokenId, ends_sentence, tokenize};
use crate::values::{ValueKind, digits, made_up, value};
use titans_needle::words::{ADJECTIVES, ADVERBS, NOUNS, PREPOSITIONS, VERBS};

/// A text without full stops is cut into pieces of so many tokens.
const LONGEST_SENTENCE: usize = 512;

/// RULER's noise (arXiv:2404.06654), one block.
const NOISE: &str = "The grass is green. The sky is blue. The sun is yellow. Here we go. \
                     There and back again.";

/// A text cut into sentences.
#[derive(Clone, Debug, Default)]
pub struct Haystack {
    tokens: Vec<TokenId>,
    /// Where each sentence ends.
    ends: Vec<usize>,
}

impl Haystack {
    /// The sentences of a text.
    pub fn of_text(text: &str) -> Self {
        let mut haystack = Self::default();
        let mut length = 0;
        let mut tokens = tokenize(text).into_iter().peekable();
        while let Some(token) = tokens.next() {
            haystack.tokens.push(token);
            length += 1;
            let ends = ends_sentence(token)
                && tokens
                    .peek()
                    .is_none_or(|next| !ends_sentence(*next) && *next != 0x22);
            if ends || length == LONGEST_SENTENCE {
                haystack.ends.push(haystack.tokens.len());
                length = 0;
            }
        }
        if length > 0 {
            haystack.ends.push(haystack.tokens.len());
        }
        haystack
    }

    /// RULER's noise sentences.
    pub fn noise() -> Self {
        Self::of_text(NOISE)
    }

    /// Generated sentences with Zipf-distributed words and some figures, for runs without
    /// books.
    pub fn generated(sentences: usize, rng: &mut ChaCha8Rng) -> Self {
        let text: Vec<String> = (0..sentences).map(|_| generated_sentence(rng)).collect();
        Self::of_text(&text.join(" "))
    }

    /// Sentences of some texts, each with a figure put in where the text has none: years,
    /// ranges, ordinals, sums and numbers in every context that a text offers.
    ///
    /// A gate that has only met the figures of a few books opens on `from 1830 to 1835` in
    /// the next one.
    ///
    /// # Panics
    /// If there is no text, or one has no sentence.
    pub fn with_figures(texts: &[Self], sentences: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut haystack = Self::default();
        for _ in 0..sentences {
            let text = texts.choose(rng).expect("texts");
            let sentence = text.sentence(rng.random_range(0..text.sentences()));
            haystack.tokens.extend(with_a_figure(sentence, rng));
            haystack.ends.push(haystack.tokens.len());
        }
        haystack
    }

    /// Tokens in all.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Sentences in all.
    pub fn sentences(&self) -> usize {
        self.ends.len()
    }

    /// One sentence, counted round and round.
    ///
    /// # Panics
    /// If there are none.
    pub fn sentence(&self, index: usize) -> &[TokenId] {
        let index = index % self.ends.len();
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        &self.tokens[start..self.ends[index]]
    }

    /// The number of the sentence that holds a token.
    pub fn sentence_at(&self, token: usize) -> usize {
        self.ends.partition_point(|end| *end <= token)
    }

    /// Sentences with a digit in them: where a gate for figures is most easily fooled.
    pub fn sentences_with_digits(&self) -> Vec<usize> {
        let has_digit = |index: &usize| {
            let digit = |token: &TokenId| (0x30..0x3a).contains(token);
            self.sentence(*index).iter().any(digit)
        };
        (0..self.sentences()).filter(has_digit).collect()
    }
}

fn generated_sentence(rng: &mut ChaCha8Rng) -> String {
    let mut pick = |words: &[&'static str]| -> &'static str {
        // Rank r with a weight of about 1 / r.
        let rank = (words.len() as f64).powf(rng.random_range(0.0..1.0)) as usize - 1;
        words[rank.min(words.len() - 1)]
    };
    let (adjective, noun) = (pick(&ADJECTIVES), pick(&NOUNS));
    let (verb, adverb) = (pick(&VERBS), pick(&ADVERBS));
    let (preposition, other) = (pick(&PREPOSITIONS), pick(&NOUNS));
    match rng.random_range(0..20) {
        0 => format!("Chapter {} tells of the {noun}.", rng.random_range(1..60)),
        1 => format!(
            "In {} the {noun} {verb} the {other}.",
            rng.random_range(1700..1900)
        ),
        2 => format!(
            "There were {} of them {preposition} the {other}.",
            rng.random_range(2..900)
        ),
        3 => format!("The {adjective} {noun} is {preposition} the {other}."),
        4 => format!("\"It is {adjective},\" said the {noun}, \"and it {verb} {adverb}.\""),
        _ => format!("The {adjective} {noun} {verb} the {other} {adverb} {preposition} it."),
    }
}

/// A sentence with a figure put in before its last token, often after a word that figures
/// follow.
pub(crate) fn with_a_figure(sentence: &[TokenId], rng: &mut ChaCha8Rng) -> Vec<TokenId> {
    // Not those with which statements end: `is`, `with`, `number`.
    const BEFORE: [&str; 19] = [
        "from", "since", "until", "to", "in", "of", "about", "at", "on", "by", "between", "before",
        "after", "the", "No.", "numbered", "page", "chapter", "aged",
    ];
    let year = |rng: &mut ChaCha8Rng| rng.random_range(1000..2030);
    let small = |rng: &mut ChaCha8Rng| rng.random_range(1..200);
    let figure = match rng.random_range(0..16) {
        0..4 => year(rng).to_string(),
        4 => format!("{} to {}", year(rng), year(rng)),
        5 => format!("{}-{}", year(rng), small(rng)),
        6 => format!("{}-{}", small(rng), small(rng)),
        7 => format!("{}th", small(rng)),
        8 => format!("{},{}", small(rng), digits(3, rng)),
        9 => format!("{} and {}", small(rng), small(rng)),
        10 => format!("{}, {}", small(rng), year(rng)),
        11 => value(ValueKind::Code, rng),
        12 => format!("{}{}", made_up(rng), small(rng)),
        13 => {
            let count = rng.random_range(3..=8);
            digits(count, rng)
        }
        _ => small(rng).to_string(),
    };
    let figure = match rng.random_bool(0.5) {
        true => format!("{} {figure}", BEFORE.choose(rng).expect("words")),
        false => figure,
    };
    // Statements end with their figure, so that place is met more often than others.
    let last = sentence.len().saturating_sub(1);
    let at = match rng.random_bool(0.2) {
        true => last,
        false => rng.random_range(0..=last),
    };
    [&sentence[..at], &tokenize(&figure), &sentence[at..]].concat()
}

/// Sentences that look a little like facts and are none: figures, codes and marks in
/// ordinary company, where a real text has page numbers, years, sums, lists, tables,
/// compounds and the remains of markup.
pub fn figures_in_passing(rng: &mut ChaCha8Rng) -> String {
    const BEFORE: [&str; 16] = [
        "In the year",
        "on page",
        "chapter",
        "He paid",
        "about",
        "No.",
        "there were",
        "He was",
        "It was",
        "the battle of",
        "verses",
        "a sum of",
        "room",
        "at",
        "the figure of",
        "more than",
    ];
    const AFTER: [&str; 8] = [
        "men were there",
        "he left the town",
        "and more",
        "of them",
        "years",
        "francs",
        "it began to rain",
        "as it seemed",
    ];
    let count = rng.random_range(1..=9);
    let number = digits(count, rng);
    let what = match rng.random_range(0..14) {
        0 => format!("{number},{:03}", rng.random_range(0..1000)),
        1 => format!("{number}-{}", rng.random_range(0..100)),
        2 => format!(
            "{number} {} {}",
            rng.random_range(0..10),
            rng.random_range(0..100)
        ),
        3 => format!("{number}th"),
        4 => markup(rng),
        5 => format!("{}--{}", made_up(rng), made_up(rng)),
        6 => format!("{}-{}-{}", made_up(rng), made_up(rng), made_up(rng)),
        7 => format!("| +{} | {number} |", "-".repeat(rng.random_range(3..40))),
        8 => format!("({number}) [{}]", rng.random_range(1..200)),
        9 => value(ValueKind::Code, rng),
        _ => number,
    };
    let (before, after) = (BEFORE.choose(rng), AFTER.choose(rng));
    format!(
        "{} {what} {}.",
        before.expect("words"),
        after.expect("words")
    )
}

/// An element with attributes, an address or a file name.
fn markup(rng: &mut ChaCha8Rng) -> String {
    const TAGS: [&str; 6] = ["a", "span", "td", "h2", "img", "div"];
    const ATTRIBUTES: [&str; 6] = ["id", "href", "name", "class", "src", "title"];
    let (tag, number) = (TAGS.choose(rng).expect("tags"), rng.random_range(1..2000));
    let (one, other) = (ATTRIBUTES.choose(rng), ATTRIBUTES.choose(rng));
    let (one, other) = (one.expect("attributes"), other.expect("attributes"));
    let name = made_up(rng);
    match rng.random_range(0..4) {
        0 => format!(
            "http://www.{name}{number}.org/{}-{number}.html",
            made_up(rng)
        ),
        1 => format!("{name}-{number}.txt"),
        2 => format!("<{tag} {one}=\"{name}{number}\">"),
        _ => format!(
            "<{tag} {one}=\"#{name}-{number}\" {other}=\"{}-{number}\">{number}</{tag}>",
            made_up(rng)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn sentences_tile_the_text_and_go_round() {
        let haystack = Haystack::of_text("One two. Three! \"Four?\" she said. Five");
        let lengths: Vec<usize> = (0..haystack.sentences())
            .map(|index| haystack.sentence(index).len())
            .collect();
        assert_eq!(lengths.iter().sum::<usize>(), haystack.tokens().len());
        assert_eq!(
            haystack.sentence(1),
            haystack.sentence(1 + haystack.sentences())
        );
        assert_eq!(haystack.sentence_at(3), 1);
        assert_eq!(Haystack::noise().sentences(), 5);
    }

    #[test]
    fn a_text_without_full_stops_is_cut() {
        let haystack = Haystack::of_text(&"word ".repeat(1200));
        assert_eq!(haystack.sentences(), 3);
        assert_eq!(haystack.sentence(2).len(), 1200 - 2 * LONGEST_SENTENCE);
    }

    #[test]
    fn a_figure_is_put_into_every_sentence_and_nothing_is_lost() {
        let text = Haystack::of_text("The whale came up again. Nobody spoke! Call me");
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let with = Haystack::with_figures(std::slice::from_ref(&text), 200, &mut rng);
        assert_eq!(with.sentences(), 200);
        for index in 0..200 {
            let sentence = with.sentence(index);
            let is_whole = (0..text.sentences()).any(|original| {
                let mut rest = sentence.iter();
                text.sentence(original)
                    .iter()
                    .all(|token| rest.any(|other| other == token))
            });
            assert!(is_whole, "sentence {index}");
        }
        assert_eq!(with.sentences_with_digits().len(), 200);
    }

    #[test]
    fn generated_text_is_seeded_and_has_figures() {
        let text = |seed| Haystack::generated(200, &mut ChaCha8Rng::seed_from_u64(seed));
        assert!(text(1).tokens() == text(1).tokens());
        assert!(text(1).tokens() != text(2).tokens());
        assert!(!text(1).sentences_with_digits().is_empty());
    }
}
