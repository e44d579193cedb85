//! The table of the memory: a preset by name, and what is other than it says.

use std::collections::BTreeSet;

use titans_core::{MemoryConfig, MemoryDescriptor, Preset};

use super::article::Given;
use super::choices::{self, Choice};
use super::error::SettingsError;
use super::reader::{Reader, Source};
use super::setting::Setting;
use super::value::{Table, Value};

impl Setting for Preset {
    fn expected() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|preset| preset.name()).collect();
        format!("one of {}", names.join(", "))
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::from(self.name()))
    }
}

/// A memory as a table changes it, and the article's name for the length of a chunk.
pub(super) struct Read {
    pub(super) memory: MemoryConfig,
    pub(super) chunk_size: Option<usize>,
    /// Whether the tokens of an update were given.
    pub(super) has_update_size: bool,
}

/// Reads the table over `base`.
pub(super) fn read(mut reader: Reader, base: &MemoryConfig) -> Result<Read, SettingsError> {
    let mut memory = *base;
    if let Some(preset) = reader.read::<Preset>("preset")? {
        let preset = preset.config();
        (memory.miras, memory.update) = (preset.miras, preset.update);
    }
    let mut memory = memory.descriptor();
    if let Some(key_dim) = reader.read("key_dim")? {
        memory.key_dim = key_dim;
    }
    if let Some(value_dim) = reader.read("value_dim")? {
        memory.value_dim = value_dim;
    }
    if let Some(seed) = reader.read("seed")? {
        memory.seed = seed;
    }
    let given = Given::take(&mut reader)?;
    let mut own = BTreeSet::new();
    for choice in Choice::all() {
        if let Some(table) = reader.table(choice.key())? {
            let keys = choice.read(table, choice.of_mut(&mut memory))?;
            own.extend(keys.into_iter().map(|key| (choice.key(), key)));
        }
    }
    let source = reader.source;
    reader.finish()?;
    given.apply(source, &mut memory, &own)?;
    Ok(Read {
        memory: MemoryConfig::from_descriptor(&memory)?,
        chunk_size: given.chunk_size,
        has_update_size: own.contains(&(Choice::Update.key(), "update_size".to_owned())),
    })
}

/// The table that says a memory: the preset that is nearest, and each choice that differs from
/// it, in whole.
pub(super) fn write(memory: &MemoryConfig) -> Result<Table, SettingsError> {
    let memory = memory.descriptor();
    for choice in Choice::all() {
        let params = &choice.of(&memory).params;
        if let Some((param, &number)) = params.iter().find(|(_, number)| !number.is_finite()) {
            let name = (choice.table(), param.as_str());
            let found = Value::Number(number);
            return Err(Source::File.wrong((&name.0, name.1), &found, "a finite number"));
        }
    }
    let mut nearest = None;
    for &preset in Preset::ALL {
        let base = preset.config().descriptor();
        if Choice::all()
            .iter()
            .all(|choice| can_stand_on(*choice, &memory, &base))
        {
            let differs = |choice: &Choice| choice.of(&memory) != choice.of(&base);
            let different: Vec<_> = Choice::all().into_iter().filter(differs).collect();
            let is_nearer = |(_, other): &(Preset, Vec<Choice>)| different.len() < other.len();
            if nearest.as_ref().is_none_or(is_nearer) {
                nearest = Some((preset, different));
            }
        }
    }
    let mut table = Table::default();
    // Without a preset, everything is said.
    let different = match nearest {
        Some((preset, different)) => {
            table.insert("preset", Value::from(preset.name()));
            different
        }
        None => Choice::all().to_vec(),
    };
    table.insert("key_dim", Value::Whole(memory.key_dim as i128));
    table.insert("value_dim", Value::Whole(memory.value_dim as i128));
    table.insert("seed", Value::Whole(memory.seed.into()));
    for choice in different {
        let said = choices::write(choice.of(&memory), choice.has_name());
        table.insert(choice.key(), Value::Table(said));
    }
    Ok(table)
}

/// Whether a table can say the choice as a change of another: it can set parameters, and cannot
/// take one away.
fn can_stand_on(choice: Choice, memory: &MemoryDescriptor, base: &MemoryDescriptor) -> bool {
    let (memory, base) = (choice.of(memory), choice.of(base));
    let is_word = |param: &String| param.contains('-');
    let mut params = base.params.keys().filter(|param| !is_word(param));
    memory.name != base.name || params.all(|param| memory.params.contains_key(param))
}
