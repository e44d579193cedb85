//! How the types of a configuration are written for people, and read back.

use std::path::PathBuf;
use std::time::Duration;

use titans_core::{ComputeDevice, Products};
use titans_store::{DeltaCheck, FolderMode, NetworkFolders, Precision, SaveMode};

use super::quantity::{read_bytes, read_duration, write_bytes, write_duration};
use super::value::Value;
use super::{Durability, WhenFull};
use crate::backup::BackupDriver;
use crate::watch::OnDrop;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What is accepted, in words.
    fn expected() -> String;
    /// The value, if it is one.
    fn read(value: &Value) -> Option<Self>;
    /// The value for people; `None` for one that cannot be written.
    fn write(&self) -> Option<Value>;
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

impl Setting for Bytes {
    fn expected() -> String {
        "bytes, as a whole number or with a unit: \"4GiB\" (KiB, MiB, GiB, TiB)".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(number) => u64::try_from(*number).ok().map(Self),
            Value::Text(text) => read_bytes(text).map(Self),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(match write_bytes(self.0) {
            Some(text) => Value::Text(text),
            None => Value::Whole(self.0.into()),
        })
    }
}

impl Setting for Duration {
    fn expected() -> String {
        "a whole number with a unit: \"5s\" (ns, us, ms, s, m, h, d)".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        read_duration(text(value)?)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Text(write_duration(*self)))
    }
}

/// A text may stand for a number, because the environment has nothing else and TOML has no
/// larger ones than 2^63.
fn whole<T: TryFrom<i128>>(value: &Value) -> Option<T> {
    let number = match value {
        Value::Whole(number) => *number,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    };
    T::try_from(number).ok()
}

/// A finite number.
pub(super) fn finite(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Whole(number) => *number as f64,
        Value::Number(number) => *number,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The shortest number that is this one in 32 bits: 0.8, not 0.800000011920929.
pub(super) fn shortest(number: f32) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Value::Whole(number as i128);
    }
    let exact = f64::from(number);
    let short = number.to_string().parse().unwrap_or(exact);
    Value::Number(if short as f32 == number { short } else { exact })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

impl Setting for usize {
    fn expected() -> String {
        "a whole number".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        whole(value)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Whole(*self as i128))
    }
}

impl Setting for u64 {
    fn expected() -> String {
        "a whole number below 2^64".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        whole(value)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Whole((*self).into()))
    }
}

impl Setting for f32 {
    fn expected() -> String {
        "a finite number".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        let number = finite(value)? as f32;
        number.is_finite().then_some(number)
    }

    fn write(&self) -> Option<Value> {
        self.is_finite().then(|| shortest(*self))
    }
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(*flag),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Flag(*self))
    }
}

/// What the library finds out by itself unless it is told.
const AUTO: &str = "auto";

impl Setting for Option<usize> {
    fn expected() -> String {
        format!("a whole number or {AUTO:?}")
    }

    fn read(value: &Value) -> Option<Self> {
        match text(value) {
            Some(AUTO) => Some(None),
            _ => whole(value).map(Some),
        }
    }

    fn write(&self) -> Option<Value> {
        match self {
            Some(number) => number.write(),
            None => Some(Value::from(AUTO)),
        }
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "a path in UTF-8".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        text(value).filter(|path| !path.is_empty()).map(Self::from)
    }

    fn write(&self) -> Option<Value> {
        self.to_str().map(Value::from)
    }
}

impl Setting for ComputeDevice {
    fn expected() -> String {
        "auto, cpu, cuda, cuda:N or wgpu".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        text(value)?.parse().ok()
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

impl Setting for Vec<ComputeDevice> {
    fn expected() -> String {
        format!("a list of devices: {}", ComputeDevice::expected())
    }

    /// A list, or one text with commas, as the environment has it.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(values) => values.iter().map(ComputeDevice::read).collect(),
            Value::Text(text) if text.trim().is_empty() => Some(Self::new()),
            Value::Text(text) => text
                .split(',')
                .map(|name| name.trim().parse().ok())
                .collect(),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        let devices = self.iter().map(ComputeDevice::write);
        devices.collect::<Option<_>>().map(Value::List)
    }
}

/// Types with a word for each value.
macro_rules! words {
    ($($type:ty { $($word:literal => $value:expr,)+ })+) => {$(
        impl Setting for $type {
            fn expected() -> String {
                format!("one of {}", [$($word),+].join(", "))
            }

            fn read(value: &Value) -> Option<Self> {
                match text(value)? {
                    $($word => Some($value),)+
                    _ => None,
                }
            }

            fn write(&self) -> Option<Value> {
                let words = [$(($word, $value)),+];
                let word = words.iter().find(|(_, value)| value == self);
                word.map(|(word, _)| Value::from(*word))
            }
        }
    )+};
}

words! {
    Products { "f32" => Self::F32, "bf16" => Self::Bf16, "f16" => Self::F16, }
    WhenFull { "block" => Self::Block, "busy" => Self::Busy, }
    OnDrop { "alert" => Self::Alert, "roll-back" => Self::RollBack, }
    Precision {
        "exact" => Self::Exact,
        "exact-weights" => Self::ExactWeights,
        "compact" => Self::Compact,
    }
    DeltaCheck { "trust" => Self::Trust, "compare" => Self::Compare, }
    NetworkFolders { "refuse" => Self::Refuse, "accept" => Self::Accept, }
    FolderMode { "owner-only" => Self::OwnerOnly, "group" => Self::Group, }
}

impl Setting for Durability {
    fn expected() -> String {
        "\"every-chunk\", \"async:4\" (chunks) or \"interval:5s\"".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match text(value)?.split_once(':') {
            None => (text(value)? == "every-chunk").then_some(Self::EveryChunk),
            Some(("async", lag)) => lag.parse().ok().map(|max_lag| Self::Async { max_lag }),
            Some(("interval", pause)) => read_duration(pause).map(Self::Interval),
            Some(_) => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Text(match self {
            Self::EveryChunk => "every-chunk".to_owned(),
            Self::Async { max_lag } => format!("async:{max_lag}"),
            Self::Interval(pause) => format!("interval:{}", write_duration(*pause)),
        }))
    }
}

impl Setting for BackupDriver {
    fn expected() -> String {
        "\"program\" or \"thread:5m\" (time between two looks)".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match text(value)?.split_once(':') {
            None => (text(value)? == "program").then_some(Self::Program),
            Some(("thread", pause)) => {
                read_duration(pause).map(|look_every| Self::Thread { look_every })
            }
            Some(_) => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Text(match self {
            Self::Program => "program".to_owned(),
            Self::Thread { look_every } => format!("thread:{}", write_duration(*look_every)),
        }))
    }
}

impl Setting for SaveMode {
    fn expected() -> String {
        "\"by-size:8MiB\", \"snapshot\" or \"journal\"".to_owned()
    }

    fn read(value: &Value) -> Option<Self> {
        match text(value)? {
            "snapshot" => Some(Self::Snapshot),
            "journal" => Some(Self::Journal),
            other => {
                let journal_above = read_bytes(other.strip_prefix("by-size:")?)?;
                Some(Self::BySize { journal_above })
            }
        }
    }

    fn write(&self) -> Option<Value> {
        Some(match self {
            Self::BySize { journal_above } => {
                let bytes = write_bytes(*journal_above).unwrap_or(journal_above.to_string());
                Value::Text(format!("by-size:{bytes}"))
            }
            Self::Snapshot => Value::from("snapshot"),
            Self::Journal => Value::from("journal"),
            _ => return None,
        })
    }
}
