//! Settings from variables of the environment.

use super::RuntimeConfig;
use super::error::{SettingName, SettingsError};
use super::names;
use super::reader::{PREFIX, Source, nearest, variable};
use super::text::apply;
use super::value::{Table, Value};

/// Variables that begin as ours do and are no settings of a runtime: the vectors of the CPU, and
/// what tests and benches of this library read. One that ends with `_` stands for all that begin
/// so.
const OTHERS: [&str; 17] = [
    "ALL_CALLS",
    "BACKUPS",
    "BENCH_",
    "BUDGET_CASE",
    "CRASH_",
    "KILLED_",
    "KILLS",
    "LIMITED_ROOT",
    "MODEL_CASES",
    "SHAKES",
    "SIGNALLED_",
    "SIGNALS",
    "SIMD",
    "SOAK_",
    "TEST_",
    "WATCH_TRIALS",
    "WRITE_",
];

impl RuntimeConfig {
    /// This configuration with what the environment says in the place of its own settings:
    /// `TITANMEM_CHUNK_TOKENS=512`, `TITANMEM_LEDGER_MAX_BYTES=4MiB`, `TITANMEM_PRESET=delta`.
    ///
    /// A variable has the name of its table and its key; those of `[memory]` and `[runtime]` go
    /// without their table. Values are written as in [`from_toml`](Self::from_toml), without
    /// quotes.
    ///
    /// # Errors
    /// A variable that begins with `TITANMEM_` and is no setting, a value that its setting does
    /// not take.
    pub fn overridden_by_environment(self) -> Result<Self, SettingsError> {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // What is no UTF-8 is refused as what it looks like.
            Some((name, value.to_string_lossy().into_owned()))
        });
        self.overridden_by(ours)
    }

    /// [`overridden_by_environment`](Self::overridden_by_environment) with variables that are
    /// given. Those that do not begin with `TITANMEM_` are of others, and ignored.
    ///
    /// ```
    /// use titans_runtime::RuntimeConfig;
    ///
    /// let set = |name: &str, value: &str| {
    ///     RuntimeConfig::default().overridden_by([(name.to_owned(), value.to_owned())])
    /// };
    /// assert_eq!(set("TITANMEM_CHUNK_TOKENS", "512")?.chunk_tokens, 512);
    /// assert_eq!(
    ///     set("TITANMEM_CHUNK_TOKENS", "lots").unwrap_err().to_string(),
    ///     "`TITANMEM_CHUNK_TOKENS` in the environment is \"lots\", expected a whole number"
    /// );
    /// # Ok::<(), titans_runtime::SettingsError>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn overridden_by(
        self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let known: Vec<_> = names::all()
            .into_iter()
            .map(|(table, key)| (variable(&table, &key), table, key))
            .collect();
        let mut table = Table::default();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match known.iter().find(|(known, ..)| *known == name) {
                Some((_, path, key)) => table.insert_at(path, key, Value::Text(value)),
                None if is_of_others(rest) => {}
                None => {
                    let names = known.iter().map(|(known, ..)| known.as_str());
                    return Err(SettingsError::Unknown {
                        nearest: nearest(&name, names.clone())
                            .map(|near| SettingName::Variable(near.to_owned())),
                        known: names.map(str::to_owned).collect(),
                        name: SettingName::Variable(name),
                    });
                }
            }
        }
        match table.is_empty() {
            true => Ok(self),
            false => apply(table, Source::Environment, self),
        }
    }
}

fn is_of_others(name: &str) -> bool {
    OTHERS.iter().any(|other| match other.ends_with('_') {
        true => name.starts_with(other),
        false => name == *other,
    })
}
