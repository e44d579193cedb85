//! The needle benchmark with a trained model: long texts, a state of one size, free answers.

mod args;
mod chart;
mod measure;
mod report;
mod row;
mod tasks;

use std::fs;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use titans_bench::outln;
use titans_core::Wiring;
use titans_lm::{Haystack, Lexicon, NeedleModel};
use titans_needle::tokens_text;

use crate::args::{Args, Task};
use crate::measure::measure;
use crate::row::Row;
use crate::tasks::Text;

/// Sentences of generated text where no text is given.
const GENERATED: usize = 50_000;

fn main() -> ExitCode {
    match benchmark(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("needle_lm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A model and what is done to it.
struct Contender {
    name: String,
    model: NeedleModel,
    /// Asked after its state was taken away.
    forgets: bool,
    /// Longest text that it reads.
    up_to: usize,
    is_control: bool,
}

fn benchmark(args: &Args) -> Result<(), String> {
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    }
    if args.samples == 0 || args.questions == 0 {
        return Err("--samples and --questions are at least 1".to_owned());
    }
    let (name, haystack, mut lexicon) = haystack(args)?;
    let noise = Haystack::noise();
    let contenders = contenders(args)?;
    let mut rows = Vec::new();
    for tokens in args.lengths() {
        if tokens > haystack.tokens().len() {
            eprintln!(
                "needle_lm: {name} has {} tokens, so it is repeated to {}",
                haystack.tokens().len(),
                tokens_text(tokens)
            );
        }
        for contender in &contenders {
            for task in &args.task {
                let text = match task {
                    Task::Single1 => ("noise", &noise),
                    _ => (name.as_str(), &haystack),
                };
                // Controls show what the model does without its memory: one task tells.
                if contender.is_control && *task != Task::Needles16 && *task != Task::Single2 {
                    continue;
                }
                rows.push(row(args, contender, (*task, tokens), text, &mut lexicon)?);
            }
        }
    }
    // The files are worth having even where nothing can be printed.
    if let Some(dir) = &args.out {
        report::write_files(dir, args, &rows, &lexicon)?;
    }
    outln!("{}", report::table(&rows));
    outln!(
        "Each fact is stated once. Answers are decoded freely, greedily; an answer is right when \
         the value stands in it. Intervals are Wilson's; questions to one text share it. \
         multivalue asks once for four values and counts each; multiquery asks four times."
    );
    Ok(())
}

fn contenders(args: &Args) -> Result<Vec<Contender>, String> {
    let device = args.device.open().map_err(|e| e.to_string())?;
    let mut contenders = Vec::new();
    let mut controls = Vec::new();
    for name in &args.wiring {
        let path = args.models.join(format!("{name}.safetensors"));
        let (model, _) = titans_lm::load(&path, &device).map_err(|error| error.to_string())?;
        let wiring = model.config().wiring;
        if wiring.has_memory() && controls.is_empty() {
            let control = |what: &str, model: NeedleModel, forgets, up_to| Contender {
                name: format!("{name}, {what}"),
                model,
                forgets,
                up_to,
                is_control: true,
            };
            let all = usize::MAX;
            controls = vec![
                control("memory off", model.clone(), true, all),
                control(
                    "never written",
                    model.clone().with_forced_gate(false),
                    false,
                    all,
                ),
                control(
                    "all written",
                    model.clone().with_forced_gate(true),
                    false,
                    args.write_all_up_to,
                ),
            ];
        }
        contenders.push(Contender {
            name: name.clone(),
            forgets: false,
            up_to: match wiring {
                Wiring::FullAttention => args.attention_up_to,
                _ => usize::MAX,
            },
            model,
            is_control: false,
        });
    }
    contenders.append(&mut controls);
    Ok(contenders)
}

fn row(
    args: &Args,
    contender: &Contender,
    (task, tokens): (Task, usize),
    (haystack_name, haystack): (&str, &Haystack),
    lexicon: &mut Lexicon,
) -> Result<Row, String> {
    let mut row = Row {
        model: contender.name.clone(),
        task: task.name(),
        haystack: haystack_name.to_owned(),
        tokens,
        texts: Vec::new(),
        computed_bytes: None,
    };
    if tokens > contender.up_to {
        let is_full = contender.model.config().wiring == Wiring::FullAttention;
        row.computed_bytes = is_full.then(|| cache_bytes(&contender.model, tokens));
        return Ok(row);
    }
    let samples = task.texts(args.samples);
    let progress = ProgressBar::new(samples as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}") {
        progress.set_style(style);
    }
    progress.set_message(format!(
        "{} {} {}",
        row.model,
        row.task,
        tokens_text(tokens)
    ));
    for sample in 0..samples {
        let what = (task, sample, samples);
        let mut text = Text::new(what, tokens, haystack, (args.questions, args.seed))?;
        for hidden in &text.hidden {
            lexicon.learn(&hidden.fact.sentence());
        }
        let measured = measure(&contender.model, &mut text, contender.forgets)?;
        row.texts.push(measured);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(row)
}

/// Keys and values of one layer for every token, as the cache of full attention holds them.
fn cache_bytes(model: &NeedleModel, tokens: usize) -> u64 {
    let config = model.layer().config();
    (tokens * 2 * config.heads * config.head_dim * size_of::<f32>()) as u64
}

fn haystack(args: &Args) -> Result<(String, Haystack, Lexicon), String> {
    let mut lexicon = Lexicon::default();
    if args.haystack.is_empty() {
        let mut rng = ChaCha8Rng::seed_from_u64(args.seed ^ 0x5eed_0f7e);
        let haystack = Haystack::generated(GENERATED, &mut rng);
        return Ok(("generated".to_owned(), haystack, lexicon));
    }
    let mut text = String::new();
    for path in &args.haystack {
        text += &fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        text.push('\n');
    }
    lexicon.learn(&text);
    let haystack = Haystack::of_text(&text);
    if haystack.sentences() == 0 {
        return Err("the texts have no words".to_owned());
    }
    let first = args.haystack[0].file_stem().unwrap_or_default();
    let name = match args.haystack.len() {
        1 => first.to_string_lossy().into_owned(),
        count => format!("{}+{}", first.to_string_lossy(), count - 1),
    };
    Ok((name, haystack, lexicon))
}
