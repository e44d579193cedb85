//! Hard negatives: what the gate lets through of texts that state nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rand_chacha::ChaCha8Rng;
use titans_core::{GateKind, Reads};
use titans_lm::{Haystack, NeedleModel, with_random_words};

use crate::recipe::reads_every_token;

/// Tokens read at once.
const PIECE: usize = 4096;
/// Of how many pieces a model reads one that needs a key for every token: keys are what
/// reading costs.
const DEAR_STRIDE: usize = 16;

/// Sentences of which the model writes a token, as (text, number).
///
/// Training at some hundred tokens gives no gradient against an event of one in ten
/// thousand; at two million tokens such events are what destroys a memory. So the gate
/// reads all training texts between the stages, and the next stage meets its mistakes.
pub(crate) fn false_writes(
    model: &NeedleModel,
    haystacks: &[Haystack],
    word_dropout: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<(usize, usize)>, String> {
    let mut found = BTreeSet::new();
    // A soft gate writes everything: there is no mistake to look for.
    if !model.config().wiring.has_memory() || model.config().gate == GateKind::Soft {
        return Ok(Vec::new());
    }
    let stride = match reads_every_token(model.config().wiring) {
        true => DEAR_STRIDE,
        false => 1,
    };
    for (text, haystack) in haystacks.iter().enumerate() {
        let mut state = model.initial_state(1);
        for (number, piece) in haystack.tokens().chunks(PIECE).enumerate().step_by(stride) {
            let piece = with_random_words(piece.to_vec(), word_dropout, rng);
            let output = model
                .forward(&[&piece], &mut state, &Reads::Nothing, None)
                .map_err(|error| error.to_string())?;
            let mut at = number * PIECE;
            for gates in output.gates {
                let open = gates.open.into_data_as::<f32>();
                let open = open
                    .try_into_vec::<f32>()
                    .map_err(|error| format!("{error:?}"))?;
                let written = (open.iter().enumerate()).filter(|(_, open)| **open > 0.5);
                found.extend(written.map(|(token, _)| (text, haystack.sentence_at(at + token))));
                at += open.len();
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Adds what was found before a stage to a log: a line for the stage, one for each sentence.
pub(crate) fn note(log: &mut String, stage: usize, found: &[(usize, usize)]) {
    let _ = writeln!(log, "{stage}");
    for (text, sentence) in found {
        let _ = writeln!(log, "{stage},{text},{sentence}");
    }
}

/// What such a log says of a stage; `None` where that stage has not begun.
pub(crate) fn of_stage(log: &str, stage: usize) -> Result<Option<Vec<(usize, usize)>>, String> {
    let (mut has_begun, mut found) = (false, Vec::new());
    for line in log.lines() {
        let cells: Result<Vec<usize>, _> = line.split(',').map(str::parse).collect();
        match cells.as_deref() {
            Ok([of]) => has_begun |= *of == stage,
            Ok([of, text, sentence]) if *of == stage => found.push((*text, *sentence)),
            Ok([_, _, _]) => {}
            _ => return Err(format!("mistakes.csv has the line {line:?}")),
        }
    }
    Ok(has_begun.then_some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_back_by_stage() {
        let mut log = String::new();
        note(&mut log, 1, &[(0, 7), (2, 9)]);
        note(&mut log, 2, &[]);
        assert_eq!(of_stage(&log, 1), Ok(Some(vec![(0, 7), (2, 9)])));
        assert_eq!(of_stage(&log, 2), Ok(Some(Vec::new())));
        assert_eq!(of_stage(&log, 3), Ok(None));
        assert!(of_stage("1,2", 1).is_err());
    }
}
