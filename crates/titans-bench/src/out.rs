//! Standard output of the programs here. A reader that has seen enough ends them quietly; any
//! other failure is told and is exit code 1, so that no result is lost without a word.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// Prints a line, as `println!` does.
#[macro_export]
macro_rules! outln {
    () => {
        $crate::out::print(format_args!("\n"))
    };
    ($($arg:tt)+) => {
        $crate::out::print(format_args!("{}\n", format_args!($($arg)+)))
    };
}

/// Prints a part of a line, as `print!` does.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => {
        $crate::out::print(format_args!($($arg)*))
    };
}

/// Prints and flushes; a failure ends the program.
pub fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot write to standard output: {error}");
            exit(1);
        }
    }
}
