//! The texts of a task: what is stated where, and what is asked.

use std::collections::HashSet;

use rand::RngExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use titans_lm::{
    FULL_STOP, Fact, Haystack, TokenId, UNSEEN, ValueKind, Words, introduction, key, ruler, stated,
    unseen_fact, value,
};

use crate::args::Task;

/// A fact and where in the text it stands.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    pub(crate) fact: Fact,
    /// 0 at the beginning, 1 at the end.
    pub(crate) depth: f64,
    /// Whether it is asked for.
    pub(crate) is_asked: bool,
}

/// A text to read and what it hides.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    haystack: &'a Haystack,
    next_sentence: usize,
    pub(crate) hidden: Vec<Hidden>,
    /// Facts already given out.
    given: usize,
    tokens: usize,
    introduction: Vec<TokenId>,
    tokens_given: usize,
}

impl<'a> Text<'a> {
    /// The text of a sample.
    ///
    /// # Errors
    /// When the facts are longer than the text.
    pub(crate) fn new(
        (task, sample, samples): (Task, usize, usize),
        tokens: usize,
        haystack: &'a Haystack,
        (questions, seed): (usize, u64),
    ) -> Result<Self, String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 + task as u64 * 1000 + sample as u64);
        let mut hidden = facts(task, sample as f64 / (samples - 1).max(1) as f64, &mut rng);
        let mut order: Vec<usize> = (0..hidden.len()).filter(|i| hidden[*i].is_asked).collect();
        order.shuffle(&mut rng);
        for left_out in order.into_iter().skip(questions) {
            hidden[left_out].is_asked = false;
        }
        hidden.sort_by(|a, b| a.depth.total_cmp(&b.depth));
        let kind = match task {
            Task::Single3 => ValueKind::Uuid,
            _ => ValueKind::Number,
        };
        let introduction = introduction(kind);
        let needed: usize = hidden.iter().map(|h| stated(&h.fact).0.len()).sum();
        if needed + introduction.len() > tokens {
            return Err(format!(
                "the facts of {} are {needed} tokens, more than the {tokens} of the text",
                task.name()
            ));
        }
        Ok(Self {
            next_sentence: rng.random_range(0..haystack.sentences()),
            haystack,
            hidden,
            given: 0,
            tokens,
            introduction,
            tokens_given: 0,
        })
    }

    /// The next sentence and which of its tokens are a value; the last one is cut to length.
    pub(crate) fn next_sentence(&mut self) -> Option<(Vec<TokenId>, Vec<f32>)> {
        let left = self.tokens - self.tokens_given;
        if left == 0 {
            return None;
        }
        let plain = |tokens: Vec<TokenId>| {
            let labels = vec![0.0; tokens.len()];
            (tokens, labels)
        };
        let to_come: usize = (self.hidden[self.given..].iter())
            .map(|hidden| stated(&hidden.fact).0.len())
            .sum();
        let part = match self.hidden.get(self.given) {
            _ if !self.introduction.is_empty() => plain(std::mem::take(&mut self.introduction)),
            Some(hidden)
                if self.tokens_given as f64 >= hidden.depth * (self.tokens - to_come) as f64
                    || left <= to_come =>
            {
                self.given += 1;
                stated(&hidden.fact)
            }
            _ => {
                let sentence = self.haystack.sentence(self.next_sentence);
                self.next_sentence += 1;
                // Room is left for the facts that are still to come.
                let room = left - to_come;
                let mut tokens = sentence[..sentence.len().min(room)].to_vec();
                // Facts stand between sentences, so one that is cut short ends all the same.
                if let (true, Some(last)) = (tokens.len() < sentence.len(), tokens.last_mut()) {
                    *last = FULL_STOP;
                }
                plain(tokens)
            }
        };
        self.tokens_given += part.0.len();
        Some(part)
    }
}

/// The facts of a task; `through` is the depth of a single one.
fn facts(task: Task, through: f64, rng: &mut ChaCha8Rng) -> Vec<Hidden> {
    let count = match task {
        Task::Single1 | Task::Single2 | Task::Single3 => 1,
        Task::Multikey1 | Task::Multivalue | Task::Multiquery => 4,
        Task::Needles16 => 16,
        Task::Needles64 => 64,
        Task::Needles256 => 256,
        Task::Unseen => UNSEEN.len(),
    };
    let mut used = HashSet::new();
    let mut fresh = |rng: &mut ChaCha8Rng| loop {
        let key = key(Words::All, rng);
        if used.insert(key.clone()) {
            return key;
        }
    };
    let shared = fresh(rng);
    (0..count)
        .map(|index| {
            let fact = match task {
                Task::Unseen => unseen_fact(index, fresh(rng), rng),
                Task::Multivalue => {
                    let value = value(ValueKind::Number, rng);
                    ruler(ValueKind::Number, shared.clone(), value)
                }
                Task::Single3 => {
                    let value = value(ValueKind::Uuid, rng);
                    ruler(ValueKind::Uuid, fresh(rng), value)
                }
                _ => {
                    let value = value(ValueKind::Number, rng);
                    ruler(ValueKind::Number, fresh(rng), value)
                }
            };
            Hidden {
                fact,
                depth: match count {
                    1 => through,
                    _ => rng.random_range(0.0..1.0),
                },
                is_asked: match task {
                    Task::Multikey1 => index == 0,
                    _ => true,
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_gives_a_text_of_its_length_with_every_fact_once() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let haystack = Haystack::generated(200, &mut rng);
        for (task, tokens) in [
            (Task::Single1, 400),
            (Task::Single3, 401),
            (Task::Multikey1, 999),
            (Task::Multivalue, 1021),
            (Task::Needles64, 4099),
            (Task::Unseen, 700),
        ] {
            for sample in 0..3 {
                let mut text =
                    Text::new((task, sample, 3), tokens, &haystack, (64, 5)).expect("fits");
                let (mut all, mut values) = (Vec::new(), 0.0);
                while let Some((sentence, labels)) = text.next_sentence() {
                    values += labels.iter().sum::<f32>();
                    all.extend(sentence);
                }
                assert_eq!(all.len(), tokens, "{task:?}");
                let expected: f32 = (text.hidden.iter())
                    .map(|hidden| stated(&hidden.fact).1.iter().sum::<f32>())
                    .sum();
                assert_eq!(values, expected, "{task:?}");
            }
        }
    }

    #[test]
    fn facts_longer_than_the_text_are_an_error() {
        let haystack = Haystack::noise();
        let error = Text::new((Task::Needles256, 0, 1), 1000, &haystack, (1, 0));
        assert!(error.expect_err("too long").contains("more than the 1000"));
    }
}
