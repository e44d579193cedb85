//! What each parameter of the article does to recall and speed, in its own preset and in the
//! default one.
//!
//! ```text
//! cargo run --release -p titans-bench --bin sweep_parameters
//! cargo run --release -p titans-bench --bin sweep_parameters -- --preset sparse --seeds 10
//! ```
//!
//! Each row is one configuration: the preset with one parameter changed. Recall is the share of
//! questions whose answer is nearest to its own value among all values, as the mean over seeds
//! with a 95 % interval (Student's t):
//!
//! - *needles*: pairs hidden once each in a stream that repeats 1000 associations with Zipf's
//!   frequencies;
//! - *news*: pairs of which each is stated once and nothing repeats.
//!
//! Two controls ask the same questions: a memory that nothing was written to, and the memory
//! with the keys of other pairs. What they reach is chance.

mod measure;
mod settings;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use titans_bench::outln;
use titans_core::Preset;

use self::measure::{Measured, measure};
use self::settings::{Case, cases};

/// Options of the measurement.
#[derive(Parser)]
#[command(about = "Recall and speed for values of the article's parameters")]
struct Options {
    /// Seeds for each row, of which the mean is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=30))]
    seeds: u64,
    /// Only the named preset: sparse or article.
    #[arg(long)]
    preset: Option<Preset>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sweep_parameters: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    for preset in [Preset::Sparse, Preset::Article] {
        if options.preset.is_some_and(|asked| asked != preset) {
            continue;
        }
        let size = measure::Size::of(preset);
        outln!(
            "{preset}: {} needles in {} tokens, {} news, {} seeds\n",
            measure::NEEDLES,
            size.stream,
            size.news,
            options.seeds
        );
        outln!(
            "| parameter | needles % | news % | not written % | other keys % | written % | tokens/s |"
        );
        outln!("| --- | --- | --- | --- | --- | --- | --- |");
        for case in cases(preset) {
            let seeds: Result<Vec<_>, _> = (1..=options.seeds)
                .map(|seed| measure(&case.config, size, seed))
                .collect();
            print_row(&case, &seeds?);
        }
        outln!();
    }
    Ok(())
}

fn print_row(case: &Case, seeds: &[Measured]) {
    let of = |part: fn(&Measured) -> f64| interval(&seeds.iter().map(part).collect::<Vec<_>>());
    let (needles, news) = (of(|m| m.needles), of(|m| m.news));
    let (unwritten, others) = (of(|m| m.unwritten), of(|m| m.other_keys));
    let (written, speed) = (of(|m| m.written), of(|m| m.tokens_per_second));
    outln!(
        "| {} | {:.1} +- {:.1} | {:.1} +- {:.1} | {:.2} +- {:.2} | {:.2} +- {:.2} | {:.1} | {:.0} +- {:.0} |",
        case.name,
        needles.0,
        needles.1,
        news.0,
        news.1,
        unwritten.0,
        unwritten.1,
        others.0,
        others.1,
        written.0,
        speed.0,
        speed.1
    );
}

/// The mean, and half of its 95 % interval.
fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    (mean, quantile(values.len() - 1) * error)
}

/// The quantile of Student's t that leaves 2.5 % above it.
fn quantile(degrees: usize) -> f64 {
    const FIRST: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    // Above ten degrees the first terms of the expansion are right to three digits.
    let (z, n) = (1.959_964_f64, degrees as f64);
    let expanded = z
        + (z.powi(3) + z) / (4.0 * n)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n);
    FIRST.get(degrees - 1).copied().unwrap_or(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_students_table() {
        assert!((quantile(4) - 2.776).abs() < 1e-9);
        assert!((quantile(20) - 2.086).abs() < 1e-3);
        assert!((quantile(29) - 2.045).abs() < 1e-3);
        let (mean, half) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((mean - 3.0).abs() < 1e-12 && (half - 2.776 * 0.5_f64.sqrt()).abs() < 1e-9);
        assert_eq!(interval(&[7.0, 7.0]), (7.0, 0.0));
    }
}
