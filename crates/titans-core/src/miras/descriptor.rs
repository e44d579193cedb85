//! What a file header can say of a choice: a name and named numbers.

use std::collections::BTreeMap;

use crate::error::ConfigError;

/// Named parameters of a choice.
pub type Params = BTreeMap<String, f64>;

/// A choice by name, with its parameters: the form that `.titanmem` headers carry.
///
/// Names are lower-case ASCII and never change once released.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceDescriptor {
    /// The name, for example `l2`.
    pub name: String,
    /// Parameters by name.
    pub params: Params,
}

impl ChoiceDescriptor {
    pub(crate) fn new<const N: usize>(name: &str, params: [(&str, f64); N]) -> Self {
        Self {
            name: name.to_owned(),
            params: params
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    /// The values of exactly the parameters `names`, in that order.
    pub(crate) fn take<const N: usize>(
        &self,
        choice: &'static str,
        names: [&str; N],
    ) -> Result<[f64; N], ConfigError> {
        let fits = self.params.len() == N && names.iter().all(|n| self.params.contains_key(*n));
        if !fits || self.params.values().any(|value| !value.is_finite()) {
            return Err(ConfigError::Params {
                choice,
                name: self.name.clone(),
                params: format!("{:?}", self.params),
            });
        }
        Ok(names.map(|name| self.params[name]))
    }

    /// The error for a name that is not among `known`.
    pub(crate) fn unknown(&self, choice: &'static str, known: &[&str]) -> ConfigError {
        ConfigError::UnknownChoice {
            choice,
            name: self.name.clone(),
            known: known.join(", "),
        }
    }
}
