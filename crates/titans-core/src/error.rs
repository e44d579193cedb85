//! Every way a configuration can be wrong.

use thiserror::Error;

/// Why a memory cannot be built from a configuration.
///
/// A configuration is checked once, in whole, when a memory is built from it.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size that must be at least one is zero.
    #[error("{name} must be at least 1")]
    Zero {
        /// Which size.
        name: &'static str,
    },
    /// A number lies outside the range in which the equations hold.
    #[error("{name} is {value}, expected {expected}")]
    OutOfRange {
        /// Which number.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What would be accepted, in words.
        expected: &'static str,
    },
    /// A preset name that this build does not have.
    #[error("unknown preset {name:?}; this build knows {known}")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// Comma-separated names that exist.
        known: String,
    },
    /// One of the four choices has a name that this build does not have.
    #[error("unknown {choice} {name:?}; this build knows {known}")]
    UnknownChoice {
        /// Which of the four choices.
        choice: &'static str,
        /// What was asked for.
        name: String,
        /// Comma-separated names that exist.
        known: String,
    },
    /// A choice is known, but a parameter is missing, unknown or of another form. Boxed, because
    /// every result of a call is as large as its largest error.
    #[error("{choice} {name:?}: {param} is {found}, expected {expected}")]
    Param {
        /// Which of the four choices.
        choice: &'static str,
        /// Its name.
        name: Box<str>,
        /// Which parameter.
        param: Box<str>,
        /// What was given.
        found: Box<str>,
        /// What would be accepted, in words.
        expected: Box<str>,
    },
    /// The environment asks for vectors that this machine does not have.
    #[error(transparent)]
    SimdLevel(#[from] titans_cpu::LevelError),
    /// The requested device is not there.
    #[error("no {device} device: {reason}")]
    NoDevice {
        /// Which device was asked for.
        device: String,
        /// Why it cannot be had.
        reason: String,
    },
}

/// Why numbers from outside are not a state of a memory.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// Something that the configuration needs is not there.
    #[error("the state lacks the {what} {name:?}")]
    Missing {
        /// A tensor or a scalar.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something is there that the configuration does not have.
    #[error("the state has the {what} {name:?}, which this memory does not")]
    Unexpected {
        /// A tensor or a scalar.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the configuration.
    #[error("tensor {name:?} is {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// A number is NaN or infinite.
    #[error("{name:?} is not finite at index {index}")]
    NotFinite {
        /// The tensor or scalar.
        name: String,
        /// Position in row-major order.
        index: usize,
    },
}

/// Why tokens were not taken in. The memory is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError {
    /// A number is NaN or infinite.
    #[error("{what} are not finite at memory {memory}, token {token}")]
    NotFinite {
        /// Keys, values or a gate.
        what: &'static str,
        /// Which memory of the batch.
        memory: usize,
        /// Which of the given tokens.
        token: usize,
    },
    /// Every number is finite, but the weights after the write would not be: the step is
    /// too large for keys of this size.
    #[error("the update of memory {memory} does not stay finite")]
    Diverges {
        /// Which memory of the batch.
        memory: usize,
    },
}

/// `Ok` when `value` is at least one.
pub(crate) fn at_least_one(name: &'static str, value: usize) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::Zero { name });
    }
    Ok(())
}

/// `Ok` when `value` is finite and `holds`.
pub(crate) fn in_range(
    name: &'static str,
    value: f32,
    expected: &'static str,
    holds: impl Fn(f32) -> bool,
) -> Result<(), ConfigError> {
    if value.is_finite() && holds(value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange {
        name,
        value: f64::from(value),
        expected,
    })
}
