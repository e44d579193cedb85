//! Trains the model of the needle benchmark: seeded, resumable, on any device.
//!
//! ```text
//! cargo run --release -p titans-bench --bin train_needle -- --haystack book.txt --out trained
//! ```

mod curve;
mod mining;
mod recipe;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use titans_bench::outln;
use titans_core::{GateKind, Wiring};
use titans_lm::{Haystack, ModelConfig, NeedleModel, Precision, Source, Trainer, VOCABULARY};

/// Steps between two checkpoints.
const SAVE_EVERY: u64 = 100;
/// Share of random words in the texts among which mistakes are looked for.
const WORD_DROPOUT: f64 = 0.1;
/// Sentences of generated text where there are no books.
const GENERATED: usize = 20_000;

/// Trains the model of the needle benchmark.
#[derive(Debug, Parser)]
struct Args {
    /// Text to hide facts in; may be given several times. Generated text without it.
    #[arg(long)]
    haystack: Vec<PathBuf>,
    /// Folder of checkpoints, log and loss curve.
    #[arg(long)]
    out: PathBuf,
    /// How memory and attention stand together: lmm, mac, mag, mal, full-attention or
    /// sliding-window.
    #[arg(long, default_value = "lmm")]
    wiring: Wiring,
    /// Which stages: cpu, gpu (four times the texts, twice the steps), finetune (a wiring from a
    /// trained memory) or smoke (a minute).
    #[arg(long, default_value = "cpu")]
    recipe: recipe::Recipe,
    /// Train the control whose gate gives every token a strength and is never zero.
    #[arg(long)]
    soft_gate: bool,
    /// Begin with what this checkpoint has in common with the model.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "cpu")]
    device: titans_core::ComputeDevice,
    /// Seed of parameters, samples and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many steps in all, and go on with the same command.
    #[arg(long)]
    stop_after: Option<u64>,
}

fn main() -> ExitCode {
    match train(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train_needle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn train(args: &Args) -> Result<(), String> {
    let io = |error: std::io::Error| format!("cannot write {}: {error}", args.out.display());
    fs::create_dir_all(&args.out).map_err(io)?;
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let haystacks = haystacks(&args.haystack, &mut rng)?;
    let counts = counts(&haystacks);
    let mut source = Source::new(haystacks, args.seed);

    let device = args.device.open().map_err(|e| e.to_string())?;
    let config = ModelConfig {
        wiring: args.wiring,
        seed: args.seed,
        gate: match args.soft_gate {
            true => GateKind::Soft,
            false => GateKind::Hard,
        },
        ..ModelConfig::default()
    };
    let (last, moments) = (
        args.out.join("last.safetensors"),
        args.out.join("last.optimizer"),
    );
    let log_file = args.out.join("log.csv");
    let mut log = String::from(
        "step,recall_loss,gate_loss,tokens_right,written,false_writes,overlap,apart,seconds\n",
    );
    let mut points: Vec<curve::Point> = Vec::new();
    let mut trainer = match last.exists() {
        true => {
            let (model, notes) = titans_lm::load(&last, &device).map_err(|e| e.to_string())?;
            let step = notes.get("step").and_then(|step| step.parse().ok());
            let step: u64 = step.ok_or("the checkpoint has no step")?;
            log = fs::read_to_string(&log_file).map_err(io)?;
            points = curve::read(&log);
            eprintln!("train_needle: going on after step {step}");
            Trainer::new(model, args.seed).resume(step, &moments)?
        }
        false => {
            let model = NeedleModel::new(config, &counts, &device).map_err(|e| e.to_string())?;
            let model = match &args.from {
                Some(path) => {
                    let loaded = titans_lm::load(path, &device).map_err(|e| e.to_string())?;
                    titans_lm::transfer(model, &loaded.0)
                }
                None => model,
            };
            Trainer::new(model, args.seed)
        }
    };

    let stages = args.recipe.stages(args.wiring, args.soft_gate);
    let total: usize = stages.iter().map(|stage| stage.steps).sum();
    let progress = ProgressBar::new(total as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}") {
        progress.set_style(style);
    }
    progress.set_position(trainer.step_number());
    // Mistakes that were looked for before a resumption are not looked for again: the model
    // has moved on.
    let mistakes_file = args.out.join("mistakes.csv");
    let mut mistakes = match trainer.step_number() {
        0 => String::new(),
        _ => fs::read_to_string(&mistakes_file).map_err(io)?,
    };
    let mut first = 0;
    for (number, stage) in stages.iter().enumerate() {
        let end = first + stage.steps as u64;
        let known = mining::of_stage(&mistakes, number)?;
        if let Some(known) = known {
            if known.iter().any(|(text, _)| *text >= source.texts().len()) {
                return Err("mistakes.csv is of more texts than these".to_owned());
            }
            source.add_mistakes(known);
        } else if trainer.step_number() < end && stage.samples.hard_negatives > 0.0 {
            let mut rng = ChaCha8Rng::seed_from_u64(args.seed + number as u64);
            let model = trainer.model();
            let mined = mining::false_writes(&model, source.texts(), WORD_DROPOUT, &mut rng)?;
            eprintln!(
                "train_needle: stage {}: {} sentences are falsely written",
                number + 1,
                mined.len()
            );
            mining::note(&mut mistakes, number, &mined);
            fs::write(&mistakes_file, &mistakes).map_err(io)?;
            source.add_mistakes(mined);
        }
        while trainer.step_number() < end {
            if args
                .stop_after
                .is_some_and(|stop| trainer.step_number() >= stop)
            {
                return save(&trainer, args, &log, &points);
            }
            let through = (trainer.step_number() - first) as f64 / stage.steps as f64;
            let rate =
                stage.learning_rate + through * (stage.last_learning_rate - stage.learning_rate);
            // Adam's second moment is a guess in its first steps.
            let warm = ((trainer.step_number() + 1) as f64 / 30.0).min(1.0);
            let started = Instant::now();
            let report = trainer
                .step(&source, stage, rate * warm)
                .map_err(|e| e.to_string())?;
            let seconds = started.elapsed().as_secs_f32();
            let step = trainer.step_number();
            let _ = writeln!(
                log,
                "{step},{:.5},{:.5},{:.4},{:.4},{:.6},{:.4},{:.4},{seconds:.3}",
                report.recall_loss,
                report.gate_loss,
                report.tokens_right,
                report.written,
                report.false_writes,
                report.overlap,
                report.apart
            );
            points.push((step, report.recall_loss, report.gate_loss));
            progress.set_position(step);
            progress.set_message(format!(
                "recall {:.3} gate {:.3} right {:.2}",
                report.recall_loss, report.gate_loss, report.tokens_right
            ));
            if step % SAVE_EVERY == 0 || step == total as u64 {
                save(&trainer, args, &log, &points)?;
            }
        }
        first = end;
    }
    progress.finish();
    let notes = [
        ("recipe", args.recipe.name().to_owned()),
        ("step", trainer.step_number().to_string()),
        ("training_seed", args.seed.to_string()),
    ];
    let name = match args.soft_gate {
        true => "soft-gate".to_owned(),
        false => args.wiring.to_string(),
    };
    let shipped = args.out.join(format!("{name}.safetensors"));
    titans_lm::save(&trainer.model(), &shipped, Precision::Half, &notes)
        .map_err(|e| e.to_string())?;
    outln!("{}", shipped.display());
    Ok(())
}

fn save(trainer: &Trainer, args: &Args, log: &str, points: &[curve::Point]) -> Result<(), String> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    trainer.save_optimizer(&args.out.join("last.optimizer"))?;
    let notes = [("step", trainer.step_number().to_string())];
    let last = args.out.join("last.safetensors");
    titans_lm::save(&trainer.model(), &last, Precision::Single, &notes)
        .map_err(|e| e.to_string())?;
    write(&args.out.join("log.csv"), log)?;
    write(&args.out.join("loss.svg"), &curve::svg(points))
}

fn haystacks(paths: &[PathBuf], rng: &mut ChaCha8Rng) -> Result<Vec<Haystack>, String> {
    if paths.is_empty() {
        return Ok(vec![Haystack::generated(GENERATED, rng)]);
    }
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let haystack = Haystack::of_text(&text);
        match haystack.sentences() {
            0 => Err(format!("{} has no words", path.display())),
            _ => Ok(haystack),
        }
    };
    paths.iter().map(read).collect()
}

/// How often each token occurs.
fn counts(haystacks: &[Haystack]) -> Vec<u64> {
    let mut counts = vec![0; VOCABULARY];
    for token in haystacks.iter().flat_map(|haystack| haystack.tokens()) {
        counts[*token as usize] += 1;
    }
    counts
}
