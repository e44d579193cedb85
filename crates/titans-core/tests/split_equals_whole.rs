//! How a stream is cut, with whom a memory is written, and whether it was saved on the way
//! make no difference to a single bit.

mod common;

use burn::tensor::Tensor;
use common::draw::seed;
use common::{bits, every_kind, memory, numbers, random, small};
use titans_core::{
    Form, HostState, L2Retention, MemoryState, NeuralMemory, Preset, ReadTime, Reading,
    RetentionGate, RetentionTarget, SparseGate, StateDelta, StateTensor, Tail, Tokens, WriteReport,
};

/// Two full updates, one that is cut short, and a length that is prime.
const TOKENS: usize = 17;

fn rows(tensor: &Tensor<3>, memory: usize, from: usize, to: usize) -> Tensor<2> {
    tensor
        .clone()
        .narrow(0, memory, 1)
        .narrow(1, from, to - from)
        .squeeze_dim(0)
}

/// Writes one memory of a batch in pieces of the given length.
fn in_pieces(
    memory: &NeuralMemory,
    keys: &Tensor<3>,
    values: &Tensor<3>,
    index: usize,
    piece: usize,
) -> (MemoryState, Vec<f32>) {
    let mut state = memory.initial_state();
    let mut surprise = Vec::new();
    for from in (0..TOKENS).step_by(piece) {
        let to = TOKENS.min(from + piece);
        let report = memory
            .write(
                &mut state,
                rows(keys, index, from, to),
                rows(values, index, from, to),
            )
            .expect("finite");
        surprise.extend(report.surprise);
    }
    (state, surprise)
}

#[test]
fn pieces_of_any_length_equal_the_whole() {
    seed(1);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let (keys, values) = (random(1, TOKENS), random(1, TOKENS));
        let (whole, whole_surprise) = in_pieces(&memory, &keys, &values, 0, TOKENS);
        let update = config.update.update_size.max(2);
        for piece in [1, 3, update - 1, update, update + 1] {
            let (pieces, surprise) = in_pieces(&memory, &keys, &values, 0, piece);
            assert_eq!(bits(&pieces), bits(&whole), "{what}, pieces of {piece}");
            assert_eq!(surprise, whole_surprise, "{what}, pieces of {piece}");
        }
    }
}

/// A matrix whose weights decay: `pass` solves it in chunks, which begin where a call begins.
#[test]
fn pieces_of_the_decaying_delta_rule_equal_the_whole() {
    seed(8);
    let mut config = small(Preset::Delta);
    config.miras.retention_gate = RetentionGate::L2(L2Retention {
        retention: 0.9,
        target: RetentionTarget::Zero,
    });
    let memory = memory(config);
    let (keys, values) = (random(1, TOKENS), random(1, TOKENS));
    let (whole, whole_surprise) = in_pieces(&memory, &keys, &values, 0, TOKENS);
    for piece in [1, 2, 5, 16] {
        let (pieces, surprise) = in_pieces(&memory, &keys, &values, 0, piece);
        assert_eq!(bits(&pieces), bits(&whole), "pieces of {piece}");
        assert_eq!(surprise, whole_surprise, "pieces of {piece}");
    }
}

#[test]
fn reads_beside_pieces_equal_reads_beside_the_whole() {
    seed(2);
    for (what, config) in every_kind() {
        if config.update.update_size == 1 {
            // The exact chunk of the delta rule depends on where pieces begin; the
            // tolerance of that is in `chunkwise_equals_recurrent`.
            continue;
        }
        let memory = memory(config);
        let (keys, values, queries) = (random(2, TOKENS), random(2, TOKENS), random(2, TOKENS));
        for when in [
            ReadTime::UpdateStart,
            ReadTime::Token,
            ReadTime::FullUpdates,
        ] {
            let read = |piece: usize| {
                let mut states = [memory.initial_state(), memory.initial_state()];
                let mut reads = Vec::new();
                for from in (0..TOKENS).step_by(piece) {
                    let count = piece.min(TOKENS - from);
                    let part = |rows: &Tensor<3>| rows.clone().narrow(1, from, count);
                    let reading = Reading {
                        queries: part(&queries),
                        when,
                    };
                    let passed = memory
                        .pass(
                            &mut states,
                            Tokens::new(part(&keys), part(&values)),
                            Some(reading),
                            Tail::Hold,
                            Form::Chunkwise,
                        )
                        .expect("finite");
                    reads.push(passed.retrieved.expect("there were queries"));
                }
                numbers(&Tensor::cat(reads, 1))
            };
            let whole = read(TOKENS);
            for piece in [1, 4, 6] {
                assert_eq!(read(piece), whole, "{what} {when:?}, pieces of {piece}");
            }
        }
    }
}

#[test]
fn many_memories_in_one_batch_are_each_as_if_alone() {
    seed(3);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let (keys, values) = (random(5, TOKENS), random(5, TOKENS));
        let mut together: Vec<MemoryState> = (0..5).map(|_| memory.initial_state()).collect();
        let reports = memory
            .write_batch(&mut together, keys.clone(), values.clone())
            .expect("finite");
        let queries = random(5, 3);
        let answers = memory.read_batch(&together, queries.clone());
        for (index, state) in together.iter().enumerate() {
            let mut alone = memory.initial_state();
            let report = memory
                .write(
                    &mut alone,
                    rows(&keys, index, 0, TOKENS),
                    rows(&values, index, 0, TOKENS),
                )
                .expect("finite");
            assert_eq!(bits(state), bits(&alone), "{what}, memory {index}");
            assert_eq!(reports[index], report, "{what}, memory {index}");
            let answer = memory.read_batch(
                std::slice::from_ref(&alone),
                queries.clone().narrow(0, index, 1),
            );
            assert_eq!(
                numbers(&answers.clone().narrow(0, index, 1)),
                numbers(&answer),
                "{what}, memory {index}"
            );
        }
    }
}

#[test]
fn memories_that_are_not_equally_far_are_written_all_the_same() {
    seed(4);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let (keys, values) = (random(2, TOKENS), random(2, TOKENS));
        let mut ahead = memory.initial_state();
        memory
            .write(&mut ahead, rows(&keys, 1, 0, 3), rows(&values, 1, 0, 3))
            .expect("finite");
        let mut alone = ahead.clone();
        let mut together = [memory.initial_state(), ahead];
        memory
            .write_batch(&mut together, keys.clone(), values.clone())
            .expect("finite");
        memory
            .write(
                &mut alone,
                rows(&keys, 1, 0, TOKENS),
                rows(&values, 1, 0, TOKENS),
            )
            .expect("finite");
        assert_eq!(bits(&together[1]), bits(&alone), "{what}");
    }
}

#[test]
fn a_saved_memory_goes_on_as_if_it_had_never_stopped() {
    seed(5);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let (keys, values) = (random(1, TOKENS), random(1, TOKENS));
        let (whole, _) = in_pieces(&memory, &keys, &values, 0, TOKENS);
        for cut in [1, 7, 10, 16] {
            let mut state = memory.initial_state();
            memory
                .write(&mut state, rows(&keys, 0, 0, cut), rows(&values, 0, 0, cut))
                .expect("finite");
            let host = state.to_host();
            let mut back = memory.state_from_host(host.clone()).expect("its own state");
            assert_eq!(back.to_host(), host, "{what}, saved after {cut}");
            memory
                .write(
                    &mut back,
                    rows(&keys, 0, cut, TOKENS),
                    rows(&values, 0, cut, TOKENS),
                )
                .expect("finite");
            assert_eq!(bits(&back), bits(&whole), "{what}, saved after {cut}");
        }
    }
}

/// What a write changed: what it says itself, or the difference.
fn delta_of(report: &WriteReport, before: &HostState, after: &MemoryState) -> StateDelta {
    let told = report.delta.clone();
    told.unwrap_or_else(|| StateDelta::between(before, &after.to_host()))
}

#[test]
fn the_delta_of_a_write_leads_from_the_state_before_to_the_state_after() {
    seed(6);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut state = memory.initial_state();
        for count in [3, 1, 4, 9] {
            let mut before = state.to_host();
            let unwritten = before.clone();
            let report = memory
                .write(
                    &mut state,
                    random(1, count).squeeze_dim(0),
                    random(1, count).squeeze_dim(0),
                )
                .expect("finite");
            before.apply(&delta_of(&report, &unwritten, &state), &state.to_host());
            assert_eq!(before, state.to_host(), "{what}, {count} tokens");
        }
        let mut before = state.to_host();
        let unwritten = before.clone();
        let report = memory.finish_update(&mut state).expect("finite");
        before.apply(&delta_of(&report, &unwritten, &state), &state.to_host());
        assert_eq!(before, state.to_host(), "{what}, the unfinished update");
        assert_eq!(state.tokens_pending(), 0, "{what}");
    }
}

#[test]
fn a_delta_of_a_batch_is_the_difference_of_each_memory() {
    seed(8);
    let mut told = 0;
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut states = vec![memory.initial_state(); 3];
        for count in [3, 1, 4, 9] {
            let before: Vec<HostState> = states.iter().map(MemoryState::to_host).collect();
            let reports = memory
                .write_batch(&mut states, random(3, count), random(3, count))
                .expect("finite");
            if config.update.sparse_gate == SparseGate::None {
                continue;
            }
            for ((report, before), state) in reports.iter().zip(&before).zip(&states) {
                let difference = StateDelta::between(before, &state.to_host());
                if let Some(delta) = &report.delta {
                    assert!(*delta == difference, "{what}, {count} tokens");
                    let values = difference.tensors.iter().filter(|t| t.values.is_some());
                    told += values.count();
                }
            }
        }
    }
    assert!(told > 0, "no write told its values");
}

#[test]
fn a_delta_can_be_told_with_the_values_of_the_state_after_it() {
    seed(9);
    let (mut told, mut gathered) = (0, 0);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut state = memory.initial_state();
        for count in [1, 4, 1] {
            let (keys, values) = (random(1, count), random(1, count));
            let report = memory
                .write(&mut state, keys.squeeze_dim(0), values.squeeze_dim(0))
                .expect("finite");
            let Some(delta) = report.delta else { continue };
            let Some(with_values) = state.with_values(&delta) else {
                continue;
            };
            let after = state.to_host();
            assert_eq!(with_values.tensors.len(), delta.tensors.len(), "{what}");
            for (changed, before) in with_values.tensors.iter().zip(&delta.tensors) {
                let is_it = |t: &&StateTensor| t.role == changed.role && t.name == changed.name;
                let tensor = after.tensors.iter().find(is_it).expect("it is there");
                let expected: Vec<f32> = (changed.indices.iter())
                    .flat_map(|index| {
                        let start = *index as usize * changed.width;
                        tensor.values[start..start + changed.width].to_vec()
                    })
                    .collect();
                assert!(changed.values.as_ref() == Some(&expected), "{what}");
                told += 1;
                gathered += usize::from(before.values.is_none());
            }
        }
    }
    assert!(
        gathered > 0 && told > gathered,
        "{gathered} of {told} gathered"
    );
}

#[test]
fn an_older_state_that_catches_up_equals_the_newer_one_and_parts_from_it() {
    seed(7);
    for (what, config) in every_kind() {
        let memory = memory(config);
        let mut newer = memory.initial_state();
        for count in [5, 1, 9] {
            let mut older = newer.clone();
            let write = |state: &mut MemoryState| {
                let (keys, values) = (random(1, count), random(1, count));
                memory
                    .write(state, keys.squeeze_dim(0), values.squeeze_dim(0))
                    .expect("finite")
            };
            let report = write(&mut newer);
            let delta = delta_of(&report, &older.to_host(), &newer);
            older.catch_up(&newer, &delta);
            assert_eq!(bits(&older), bits(&newer), "{what}, {count} tokens");
            // What is written to the one from here on is not in the other.
            let before = bits(&newer);
            write(&mut older);
            assert_eq!(bits(&newer), before, "{what}, {count} tokens");
        }
        let mut older = newer.clone();
        let report = memory.finish_update(&mut newer).expect("finite");
        let delta = delta_of(&report, &older.to_host(), &newer);
        older.catch_up(&newer, &delta);
        assert_eq!(bits(&older), bits(&newer), "{what}, the unfinished update");
    }
}
