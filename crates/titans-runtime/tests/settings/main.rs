//! A configuration survives being written as TOML and as JSON, and what a person gets wrong is
//! told by its name and its place.
#![allow(clippy::unwrap_used)]

mod article;
mod environment;
mod round_trip;
mod wrong;

use titans_runtime::{RuntimeConfig, SettingsError};

/// A configuration as it prints itself: every field, and numbers of which each has a text of
/// its own.
fn printed(config: &RuntimeConfig) -> String {
    format!("{config:#?}")
}

fn expect_same(found: &RuntimeConfig, expected: &RuntimeConfig) {
    assert_eq!(printed(found), printed(expected));
}

fn read(text: &str) -> RuntimeConfig {
    RuntimeConfig::from_toml(text).unwrap()
}

fn refused(text: &str) -> String {
    RuntimeConfig::from_toml(text).unwrap_err().to_string()
}

fn with_variables(variables: &[(&str, &str)]) -> Result<RuntimeConfig, SettingsError> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    RuntimeConfig::default().overridden_by(variables.iter().map(owned))
}
