//! Facts that a text states once: RULER's needles and a family of templates.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::templates::{SEEN, Template, UNSEEN};
use crate::values::{ValueKind, made_up, value};
use titans_needle::words::{ADJECTIVES, NOUNS};

/// From which words keys and names are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Three quarters of the word lists, and made-up words: what training sees.
    Training,
    /// The whole word lists.
    All,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub key: String,
    /// What is to be recalled.
    pub value: String,
    /// The sentence before the value, and what follows the value.
    pub statement: (String, String),
    /// The question, up to where the answer begins.
    pub question: String,
}

impl Fact {
    /// The whole sentence.
    pub fn sentence(&self) -> String {
        format!("{}{}{}", self.statement.0, self.value, self.statement.1)
    }
}

/// RULER's needle, `One of the special magic numbers for <key> is: <value>.`, and its
/// question (arXiv:2404.06654, `data/synthetic/niah.py`), for one value.
pub fn ruler(kind: ValueKind, key: String, value: String) -> Fact {
    let (one, many) = match kind {
        ValueKind::Uuid => ("uuid", "uuids"),
        _ => ("number", "numbers"),
    };
    Fact {
        statement: (
            format!("One of the special magic {many} for {key} is: "),
            ".".to_owned(),
        ),
        question: format!(
            "What is the special magic {one} for {key} mentioned in the provided text? \
             The special magic {one} for {key} mentioned in the provided text is "
        ),
        key,
        value,
    }
}

/// RULER's introduction, which stands before the text.
pub fn ruler_introduction(kind: ValueKind) -> String {
    let many = match kind {
        ValueKind::Uuid => "uuids",
        _ => "numbers",
    };
    format!(
        "Some special magic {many} are hidden within the following text. Make sure to memorize \
         it. I will quiz you about the {many} afterwards.\n"
    )
}

/// A fact of a template.
pub fn templated(template: &Template, key: String, rng: &mut ChaCha8Rng) -> Fact {
    let value = value(template.kind, rng);
    let (before, after) = template.statement.split_once("{v}").unwrap_or_default();
    let (before, after) = (before.replace("{k}", &key), after.replace("{k}", &key));
    Fact {
        statement: (before, after),
        question: template.question.replace("{k}", &key) + " ",
        key,
        value,
    }
}

/// Any fact that training may show: half of them RULER's, half of the seen templates.
pub fn training_fact(key: String, rng: &mut ChaCha8Rng) -> Fact {
    match rng.random_range(0..8) {
        0..3 => ruler(ValueKind::Number, key, value(ValueKind::Number, rng)),
        3 => ruler(ValueKind::Uuid, key, value(ValueKind::Uuid, rng)),
        _ => templated_fact(key, rng),
    }
}

/// Any fact of the seen templates.
pub fn templated_fact(key: String, rng: &mut ChaCha8Rng) -> Fact {
    templated(SEEN.choose(rng).expect("templates"), key, rng)
}

/// A fact of the templates that training never shows.
pub fn unseen_fact(index: usize, key: String, rng: &mut ChaCha8Rng) -> Fact {
    templated(&UNSEEN[index % UNSEEN.len()], key, rng)
}

/// `adjective-noun`, or of made-up words.
pub fn key(words: Words, rng: &mut ChaCha8Rng) -> String {
    let share = |length: usize| match words {
        Words::Training => length * 3 / 4,
        Words::All => length,
    };
    let is_made_up = words == Words::Training && rng.random_range(0..2) == 0;
    match is_made_up {
        true => format!("{}-{}", made_up(rng), made_up(rng)),
        false => {
            let adjectives = &ADJECTIVES[..share(ADJECTIVES.len())];
            let nouns = &NOUNS[..share(NOUNS.len())];
            let (adjective, noun) = (adjectives.choose(rng), nouns.choose(rng));
            format!("{}-{}", adjective.expect("words"), noun.expect("words"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn templates_are_many_distinct_and_whole() {
        assert!(SEEN.len() >= 20 && UNSEEN.len() >= 10 && SEEN.len() + UNSEEN.len() >= 30);
        let all: Vec<&Template> = SEEN.iter().chain(UNSEEN).collect();
        let statements: HashSet<&str> = all.iter().map(|t| t.statement).collect();
        assert_eq!(statements.len(), all.len());
        for template in all {
            let place = |what| template.statement.find(what).expect("a place");
            assert!(place("{k}") < place("{v}"), "{}", template.statement);
            assert!(template.statement.ends_with('.') && template.question.contains("{k}"));
        }
    }

    #[test]
    fn values_are_what_their_kind_says_and_seeded() {
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            [ValueKind::Number, ValueKind::Uuid, ValueKind::Date].map(|kind| value(kind, &mut rng))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let [number, uuid, date] = draw(3);
        assert_eq!((number.len(), uuid.len(), date.len()), (7, 36, 10));
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }

    #[test]
    fn a_sentence_holds_its_value_and_a_question_does_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for index in 0..200 {
            let fact = match index % 2 {
                0 => {
                    let key = key(Words::Training, &mut rng);
                    training_fact(key, &mut rng)
                }
                _ => {
                    let key = key(Words::All, &mut rng);
                    unseen_fact(index, key, &mut rng)
                }
            };
            assert!(fact.sentence().contains(&fact.value) && fact.sentence().contains(&fact.key));
            assert!(!fact.question.contains(&fact.value) && fact.question.contains(&fact.key));
        }
    }
}
