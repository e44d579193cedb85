//! How fast the memory is on a CPU, beside what the CPU can do.
//!
//! ```text
//! cargo run --release -p titans-bench --bin bench_cpu             minutes
//! cargo run --release -p titans-bench --bin bench_cpu -- --quick  a look
//! cargo run --release -p titans-bench --bin bench_cpu -- --products bf16
//! ```
//!
//! For each shape and number of threads a process of its own writes and reads a stream in
//! chunks, so that peak memory and thread pools are its own. Next to the tokens per second
//! stands the fraction of the matrix-product ceiling that the useful work is: the best that
//! the `gemm` crate reaches at 1024^3 in the same process, with the same threads.

mod ceiling;
mod dense;
mod length;
mod rounded;
mod shape;
mod sparse;

use std::process::{Command, Stdio};

use clap::{Parser, ValueEnum};
use titans_bench::outln;

use self::shape::Shape;

/// The type of the products of a dense memory.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProductsOption {
    F32,
    Bf16,
}

/// Options of the measurement.
#[derive(Parser)]
#[command(about = "Speed of the memory on the CPU, beside the measured ceiling")]
struct Options {
    /// Widths of keys and values.
    #[arg(long, value_delimiter = ',', default_values_t = [256, 384, 512])]
    dim: Vec<usize>,
    /// Layers of the dense memory; hidden layers are four times as wide as keys.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 3])]
    depth: Vec<usize>,
    /// Tokens per update.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256, 1024, 4096])]
    chunk: Vec<usize>,
    /// Memories at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    batch: Vec<usize>,
    /// Threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Seconds per row.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Two shapes, half a second each.
    #[arg(long)]
    quick: bool,
    /// Cost against length instead: 64Ki and 2Mi tokens, in turn.
    #[arg(long)]
    length: bool,
    /// With bf16: the dense memory alone, with products in bf16 and in f32 in turn.
    #[arg(long, value_enum, default_value = "f32")]
    products: ProductsOption,
    /// Measure the twin in tensor operations in place of the path that runs by default.
    #[arg(long)]
    twin: bool,
    /// Measure one shape in this process and print its row.
    #[arg(long, hide = true)]
    row: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.dim = vec![256];
        options.depth = vec![2];
        options.chunk = vec![64, 1024];
        options.batch = vec![1];
        options.seconds = 0.5;
    }
    if let Some(row) = &options.row {
        let shape: Shape = row.parse()?;
        outln!("{}", measure(shape, &options)?);
        return Ok(());
    }
    if options.length {
        outln!("{}", length::HEAD);
        for dense in [true, false] {
            for tokens in [1 << 16, 1 << 21, 1 << 16, 1 << 21] {
                let shape = Shape::Length { dense, tokens };
                outln!("{}", in_own_process(&shape, options.threads[0], &options)?);
            }
        }
        return Ok(());
    }
    if options.products == ProductsOption::Bf16 {
        outln!("dense: as without --products, in bf16 and in f32 in turn in each process");
        outln!("{}", rounded::HEAD);
        for &threads in &options.threads {
            for shape in rounded_shapes(&options) {
                outln!("{}", in_own_process(&shape, threads, &options)?);
            }
        }
        return Ok(());
    }
    outln!("dense: preset titans, gradients at the start of each chunk, write + read");
    outln!("{}", dense::HEAD);
    for &threads in &options.threads {
        for shape in dense_shapes(&options) {
            outln!("{}", in_own_process(&shape, threads, &options)?);
        }
    }
    outln!("\none token a call, write + read: updates of 1 token, and of 64");
    outln!("{}", dense::HEAD);
    for &dim in &options.dim {
        for chunk in [1, 64] {
            let shape = Shape::Dense {
                dim,
                depth: 2,
                hidden: 4 * dim,
                chunk,
                batch: 1,
                call: 1,
            };
            outln!("{}", in_own_process(&shape, 1, &options)?);
        }
    }
    outln!("\nsparse: preset sparse, 8192 channels, 64 active, write + read in chunks of 4096");
    outln!("{}", sparse::HEAD);
    for &threads in &options.threads {
        for percent in [100, 10, 1, 0] {
            let shape = Shape::Sparse { dim: 64, percent };
            outln!("{}", in_own_process(&shape, threads, &options)?);
        }
    }
    outln!("\nas many parameters, dense: 2^20, of which sparse learns half");
    outln!("{}", dense::HEAD);
    for &threads in &options.threads {
        let shape = Shape::Dense {
            dim: 64,
            depth: 2,
            hidden: 8192,
            chunk: 4096,
            batch: 1,
            call: 4096,
        };
        outln!("{}", in_own_process(&shape, threads, &options)?);
    }
    Ok(())
}

fn dense_shapes(options: &Options) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for &dim in &options.dim {
        for &depth in &options.depth {
            for &batch in &options.batch {
                for &chunk in &options.chunk {
                    shapes.push(Shape::dense(dim, depth, chunk, batch));
                }
            }
        }
    }
    shapes
}

fn rounded_shapes(options: &Options) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for &dim in &options.dim {
        for &depth in &options.depth {
            for &chunk in &options.chunk {
                shapes.push(Shape::Rounded { dim, depth, chunk });
            }
        }
    }
    shapes
}

fn measure(shape: Shape, options: &Options) -> Result<String, Box<dyn std::error::Error>> {
    match shape {
        Shape::Dense { .. } => dense::measure(shape, options.seconds, options.twin),
        Shape::Rounded { dim, depth, chunk } => {
            rounded::measure(dim, depth, chunk, options.seconds)
        }
        Shape::Sparse { dim, percent } => sparse::measure(dim, percent, options.seconds),
        Shape::Length { dense, tokens } => length::measure(dense, tokens),
    }
}

/// The row of a shape, measured by a process with as many threads.
fn in_own_process(
    shape: &Shape,
    threads: usize,
    options: &Options,
) -> Result<String, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--row", &shape.to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .args(options.twin.then_some("--twin"))
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim_end().to_owned()),
        false => Err(format!("measuring {shape} ended with {}", output.status).into()),
    }
}
