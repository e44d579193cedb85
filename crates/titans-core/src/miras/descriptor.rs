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
            name: &self.name,
            left: self.params.clone(),
            asked: Vec::new(),
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
    name: &'a str,
    left: Params,
    asked: Vec<&'static str>,
}

impl ParamReader<'_> {
    /// The number under `name`.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<f64, ConfigError> {
        self.asked.push(name);
        match self.left.remove(name) {
            Some(value) if value.is_finite() => Ok(value),
            Some(value) => Err(self.refusal(name, value.to_string(), "a finite number")),
            None => Err(self.refusal(name, "missing", "a number")),
        }
    }

    /// The number under `name`, as it was before it became an `f64`.
    pub(crate) fn float(&mut self, name: &'static str) -> Result<f32, ConfigError> {
        let value = self.number(name)?;
        let narrow = value as f32;
        match narrow.is_finite() {
            true => Ok(narrow),
            false => Err(self.refusal(name, value.to_string(), "a number that an f32 can hold")),
        }
    }

    /// The number under `name`, if it is there.
    pub(crate) fn optional_float(
        &mut self,
        name: &'static str,
    ) -> Result<Option<f32>, ConfigError> {
        if self.left.contains_key(name) {
            return self.float(name).map(Some);
        }
        self.asked.push(name);
        Ok(None)
    }

    /// The count under `name`.
    pub(crate) fn count(&mut self, name: &'static str) -> Result<usize, ConfigError> {
        let value = self.number(name)?;
        if value < 0.0 || value.fract() != 0.0 || value > 2f64.powi(53) {
            return Err(self.refusal(name, value.to_string(), "a whole number of at most 2^53"));
        }
        Ok(value as usize)
    }

    /// The one word of its kind that is set.
    pub(crate) fn word<W: Word>(&mut self) -> Result<W, ConfigError> {
        self.asked.push(W::KIND);
        let is_of_kind = |param: &String| {
            let word = param.strip_prefix(W::KIND);
            word.is_some_and(|word| word.starts_with('-'))
        };
        let given: Vec<String> = self
            .left
            .keys()
            .filter(|p| is_of_kind(p))
            .cloned()
            .collect();
        let set = |param: &String| self.left.get(param) == Some(&1.0);
        let word = match given.as_slice() {
            [param] if set(param) => W::ALL.iter().find(|word| word.param().0 == *param),
            _ => None,
        };
        if let Some(word) = word {
            self.left.retain(|param, _| !given.contains(param));
            return Ok(*word);
        }
        let found = match given.is_empty() {
            true => "missing".to_owned(),
            false => {
                let words = given.iter().filter_map(|param| param.split_once('-'));
                words
                    .map(|(_, word)| word)
                    .collect::<Vec<_>>()
                    .join(" and ")
            }
        };
        let words: Vec<_> = W::ALL.iter().map(|word| word.word()).collect();
        Err(self.refusal(W::KIND, found, format!("one of {}", words.join(", "))))
    }

    /// `Ok` when every parameter was taken.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let Some(param) = self.left.keys().next() else {
            return Ok(());
        };
        let expected = match self.asked.is_empty() {
            true => "no parameters".to_owned(),
            false => format!("only {}", self.asked.join(", ")),
        };
        Err(self.refusal(param, "not known", expected))
    }

    fn refusal(
        &self,
        param: &str,
        found: impl Into<Box<str>>,
        expected: impl Into<Box<str>>,
    ) -> ConfigError {
        ConfigError::Param {
            choice: self.choice,
            name: self.name.into(),
            param: param.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}
