//! How wide the vectors of this crate's own loops are, and who decides.

use std::fmt;
use std::sync::OnceLock;

/// The environment variable that names the level: `scalar`, `avx2`, `avx512` or `native`. Without
/// it, or with an empty one, `native`. It is read once in the life of a process.
pub const SIMD_VARIABLE: &str = "TITANMEM_SIMD";

/// How wide the vectors of this crate's own loops are.
///
/// The libraries beside them, `gemm` and what Burn computes with, look at the processor
/// themselves and are not steered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// What every processor of the compiled kind has: on x86-64 SSE2, without fused
    /// multiply-adds. Those that a loop asks for are made in software, with the same bits.
    Scalar,
    /// AVX2 and its fused multiply-adds.
    Avx2,
    /// AVX-512, and with it AVX512-BF16 where the processor has that.
    Avx512,
    /// The widest on a processor that is not of the x86 kind.
    Native,
}

impl Level {
    /// The word of [`SIMD_VARIABLE`] that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Native => "native",
        }
    }
}

/// A word in [`SIMD_VARIABLE`] that is no level of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelError {
    word: String,
    is_known: bool,
    allowed: String,
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.is_known {
            true => "which this machine does not have",
            false => "which is no level of vectors",
        };
        let (word, allowed) = (&self.word, &self.allowed);
        write!(
            f,
            "{SIMD_VARIABLE} is {word:?}, {problem}; this machine takes {allowed}"
        )
    }
}

impl std::error::Error for LevelError {}

/// The level of this process.
///
/// # Errors
/// [`SIMD_VARIABLE`] holds an unknown word, or a level that this machine does not have.
pub fn simd_level() -> Result<Level, LevelError> {
    of_this_process().clone()
}

/// The level of the loops; without a valid one the narrowest.
#[inline]
pub(crate) fn level() -> Level {
    of_this_process().as_ref().copied().unwrap_or(Level::Scalar)
}

fn of_this_process() -> &'static Result<Level, LevelError> {
    static LEVEL: OnceLock<Result<Level, LevelError>> = OnceLock::new();
    LEVEL.get_or_init(|| {
        let word = std::env::var_os(SIMD_VARIABLE).unwrap_or_default();
        level_of(&word.to_string_lossy(), &levels_of_this_machine())
    })
}

/// Narrowest first; the last is the native one.
fn levels_of_this_machine() -> Vec<Level> {
    let mut levels = vec![Level::Scalar];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if pulp::x86::V3::try_new().is_some() {
            levels.push(Level::Avx2);
        }
        if pulp::x86::V4::try_new().is_some() {
            levels.push(Level::Avx512);
        }
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    levels.push(Level::Native);
    levels
}

fn level_of(word: &str, machine_has: &[Level]) -> Result<Level, LevelError> {
    let native = machine_has.last().copied().unwrap_or(Level::Scalar);
    if word.is_empty() || word == Level::Native.name() {
        return Ok(native);
    }
    let asked = machine_has.iter().find(|level| level.name() == word);
    asked.copied().ok_or_else(|| {
        let known = [Level::Scalar, Level::Avx2, Level::Avx512];
        let mut allowed: Vec<&str> = machine_has.iter().map(|level| level.name()).collect();
        if native != Level::Native {
            allowed.push(Level::Native.name());
        }
        LevelError {
            word: word.to_owned(),
            is_known: known.iter().any(|level| level.name() == word),
            allowed: allowed.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_X86: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

    #[test]
    fn every_level_of_a_machine_is_had_by_its_name() {
        for level in OF_X86 {
            assert_eq!(level_of(level.name(), &OF_X86), Ok(level));
        }
        for (count, native) in [(1, Level::Scalar), (2, Level::Avx2), (3, Level::Avx512)] {
            for word in ["", "native"] {
                assert_eq!(level_of(word, &OF_X86[..count]), Ok(native));
            }
        }
        let other = [Level::Scalar, Level::Native];
        assert_eq!(level_of("native", &other), Ok(Level::Native));
        assert_eq!(level_of("scalar", &other), Ok(Level::Scalar));
    }

    #[test]
    fn a_word_that_is_no_level_of_the_machine_is_an_error_that_lists_them() {
        for (word, problem) in [
            ("avx512", "which this machine does not have"),
            ("AVX2", "which is no level of vectors"),
            ("avx3", "which is no level of vectors"),
        ] {
            let error = level_of(word, &OF_X86[..2]).expect_err("no such level");
            assert_eq!(
                error.to_string(),
                format!(
                    "TITANMEM_SIMD is {word:?}, {problem}; this machine takes scalar, avx2, native"
                )
            );
        }
    }

    #[test]
    fn this_process_has_a_level_of_this_machine() {
        let level = simd_level().expect("whoever runs the tests sets a valid one");
        assert!(levels_of_this_machine().contains(&level));
        println!("level: {}", level.name());
    }
}
