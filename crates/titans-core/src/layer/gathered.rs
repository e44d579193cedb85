//! What a block with winner keys computes: only the tokens that its write gate lets through, at
//! once by the closed form or one by one.

use burn::tensor::Tensor;

use super::block::{BlockState, NeuralMemoryBlock};
use super::closed_form::{CHUNK, Writes, write_and_read};
use super::{GateKind, Reads, WinnerKeys, WriteGates, project};
use crate::error::InputError;

impl NeuralMemoryBlock {
    /// A delta memory without decay: only what the gate lets through is looked at.
    pub(super) fn gathered(
        &self,
        winners: &WinnerKeys,
        rows: Tensor<3>,
        state: &mut BlockState,
        reads: &Reads,
        gates: Option<&WriteGates>,
    ) -> Result<(Tensor<3>, Vec<usize>), InputError> {
        let [batch, tokens, _] = rows.dims();
        let key_rows = self.delay(rows.clone(), state);
        let trains = rows.is_autodiff();
        let (positions, written, at_once) = self.written_positions([batch, tokens], gates, trains);
        let read_at: Vec<Vec<usize>> = match reads {
            Reads::All => vec![(0..tokens).collect(); batch],
            Reads::Nothing => vec![Vec::new(); batch],
            Reads::At(positions) => positions.clone(),
        };
        let queries = winners.forward(reads.pick(rows.clone()));
        if !at_once {
            let key_rows = (&key_rows, &rows);
            let read =
                self.token_by_token(winners, key_rows, state, &positions, (queries, &read_at))?;
            return Ok((read, written));
        }
        let at = Reads::At(positions.clone());
        let step = self.config.memory.miras.learning_algorithm.step_size();
        let open = match gates {
            Some(gates) => gates.open.clone().unsqueeze_dim::<3>(2),
            None => Tensor::ones([batch, tokens, 1], (&rows.device().inner(), rows.dtype())),
        };
        let [_, count, _] = at.pick(open.clone()).dims();
        let values = self.values.as_ref().expect("winner keys have values").val();
        let writes = Writes {
            keys: winners.forward(at.pick(key_rows)),
            values: project(at.pick(rows), values),
            step_size: at.pick(open).reshape([batch, count]) * step,
            positions,
        };
        if !trains {
            writes.check_finite()?;
        }
        let weights: Vec<Tensor<3>> = (state.memories.iter())
            .map(|memory| memory.tensors().remove(0).unsqueeze_dim(0))
            .collect();
        let (weights, read) = write_and_read(Tensor::cat(weights, 0), writes, queries, &read_at);
        for (sequence, memory) in state.memories.iter_mut().enumerate() {
            let of_one = weights.clone().narrow(0, sequence, 1).squeeze_dim(0);
            let mut after = self.memory.state_from_tensors(vec![of_one]);
            after.tokens_seen = memory.tokens_seen + tokens as u64;
            after.tokens_written = memory.tokens_written + written[sequence] as u64;
            *memory = after;
        }
        Ok((read, written))
    }

    /// The twin of the closed form, and the fast one when little is written: write what is
    /// written, read in between.
    fn token_by_token(
        &self,
        winners: &WinnerKeys,
        (key_rows, rows): (&Tensor<3>, &Tensor<3>),
        state: &mut BlockState,
        positions: &[Vec<usize>],
        (queries, read_at): (Tensor<3>, &[Vec<usize>]),
    ) -> Result<Tensor<3>, InputError> {
        let [batch, tokens, _] = rows.dims();
        let [_, reads, _] = queries.dims();
        let values = self.values.as_ref().expect("winner keys have values").val();
        let before = state.memories.clone();
        let mut answers = Vec::with_capacity(batch);
        for sequence in 0..batch {
            let at = Reads::At(vec![positions[sequence].clone()]);
            let one = |rows: &Tensor<3>| at.pick(rows.clone().narrow(0, sequence, 1));
            let keys: Tensor<2> = winners.forward(one(key_rows)).squeeze_dim(0);
            let values: Tensor<2> = project(one(rows), values.clone()).squeeze_dim(0);
            let queries: Tensor<2> = queries.clone().narrow(0, sequence, 1).squeeze_dim(0);
            let memory = &mut state.memories[sequence];
            let seen = memory.tokens_seen;
            let (mut answered, mut parts) = (0, Vec::new());
            for (write, position) in positions[sequence].iter().enumerate() {
                let asked = read_at[sequence].partition_point(|at| at < position);
                if asked > answered {
                    let part = queries.clone().narrow(0, answered, asked - answered);
                    parts.push(self.memory.read(memory, part));
                    answered = asked;
                }
                let one = |rows: &Tensor<2>| rows.clone().narrow(0, write, 1);
                if let Err(error) = self.memory.write(memory, one(&keys), one(&values)) {
                    state.memories = before;
                    return Err(error);
                }
            }
            memory.tokens_seen = seen + tokens as u64;
            if reads > answered {
                let part = queries.narrow(0, answered, reads - answered);
                parts.push(self.memory.read(memory, part));
            }
            let width = self.config.memory.value_dim;
            answers.push(match parts.is_empty() {
                true => Tensor::zeros([1, 0, width], (&rows.device(), rows.dtype())),
                false => Tensor::cat(parts, 0).unsqueeze_dim::<3>(0),
            });
        }
        Ok(Tensor::cat(answers, 0))
    }

    /// Where the tokens stand that take part in the update, ascending, how many of them are
    /// written, and whether the closed form is to compute it: then they are equally many for
    /// each sequence.
    ///
    /// Few writes are faster one by one; a soft gate has strengths, which only the closed
    /// form knows.
    fn written_positions(
        &self,
        [batch, tokens]: [usize; 2],
        gates: Option<&WriteGates>,
        trains: bool,
    ) -> (Vec<Vec<usize>>, Vec<usize>, bool) {
        let Some(gates) = gates else {
            let all = vec![(0..tokens).collect(); batch];
            return (all, vec![tokens; batch], trains || tokens > CHUNK);
        };
        let ranked: Vec<&[f32]> = gates.ranks.chunks_exact(tokens.max(1)).collect();
        let is_open = |rank: f32| rank > 0.0;
        let written: Vec<usize> = (ranked.iter())
            .map(|ranks| ranks.iter().filter(|rank| is_open(**rank)).count())
            .collect();
        let is_soft = matches!(self.config.write_gate, Some(gate) if gate.kind == GateKind::Soft);
        let at_once = trains || is_soft || written.iter().any(|count| *count > CHUNK);
        let least = match trains {
            true => self.config.gathered.min(tokens),
            false => 0,
        };
        let count = written.iter().copied().max().unwrap_or(0).max(least);
        let positions = (ranked.iter().zip(&written))
            .map(|(ranks, written)| {
                let wanted = if at_once { count } else { *written };
                let mut order: Vec<usize> = (0..tokens).collect();
                order.sort_by(|a, b| ranks[*b].total_cmp(&ranks[*a]));
                order.truncate(wanted);
                order.sort_unstable();
                order
            })
            .collect();
        (positions, written, at_once)
    }
}
