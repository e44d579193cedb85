//! One text, read once, and its questions.

use std::time::{Duration, Instant};

use titans_core::Reads;
use titans_lm::{NeedleModel, TokenId, asked};
use titans_needle::status_bytes;

use crate::tasks::Text;

/// Tokens read at once.
const PIECE: usize = 4096;
/// Longest answer: a uuid and one more.
const LONGEST_ANSWER: usize = 40;
/// False writes of a text that are kept to be looked at, and tokens of each.
const KEPT: usize = 64;
const CONTEXT: usize = 16;

/// What reading and asking gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) answers: Vec<Answer>,
    pub(crate) tokens: usize,
    pub(crate) reading: Duration,
    /// Tokens of values that were written, and tokens of values there were.
    pub(crate) values_written: usize,
    pub(crate) values: usize,
    /// Tokens written that belong to no value.
    pub(crate) false_writes: usize,
    /// The first few of them, each with the tokens before it.
    pub(crate) falsely_written: Vec<Vec<TokenId>>,
    pub(crate) state_bytes: usize,
    pub(crate) resident_bytes: Option<u64>,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) depth: f64,
    pub(crate) key: String,
    pub(crate) question: String,
    pub(crate) expected: Vec<TokenId>,
    pub(crate) given: Vec<TokenId>,
    /// From the end of the text to the first token of the answer, the question among it.
    pub(crate) first_token: Duration,
    /// Each further token.
    pub(crate) per_token: Vec<Duration>,
}

impl Answer {
    /// The value stands in the answer, as RULER counts.
    pub(crate) fn is_right(&self) -> bool {
        self.given
            .windows(self.expected.len())
            .any(|part| part == self.expected)
    }
}

/// Reads a text from its beginning to its end and asks. With `forgets`, the questions are
/// asked of a model that has read nothing.
pub(crate) fn measure(
    model: &NeedleModel,
    text: &mut Text<'_>,
    forgets: bool,
) -> Result<Measured, String> {
    let mut measured = Measured::default();
    let mut state = model.initial_state(1);
    let (mut tokens, mut labels) = (Vec::with_capacity(2 * PIECE), Vec::with_capacity(2 * PIECE));
    let mut is_over = false;
    while !is_over {
        while tokens.len() < PIECE && !is_over {
            match text.next_sentence() {
                Some((sentence, of_values)) => {
                    tokens.extend(sentence);
                    labels.extend(of_values);
                }
                None => is_over = true,
            }
        }
        if tokens.is_empty() {
            break;
        }
        let started = Instant::now();
        let output = model
            .forward(&[&tokens], &mut state, &Reads::Nothing, None)
            .map_err(|error| error.to_string())?;
        measured.reading += started.elapsed();
        measured.tokens += tokens.len();
        let mut at = 0;
        for gates in output.gates {
            let open = gates.open.into_data_as::<f32>().try_into_vec::<f32>();
            for open in open.map_err(|error| format!("{error:?}"))? {
                let is_value = labels[at] > 0.5;
                measured.values_written += usize::from(is_value && open > 0.5);
                if !is_value && open > 0.5 {
                    measured.false_writes += 1;
                    if measured.falsely_written.len() < KEPT {
                        let context = &tokens[(at + 1).saturating_sub(CONTEXT)..=at];
                        measured.falsely_written.push(context.to_vec());
                    }
                }
                at += 1;
            }
        }
        measured.values += labels.iter().filter(|label| **label > 0.5).count();
        tokens.clear();
        labels.clear();
    }
    measured.state_bytes = state.bytes();
    measured.resident_bytes = status_bytes("VmRSS");
    if forgets {
        state = model.initial_state(1);
    }
    for hidden in text.hidden.iter().filter(|hidden| hidden.is_asked) {
        let (question, mut expected) = asked(&hidden.fact);
        expected.pop();
        let mut times = Vec::new();
        let mut last = Instant::now();
        let each = || {
            times.push(last.elapsed());
            last = Instant::now();
        };
        let given = model
            .answer(&question, &mut state.clone(), LONGEST_ANSWER, each)
            .map_err(|error| error.to_string())?;
        measured.answers.push(Answer {
            depth: hidden.depth,
            key: hidden.fact.key.clone(),
            question: hidden.fact.question.trim_end().to_owned(),
            expected,
            given,
            first_token: times[0],
            per_token: times.split_off(1),
        });
    }
    Ok(measured)
}
