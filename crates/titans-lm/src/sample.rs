//! Training samples: a short text with facts, and questions at its end.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::facts::{Fact, Words, key, ruler_introduction, templated_fact, training_fact};
use crate::haystack::{Haystack, figures_in_passing, with_a_figure};
use crate::tokens::{FULL_STOP, TokenId, is_word, random_word, tokenize};
use crate::values::ValueKind;

/// What a sample holds.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleConfig {
    /// Tokens in all.
    pub tokens: usize,
    /// How many facts are stated.
    pub facts: RangeInclusive<usize>,
    /// Answer tokens that are asked for, full stops among them; fewer are filled up.
    pub reads: usize,
    /// Share of samples with hard negatives: sentences with figures that state no fact.
    pub hard_negatives: f64,
    /// Share of the words of the text that are replaced by random ones. A text holds words
    /// that training never saw, and so do facts: without this the gate learns that a word
    /// without history is a value.
    pub word_dropout: f64,
    /// Share of facts that are about the subject of the one before.
    pub same_subject: f64,
    /// Mean share of the words of a template, not of RULER's needle, that are replaced by
    /// others, the same in statement and question: facts come in wordings that training never
    /// saw. Each fact draws a share up to twice the mean; half of the others are words of the
    /// texts, half random ones.
    pub wording_dropout: f64,
}

/// One text with its questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The text.
    pub tokens: Vec<TokenId>,
    /// 1 where a token belongs to the value of a stated fact.
    pub is_value: Vec<f32>,
    /// 1 where that is to be learned, 0 among the questions.
    pub counts: Vec<f32>,
    /// Tokens after which an answer token is asked for.
    pub reads: Vec<usize>,
    /// The answer tokens.
    pub targets: Vec<TokenId>,
    /// 1 for an answer token, 0 for one that fills up.
    pub read_counts: Vec<f32>,
    /// For questions whose fact is stated: the token before its answer, and the token of the
    /// text before its value.
    pub pairs: Vec<(usize, usize)>,
}

/// Where samples come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The texts, and behind them one of their sentences with figures put in.
    texts: Vec<Haystack>,
    /// Sentences of the texts that have figures of their own, as (text, number).
    figures: Vec<(usize, usize)>,
    /// Sentences of which a model has falsely written something, the newest list last.
    mistakes: Vec<Vec<(usize, usize)>>,
}

/// Share of templated facts with some words more behind the key, and how many at most.
const PHRASE_SHARE: f64 = 0.3;
const LONGEST_PHRASE: usize = 4;

/// Sentences with figures put in.
const WITH_FIGURES: usize = 20_000;

impl Source {
    /// Samples from these texts; the seed is that of the figures put into their sentences.
    ///
    /// # Panics
    /// If there is none, or one has no sentence.
    pub fn new(haystacks: Vec<Haystack>, seed: u64) -> Self {
        assert!(
            !haystacks.is_empty() && haystacks.iter().all(|text| text.sentences() > 0),
            "a sample needs a text"
        );
        let figures = (haystacks.iter().enumerate()).flat_map(|(text, haystack)| {
            let sentences = haystack.sentences_with_digits();
            sentences.into_iter().map(move |sentence| (text, sentence))
        });
        let figures = figures.collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let with_figures = Haystack::with_figures(&haystacks, WITH_FIGURES, &mut rng);
        let mut texts = haystacks;
        texts.push(with_figures);
        Self {
            texts,
            figures,
            mistakes: Vec::new(),
        }
    }

    /// All texts in which nothing is stated, the one with figures put in among them.
    pub fn texts(&self) -> &[Haystack] {
        &self.texts
    }

    /// Sentences, as (text, number), that training should meet more often: each list about
    /// as often as all before it together, for the first is much longer than the last.
    ///
    /// # Panics
    /// If there is no such text.
    pub fn add_mistakes(&mut self, sentences: Vec<(usize, usize)>) {
        let texts = self.texts.len();
        assert!(sentences.iter().all(|(text, _)| *text < texts), "a text");
        if !sentences.is_empty() {
            self.mistakes.push(sentences);
        }
    }

    /// A word of a text, or one that no text has. Were they all random, the gate would take
    /// every word that texts have for a sign that nothing is stated.
    fn other_word(&self, rng: &mut ChaCha8Rng) -> TokenId {
        let text = self.texts[rng.random_range(0..self.texts.len() - 1)].tokens();
        match text[rng.random_range(0..text.len())] {
            word if is_word(word) && rng.random_bool(0.5) => word,
            _ => random_word(rng),
        }
    }

    /// A sentence with figures that states no fact.
    fn hard_negative(&self, rng: &mut ChaCha8Rng) -> Vec<TokenId> {
        let known = match rng.random_range(0..4) {
            0 => return tokenize(&figures_in_passing(rng)),
            1 => {
                let text = &self.texts[rng.random_range(0..self.texts.len() - 1)];
                return with_a_figure(text.sentence(rng.random_range(0..text.sentences())), rng);
            }
            2 => {
                let lists = &mut self.mistakes.iter().rev();
                let list = lists.find(|_| rng.random_bool(0.5));
                list.or(self.mistakes.last()).unwrap_or(&self.figures)
            }
            _ => &self.figures,
        };
        match known.choose(rng) {
            Some((text, sentence)) => self.texts[*text].sentence(*sentence).to_vec(),
            None => tokenize(&figures_in_passing(rng)),
        }
    }

    /// A sample.
    pub fn sample(&self, config: &SampleConfig, rng: &mut ChaCha8Rng) -> Sample {
        let facts = distinct_facts(
            rng.random_range(config.facts.clone()),
            config.same_subject,
            rng,
        );
        let facts: Vec<Worded> = (facts.iter())
            .map(|fact| {
                let share = rng.random_range(0.0..=2.0 * config.wording_dropout);
                Worded::new(fact, |rng| self.other_word(rng), share.min(1.0), rng)
            })
            .collect();
        let mut questions = Questions::default();
        let mut order: Vec<usize> = (0..facts.len()).collect();
        order.shuffle(rng);
        for index in order {
            questions.ask((index, &facts[index]), config.reads, config.tokens / 2);
        }
        let length = config.tokens - questions.tokens.len();
        let text = self.text(&facts, length, config, rng);
        questions.behind(text, config.reads)
    }

    /// A text of exactly `length` tokens with the facts between its sentences.
    fn text(
        &self,
        facts: &[Worded],
        length: usize,
        config: &SampleConfig,
        rng: &mut ChaCha8Rng,
    ) -> Text {
        let haystack = &self.texts[rng.random_range(0..self.texts.len() - 1)];
        let mut parts: Vec<Part> = Vec::new();
        let plain = |tokens: Vec<TokenId>, rng: &mut ChaCha8Rng| {
            let labels = vec![0.0; tokens.len()];
            let tokens = with_random_words(tokens, config.word_dropout, rng);
            (tokens, labels, None)
        };
        for (index, fact) in facts.iter().enumerate() {
            let (tokens, labels) = fact.statement.clone();
            parts.push((tokens, labels, Some(index)));
        }
        if rng.random_bool(config.hard_negatives) {
            for _ in 0..rng.random_range(1..=8) {
                parts.push(plain(self.hard_negative(rng), rng));
            }
        }
        // Facts that do not fit are not stated, and what is asked of them has no answer: the
        // configuration leaves room, so this is rare.
        let mut used: usize = parts.iter().map(|(tokens, ..)| tokens.len()).sum();
        while used > length {
            used -= parts.pop().map_or(0, |(tokens, ..)| tokens.len());
        }
        let mut sentence = rng.random_range(0..haystack.sentences());
        let mut between: Vec<Part> = Vec::new();
        while used < length {
            let tokens = haystack.sentence(sentence);
            let tokens = &tokens[..tokens.len().min(length - used)];
            used += tokens.len();
            between.push(plain(tokens.to_vec(), rng));
            sentence += 1;
        }
        // The order of the text stays; facts go between.
        parts.shuffle(rng);
        for part in parts {
            let at = rng.random_range(0..=between.len().saturating_sub(1));
            between.insert(at, part);
        }
        let mut text = Text {
            tokens: Vec::with_capacity(length),
            is_value: Vec::with_capacity(length),
            values_at: vec![None; facts.len()],
        };
        for (tokens, labels, fact) in between {
            if let Some(fact) = fact {
                let first = labels.iter().position(|label| *label > 0.5).unwrap_or(0);
                text.values_at[fact] = Some(text.tokens.len() + first);
            }
            text.tokens.extend(tokens);
            text.is_value.extend(labels);
        }
        text
    }
}

/// A sentence, which of its tokens are a value, and the fact that it states.
type Part = (Vec<TokenId>, Vec<f32>, Option<usize>);

/// What comes before the questions.
struct Text {
    tokens: Vec<TokenId>,
    is_value: Vec<f32>,
    /// Where the value of each fact begins, if it is stated.
    values_at: Vec<Option<usize>>,
}

/// A text in which some words are random ones, and some commas are dashes as old books set
/// them.
pub fn with_random_words(
    mut tokens: Vec<TokenId>,
    share: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<TokenId> {
    const COMMA: TokenId = ',' as TokenId;
    const HYPHEN: TokenId = '-' as TokenId;
    for at in 0..tokens.len() {
        if is_word(tokens[at]) && rng.random_bool(share) {
            tokens[at] = random_word(rng);
        } else if tokens[at] == COMMA && rng.random_bool(share / 2.0) {
            tokens[at] = HYPHEN;
            if at > 0 && rng.random_bool(0.5) {
                tokens[at - 1] = HYPHEN;
            }
        }
    }
    tokens
}

/// Facts of which no two have the same question.
fn distinct_facts(count: usize, same_subject: f64, rng: &mut ChaCha8Rng) -> Vec<Fact> {
    let mut questions = HashSet::new();
    let mut facts: Vec<Fact> = Vec::with_capacity(count);
    while facts.len() < count {
        // Of RULER's two kinds of needle only the kind tells one from the other.
        let fact = match facts.last() {
            Some(last) if rng.random_bool(same_subject) => templated_fact(last.key.clone(), rng),
            _ => training_fact(key(Words::Training, rng), rng),
        };
        if questions.insert(fact.question.clone()) {
            facts.push(fact);
        }
    }
    facts
}

/// A fact as a sample words it.
struct Worded {
    /// The statement, and which of its tokens are the value.
    statement: (Vec<TokenId>, Vec<f32>),
    question: Vec<TokenId>,
    answer: Vec<TokenId>,
}

impl Worded {
    fn new(
        fact: &Fact,
        other_word: impl Fn(&mut ChaCha8Rng) -> TokenId,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        // RULER's needle has one wording, and names are told from what a novel says of its
        // people by these words alone.
        const KEPT: &str = "magic special remember note record";
        let (mut statement, (mut question, answer)) = (stated(fact), asked(fact));
        let (key, kept) = (tokenize(&fact.key), tokenize(KEPT));
        let is_ruler = statement.0.contains(&kept[0]);
        // What stands between key and value has any length.
        if !is_ruler && rng.random_bool(PHRASE_SHARE) {
            let words = rng.random_range(1..=LONGEST_PHRASE);
            let phrase: Vec<TokenId> = (0..words).map(|_| other_word(rng)).collect();
            let longer = with_phrase(&statement.0, &key, &phrase);
            // The key stands before the value, and so does the phrase.
            let more = longer.len() - statement.0.len();
            statement = (longer, [vec![0.0; more], statement.1].concat());
            question = with_phrase(&question, &key, &phrase);
        }
        let value_at = statement.1.iter().position(|label| *label > 0.5);
        let wording: BTreeSet<TokenId> = (statement.0[..value_at.unwrap_or(0)].iter())
            .copied()
            .filter(|token| is_word(*token) && !key.contains(token) && !kept.contains(token))
            .collect();
        if !is_ruler {
            for word in wording {
                if !rng.random_bool(share) {
                    continue;
                }
                let other = other_word(rng);
                let all = statement.0.iter_mut().chain(&mut question);
                all.filter(|token| **token == word)
                    .for_each(|token| *token = other);
            }
        }
        Self {
            statement,
            question,
            answer,
        }
    }
}

/// Tokens with a phrase behind each place where the key stands.
fn with_phrase(tokens: &[TokenId], key: &[TokenId], phrase: &[TokenId]) -> Vec<TokenId> {
    let mut longer = Vec::with_capacity(tokens.len() + phrase.len());
    for token in tokens {
        longer.push(*token);
        if longer.ends_with(key) {
            longer.extend(phrase);
        }
    }
    longer
}

/// The tokens of a statement, and which of them are its value.
pub fn stated(fact: &Fact) -> (Vec<TokenId>, Vec<f32>) {
    let before = tokenize(&fact.statement.0);
    let value = tokenize(&fact.value);
    let after = tokenize(&fact.statement.1);
    let labels = [(before.len(), 0.0), (value.len(), 1.0), (after.len(), 0.0)];
    (
        [before, value, after].concat(),
        labels
            .iter()
            .flat_map(|(count, label)| vec![*label; *count])
            .collect(),
    )
}

/// RULER's introduction as tokens.
pub fn introduction(kind: ValueKind) -> Vec<TokenId> {
    tokenize(&ruler_introduction(kind))
}

/// The tokens of a question and of its answer with the full stop.
pub fn asked(fact: &Fact) -> (Vec<TokenId>, Vec<TokenId>) {
    let mut answer = tokenize(&fact.value);
    answer.push(FULL_STOP);
    (tokenize(&fact.question), answer)
}

#[derive(Default)]
struct Questions {
    tokens: Vec<TokenId>,
    /// Positions among these tokens.
    reads: Vec<usize>,
    /// Which fact is asked for, and its first read among these tokens.
    firsts: Vec<(usize, usize)>,
    targets: Vec<TokenId>,
}

impl Questions {
    /// Adds a question if its answer still has room.
    fn ask(&mut self, (index, fact): (usize, &Worded), reads: usize, room: usize) {
        let (question, answer) = (&fact.question, &fact.answer);
        let length = self.tokens.len() + question.len() + answer.len();
        if self.reads.len() + answer.len() > reads || length > room {
            return;
        }
        self.tokens.extend(question);
        self.firsts.push((index, self.tokens.len() - 1));
        for token in answer {
            self.reads.push(self.tokens.len() - 1);
            self.targets.push(*token);
            self.tokens.push(*token);
        }
    }

    fn behind(self, text: Text, reads: usize) -> Sample {
        let (mut tokens, mut is_value) = (text.tokens, text.is_value);
        let start = tokens.len();
        let mut counts = vec![1.0; start];
        counts.resize(start + self.tokens.len(), 0.0);
        is_value.resize(counts.len(), 0.0);
        tokens.extend(self.tokens);
        let mut read_counts = vec![1.0; self.reads.len()];
        read_counts.resize(reads, 0.0);
        let pairs = (self.firsts.iter()).filter_map(|(fact, read)| {
            Some((start + read, text.values_at[*fact]?.checked_sub(1)?))
        });
        let pairs = pairs.collect();
        let mut targets = self.targets;
        targets.resize(reads, FULL_STOP);
        let mut positions: Vec<usize> = self.reads.iter().map(|at| start + at).collect();
        positions.resize(reads, tokens.len() - 1);
        Sample {
            tokens,
            is_value,
            counts,
            reads: positions,
            targets,
            read_counts,
            pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SampleConfig {
        SampleConfig {
            tokens: 400,
            facts: 1..=5,
            reads: 40,
            hard_negatives: 0.5,
            word_dropout: 0.2,
            same_subject: 0.3,
            wording_dropout: 0.3,
        }
    }

    #[test]
    fn a_sample_has_its_length_its_facts_and_their_answers() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let source = Source::new(vec![Haystack::generated(300, &mut rng)], 1);
        for _ in 0..50 {
            let sample = source.sample(&config(), &mut rng);
            assert_eq!(sample.tokens.len(), 400);
            assert_eq!((sample.is_value.len(), sample.counts.len()), (400, 400));
            assert_eq!((sample.reads.len(), sample.targets.len()), (40, 40));
            assert!(sample.reads.is_sorted());
            assert!(sample.read_counts[0] == 1.0 && sample.is_value.contains(&1.0));
            let asked = (0..40).filter(|read| sample.read_counts[*read] == 1.0);
            for read in asked {
                // The answer stands behind the question, and was stated as a value.
                assert_eq!(sample.tokens[sample.reads[read] + 1], sample.targets[read]);
                assert_eq!(sample.counts[sample.reads[read]], 0.0);
            }
            assert!(!sample.pairs.is_empty());
            for (question, statement) in &sample.pairs {
                // The first token of the value is that of the answer.
                assert_eq!(sample.tokens[question + 1], sample.tokens[statement + 1]);
                assert_eq!(sample.is_value[statement + 1], 1.0);
            }
        }
    }

    #[test]
    fn a_phrase_stands_behind_the_key_wherever_that_is() {
        let key = [901, 45, 902];
        let longer = with_phrase(&[900, 901, 45, 902, 903, 55, 46], &key, &[800, 801]);
        assert_eq!(longer, [900, 901, 45, 902, 800, 801, 903, 55, 46]);
        let longer = with_phrase(&[901, 45, 902, 63, 901, 45, 902], &key, &[800]);
        assert_eq!(longer, [901, 45, 902, 800, 63, 901, 45, 902, 800]);
    }

    #[test]
    fn the_value_keeps_its_labels_whatever_the_wording_becomes() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for number in 0..200 {
            let fact = training_fact(key(Words::Training, &mut rng), &mut rng);
            let worded = Worded::new(&fact, random_word, 0.5, &mut rng);
            let (tokens, labels) = &worded.statement;
            assert_eq!(tokens.len(), labels.len(), "fact {number}");
            let value: Vec<TokenId> = (tokens.iter().zip(labels))
                .filter_map(|(token, label)| (*label > 0.5).then_some(*token))
                .collect();
            assert_eq!(value, tokenize(&fact.value), "fact {number}");
        }
    }

    #[test]
    fn samples_follow_from_the_seed() {
        let source = Source::new(vec![Haystack::noise()], 1);
        let draw = |seed| source.sample(&config(), &mut ChaCha8Rng::seed_from_u64(seed));
        assert!(draw(3) == draw(3));
        assert!(draw(3) != draw(4));
    }
}
