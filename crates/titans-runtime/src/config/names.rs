//! The name of every setting.

use super::RuntimeConfig;
use super::article;
use super::choices::Choice;
use super::error::SettingsError;
use super::fields::{self, Visit};
use super::setting::Setting;
use crate::backup::BackupConfig;

/// Every setting, as its table and its key.
pub(super) fn all() -> Vec<(String, String)> {
    let mut names = Names::default();
    for key in ["preset", "key_dim", "value_dim", "seed"] {
        names.add(fields::MEMORY, key);
    }
    for key in article::NAMES {
        names.add(fields::MEMORY, key);
    }
    for choice in Choice::all() {
        let table = choice.table();
        if choice.has_name() {
            names.add(&table, "name");
        }
        for key in choice.every_key() {
            names.add(&table, &key);
        }
    }
    let mut config = RuntimeConfig::default();
    let mut backups = BackupConfig::new(".");
    let visited = [
        names.of(fields::RUNTIME, |names| fields::runtime(&mut config, names)),
        names.of(fields::LEDGER, |names| {
            fields::ledger(&mut config.ledger, names)
        }),
        names.of(fields::RECALL_WATCH, |names| {
            fields::recall_watch(&mut config.recall_watch, names)
        }),
        names.of(fields::STORE, |names| {
            fields::store(&mut config.store, names)
        }),
        names.of(fields::BACKUPS, |names| {
            fields::backups(&mut backups, names)
        }),
    ];
    debug_assert!(visited.iter().all(Result::is_ok), "listing refuses nothing");
    names.found
}

/// Lists what it visits.
#[derive(Default)]
struct Names {
    table: &'static str,
    found: Vec<(String, String)>,
}

impl Names {
    fn add(&mut self, table: &str, key: &str) {
        self.found.push((table.to_owned(), key.to_owned()));
    }

    fn of(
        &mut self,
        table: &'static str,
        visit: impl FnOnce(&mut Self) -> Result<(), SettingsError>,
    ) -> Result<(), SettingsError> {
        self.table = table;
        visit(self)
    }
}

impl Visit for Names {
    fn field<T: Setting>(&mut self, key: &'static str, _: &mut T) -> Result<(), SettingsError> {
        self.add(self.table, key);
        Ok(())
    }
}
