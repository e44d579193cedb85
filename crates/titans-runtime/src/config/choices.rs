//! The choices of a memory as tables: a name, and a key for each parameter.
//!
//! A parameter of a header that says a word, such as `activation-gelu`, is the key `activation`
//! with the value `"gelu"` here.

use std::collections::BTreeMap;

use titans_core::{
    AttentionalBias, ChoiceDescriptor, LearningAlgorithm, MemoryArchitecture, MemoryDescriptor,
    Params, RetentionGate, UpdateConfig,
};

use super::error::SettingsError;
use super::fields::MEMORY;
use super::reader::{Reader, Source, unknown};
use super::setting::{finite, shortest};
use super::value::{Table, Value};

/// One of the choices that make a memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    Architecture,
    AttentionalBias,
    RetentionGate,
    LearningAlgorithm,
    Update,
}

/// What the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Number,
    Word,
}

impl Choice {
    pub(super) fn all() -> [Self; 5] {
        [
            Self::Architecture,
            Self::AttentionalBias,
            Self::RetentionGate,
            Self::LearningAlgorithm,
            Self::Update,
        ]
    }

    /// Its key in the table of the memory.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Architecture => "architecture",
            Self::AttentionalBias => "attentional_bias",
            Self::RetentionGate => "retention_gate",
            Self::LearningAlgorithm => "learning_algorithm",
            Self::Update => "update",
        }
    }

    pub(super) fn table(self) -> String {
        format!("{MEMORY}.{}", self.key())
    }

    /// Whether there is more than one of its kind.
    pub(super) fn has_name(self) -> bool {
        self != Self::Update
    }

    pub(super) fn of(self, memory: &MemoryDescriptor) -> &ChoiceDescriptor {
        match self {
            Self::Architecture => &memory.architecture,
            Self::AttentionalBias => &memory.attentional_bias,
            Self::RetentionGate => &memory.retention_gate,
            Self::LearningAlgorithm => &memory.learning_algorithm,
            Self::Update => &memory.update,
        }
    }

    pub(super) fn of_mut(self, memory: &mut MemoryDescriptor) -> &mut ChoiceDescriptor {
        match self {
            Self::Architecture => &mut memory.architecture,
            Self::AttentionalBias => &mut memory.attentional_bias,
            Self::RetentionGate => &mut memory.retention_gate,
            Self::LearningAlgorithm => &mut memory.learning_algorithm,
            Self::Update => &mut memory.update,
        }
    }

    /// What this build knows of the kind.
    fn known(self) -> Vec<ChoiceDescriptor> {
        match self {
            Self::Architecture => of_each(MemoryArchitecture::EXAMPLES, |c| c.descriptor()),
            Self::AttentionalBias => of_each(AttentionalBias::EXAMPLES, |c| c.descriptor()),
            Self::RetentionGate => of_each(RetentionGate::EXAMPLES, |c| c.descriptor()),
            Self::LearningAlgorithm => of_each(LearningAlgorithm::EXAMPLES, |c| c.descriptor()),
            Self::Update => of_each(UpdateConfig::EXAMPLES, |c| c.descriptor()),
        }
    }

    /// The names of the kind, each once.
    fn names(self) -> Vec<String> {
        let mut names: Vec<_> = self.known().into_iter().map(|known| known.name).collect();
        names.dedup();
        names
    }

    /// The keys that something of this kind takes, for one name or for all of them.
    fn keys(self, name: Option<&str>) -> BTreeMap<String, Form> {
        let known = self.known().into_iter();
        let known = known.filter(|known| name.is_none_or(|name| known.name == name));
        let params = known.flat_map(|known| known.params.into_keys());
        params
            .map(|param| match param.split_once('-') {
                Some((kind, _)) => (kind.to_owned(), Form::Word),
                None => (param, Form::Number),
            })
            .collect()
    }

    /// The keys that anything of this kind takes.
    pub(super) fn every_key(self) -> Vec<String> {
        self.keys(None).into_keys().collect()
    }

    /// Changes a choice as its table says; returns the keys that were given.
    ///
    /// A table with another name begins with no parameters, one without a name or with the same
    /// changes those that it gives.
    pub(super) fn read(
        self,
        mut reader: Reader,
        choice: &mut ChoiceDescriptor,
    ) -> Result<Vec<String>, SettingsError> {
        let (source, table) = (reader.source, self.table());
        if self.has_name()
            && let Some(value) = reader.take("name")
        {
            let names = self.names();
            let known = |name: &&String| matches!(&value, Value::Text(text) if text == *name);
            let Some(name) = names.iter().find(known) else {
                let expected = format!("one of {}", names.join(", "));
                return Err(source.wrong((&table, "name"), &value, expected));
            };
            if *name != choice.name {
                *choice = ChoiceDescriptor {
                    name: name.clone(),
                    params: Params::new(),
                };
            }
        }
        let keys = self.keys(Some(&choice.name));
        let mut given = Vec::new();
        for (key, value) in reader.rest() {
            let Some(form) = keys.get(&key) else {
                let mut known: Vec<_> = keys.into_keys().collect();
                known.extend(self.has_name().then(|| "name".to_owned()));
                return Err(unknown(source, (&table, &key), known));
            };
            set(source, (&table, &key), *form, &value, choice)?;
            given.push(key);
        }
        Ok(given)
    }
}

fn of_each<T>(examples: &[T], descriptor: fn(&T) -> ChoiceDescriptor) -> Vec<ChoiceDescriptor> {
    examples.iter().map(descriptor).collect()
}

/// Sets one parameter.
fn set(
    source: Source,
    (table, key): (&str, &str),
    form: Form,
    value: &Value,
    choice: &mut ChoiceDescriptor,
) -> Result<(), SettingsError> {
    let params = &mut choice.params;
    match (form, value, finite(value)) {
        (Form::Number, _, Some(number)) => {
            params.insert(key.to_owned(), number);
        }
        (Form::Word, Value::Text(word), _) => {
            let kind = format!("{key}-");
            params.retain(|param, _| !param.starts_with(&kind));
            params.insert(format!("{kind}{word}"), 1.0);
        }
        (Form::Number, ..) => {
            return Err(source.wrong((table, key), value, "a finite number"));
        }
        (Form::Word, ..) => return Err(source.wrong((table, key), value, "a word in quotes")),
    }
    Ok(())
}

/// The table that says a choice.
pub(super) fn write(choice: &ChoiceDescriptor, has_name: bool) -> Table {
    let mut table = Table::default();
    if has_name {
        table.insert("name", Value::from(choice.name.as_str()));
    }
    for (param, &value) in &choice.params {
        match param.split_once('-') {
            Some((kind, word)) => table.insert(kind, Value::from(word)),
            None => table.insert(param, number(value)),
        }
    }
    table
}

/// Most parameters were 32 bits wide once, and are written as such.
fn number(value: f64) -> Value {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => shortest(narrow),
        false => Value::Number(value),
    }
}
