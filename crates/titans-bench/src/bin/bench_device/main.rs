//! Tokens per second of a sparse and of a dense memory on a device, beside what the device can
//! do.
//!
//! ```text
//! cargo run --release -p titans-bench --features cuda --bin bench_device
//! cargo run --release -p titans-bench --features wgpu --bin bench_device -- --device wgpu --quick
//! ```
//!
//! First the ceilings: products of matrices and copies on this device, measured here. Then a
//! row for each number of memories, width and chunk: one batched write of a chunk of each
//! memory and one read of as many queries, by the operations of this library and by plain
//! tensor operations.
//!
//! Of the sparse memory, *floor/time* is the time that the copies' bandwidth allows for the
//! bytes that no implementation can avoid, the active rows read, written, and read again, over
//! the time that was taken. Of the dense one, *of peak* is what its matrix products need at the
//! rate of the product above in the same type, over the time that everything took.

mod ceilings;
mod dense;
mod measure;
mod sparse;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use titans_bench::outln;
use titans_core::ComputeDevice;

/// Options of the measurement.
#[derive(Parser)]
#[command(about = "Tokens per second of a sparse and of a dense memory on a device")]
struct Options {
    /// Where to compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "auto")]
    device: ComputeDevice,
    /// One small size of everything: does it run?
    #[arg(long)]
    quick: bool,
    /// Leave out sizes whose memories take more than this many GiB; their copies during a
    /// write take three times that.
    #[arg(long, default_value_t = 8.0, value_name = "GIB")]
    most_gib: f64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_device: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let chosen = options.device.resolve();
    let device = chosen.open()?;
    outln!("device {chosen}, titanmem {}", env!("CARGO_PKG_VERSION"));

    let ceilings = ceilings::print(&device, options.quick)?;
    sparse::print(&device, ceilings.copy, options.quick, options.most_gib)?;
    dense::print(&device, &ceilings, options.quick, options.most_gib)
}
