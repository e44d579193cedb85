//! The mathematics alone: no files, no users, no threads. A memory is written and read, its
//! report is compared with the equations, and the fast form of an update with the slow one.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use titanmem::Preset;
use titanmem::titans_core::{
    Form, GateValues, Initial, NeuralMemory, Passed, ReadTime, Reading, Tail, TokenGates, Tokens,
};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    // Made-up rows of a seed.
    let mut rows = Initial::new(1, &device);

    // The delta rule: W <- W + 0.3 k^T (v - k W) / |k|^2. Every write of the same pair leaves
    // 0.7 of the error, and the report says how large it was before the write.
    let memory = NeuralMemory::new(Preset::Delta.config(), &device)?;
    let mut state = memory.initial_state();
    let (key, value) = (rows.normal([1, 64], 1.0), rows.normal([1, 64], 1.0));
    say("write  surprise  by hand".to_owned())?;
    for write in 0..5 {
        let report = memory.write(&mut state, key.clone(), value.clone())?;
        let (surprise, by_hand) = (report.surprise[0], 0.7_f32.powi(write));
        say(format!("{write:5}  {surprise:8.4}  {by_hand:7.4}"))?;
        assert!((surprise - by_hand).abs() < 1e-4);
    }
    let read = |state: &_| size(memory.read(state, key.clone()));
    let error = size(memory.read(&state, key.clone()) - value.clone()) / size(value.clone());
    say(format!(
        "read: {:.1} % of the value is missing",
        100.0 * error
    ))?;
    assert!((error - 0.7_f32.powi(5)).abs() < 1e-4);

    // Gates of the caller's: ten tokens with step 0 and retention 0.9 write nothing and
    // leave 0.9^10 of what was known.
    let before = read(&state);
    let gate = |value: f32| Some(GateValues::PerToken(Tensor::full([1, 10], value, &device)));
    let nothing = Tokens {
        gates: TokenGates {
            step_size: gate(0.0),
            retention: gate(0.9),
            ..TokenGates::default()
        },
        ..Tokens::new(rows.normal([1, 10, 64], 1.0), rows.normal([1, 10, 64], 1.0))
    };
    let states = std::slice::from_mut(&mut state);
    memory.pass(states, nothing, None, Tail::Hold, Form::Chunkwise)?;
    let (kept, by_hand) = (read(&state) / before, 0.9_f32.powi(10));
    say(format!("decay: {kept:.4} is left, by hand {by_hand:.4}"))?;
    assert!((kept - by_hand).abs() < 1e-4);

    // A deep memory with momentum and decay (Titans). Its updates of 16 tokens can be computed
    // at once or token by token.
    let memory = NeuralMemory::new(Preset::Titans.config(), &device)?;
    let unit = |rows: Tensor<3>| rows.clone() / (rows.clone() * rows).sum_dim(2).sqrt();
    let keys = unit(rows.normal([1, 256, 64], 1.0));
    let values = unit(rows.normal([1, 256, 64], 1.0));
    let run = |values: &Tensor<3>, form| -> Result<(Passed, f64), Box<dyn Error>> {
        let started = Instant::now();
        let reading = Reading {
            queries: keys.clone(),
            when: ReadTime::Token,
        };
        let passed = memory.pass(
            &mut [memory.initial_state()],
            Tokens::new(keys.clone(), values.clone()),
            Some(reading),
            Tail::Hold,
            form,
        )?;
        Ok((passed, 1000.0 * started.elapsed().as_secs_f64()))
    };
    let answers = |passed: Passed| passed.retrieved.expect("it was asked");
    let (at_once, chunk_ms) = run(&values, Form::Chunkwise)?;
    let (one_by_one, token_ms) = run(&values, Form::Recurrent)?;
    let (others, _) = run(&values.clone().flip([1]), Form::Chunkwise)?;
    let surprise = at_once.relative_error.clone().mean().into_scalar::<f32>();
    let step = at_once.update_norm.clone().mean().into_scalar::<f32>();
    say(format!(
        "256 tokens: mean surprise {surprise:.3}, mean norm of an update {step:.3}"
    ))?;
    let at_once = answers(at_once);
    let apart = largest(at_once.clone() - answers(one_by_one));
    let control = largest(at_once - answers(others));
    say(format!(
        "16 at once {chunk_ms:.0} ms, one by one {token_ms:.0} ms; largest difference {apart:.1e}, of other values {control:.1e}"
    ))?;
    assert!(apart < 1e-5 && control > 1e-2);
    Ok(())
}

fn size(rows: Tensor<2>) -> f32 {
    (rows.clone() * rows).sum().sqrt().into_scalar()
}

fn largest(rows: Tensor<3>) -> f32 {
    rows.abs().max().into_scalar()
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
