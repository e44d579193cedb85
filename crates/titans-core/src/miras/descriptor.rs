//! What a file header can say of a choice: a name and named numbers.

use std::collections::BTreeMap;

use crate::error::ConfigError;

/// Named parameters of a choice.
pub type Params = BTreeMap<String, f64>;

/// A choice by name, with its parameters: the form that `.titanmem` headers carry.
///
/// Names are lower-case ASCII and never change once released. A parameter that is a word
/// rather than a number, such as an activation, is a parameter of that name with value 1,
/// for example `activation-gelu`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceDescriptor {
    /// The name, for example `l2`.
    pub name: String,
    /// Parameters by name.
    pub params: Params,
}

impl ChoiceDescriptor {
    pub(crate) fn new(name: &str, params: Params) -> Self {
        Self {
            name: name.to_owned(),
            params,
        }
    }

    /// The error for a name that is not among `known`.
    pub(crate) fn unknown(&self, choice: &'static str, known: &[&str]) -> ConfigError {
        ConfigError::UnknownChoice {
            choice,
            name: self.name.clone(),
            known: known.join(", "),
        }
    }

    /// Takes parameters out one by one; whatever is left at the end is an error.
    pub(crate) fn reader(&self, choice: &'static str) -> ParamReader<'_> {
        ParamReader {
            choice,
            descriptor: self,
            left: self.params.clone(),
        }
    }
}

/// Named numbers, in the form that a descriptor carries.
pub(crate) fn params<const N: usize>(params: [(&str, f64); N]) -> Params {
    params
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A choice among words, as a parameter.
pub(crate) trait Word: Copy + 'static {
    /// What the words say, for example `activation`.
    const KIND: &'static str;
    /// Every word.
    const ALL: &'static [Self];

    /// The word.
    fn word(self) -> &'static str;

    /// The parameter that says it.
    fn param(self) -> (String, f64) {
        (format!("{}-{}", Self::KIND, self.word()), 1.0)
    }
}

/// Reads the parameters of one descriptor.
pub(crate) struct ParamReader<'a> {
    choice: &'static str,
    descriptor: &'a ChoiceDescriptor,
    left: Params,
}

impl ParamReader<'_> {
    /// The number under `name`.
    pub(crate) fn number(&mut self, name: &str) -> Result<f64, ConfigError> {
        match self.left.remove(name) {
            Some(value) if value.is_finite() => Ok(value),
            _ => Err(self.refusal()),
        }
    }

    /// The number under `name`, as it was before it became an `f64`.
    pub(crate) fn float(&mut self, name: &str) -> Result<f32, ConfigError> {
        Ok(self.number(name)? as f32)
    }

    /// The number under `name`, if it is there.
    pub(crate) fn optional_float(&mut self, name: &str) -> Result<Option<f32>, ConfigError> {
        if self.left.contains_key(name) {
            return self.float(name).map(Some);
        }
        Ok(None)
    }

    /// The count under `name`.
    pub(crate) fn count(&mut self, name: &str) -> Result<usize, ConfigError> {
        let value = self.number(name)?;
        if value < 0.0 || value.fract() != 0.0 || value > 2f64.powi(53) {
            return Err(self.refusal());
        }
        Ok(value as usize)
    }

    /// The one word of its kind that is set.
    pub(crate) fn word<W: Word>(&mut self) -> Result<W, ConfigError> {
        let mut found = None;
        for &word in W::ALL {
            if let Some(value) = self.left.remove(&word.param().0) {
                if value != 1.0 || found.is_some() {
                    return Err(self.refusal());
                }
                found = Some(word);
            }
        }
        found.ok_or_else(|| self.refusal())
    }

    /// `Ok` when every parameter was taken.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.refusal())
    }

    fn refusal(&self) -> ConfigError {
        ConfigError::Params {
            choice: self.choice,
            name: self.descriptor.name.clone(),
            params: format!("{:?}", self.descriptor.params),
        }
    }
}
