//! What a caller calls a user.

use std::borrow::Cow;
use std::fmt;

use crate::number_ids::from_numbers;

/// What a program calls a user: a text, a number or a UUID. No file and no log holds it; it
/// becomes a [`ShardId`](crate::ShardId) by a hash with the key of the folder.
///
/// - A text has 1 to 1024 bytes and is taken as it is: `"alice"` and `"Alice"` are two users.
/// - A number is the same user in every type: `7_u32` and `7_u64` are one. A negative one stands
///   for its two's complement in 128 bits.
/// - A number and its digits are two users: `42_u64` is not `"42"`. So nobody who may choose a
///   name as text reaches the memory of a number.
/// - The 16 bytes of a UUID are the user of its number, `u128::from_be_bytes`. Its text is
///   another user, as every text is.
///
/// A program that has to give up one kind for another has to open the memories by the old one.
///
/// ```
/// use titans_runtime::UserId;
///
/// assert_eq!(UserId::from(7_u32), UserId::from(7_i64));
/// assert_eq!(UserId::from([0_u8; 16]), UserId::from(0_u128));
/// assert_ne!(UserId::from(42_u64), UserId::from("42"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Text(String),
    Number(u128),
}

/// Begins the bytes of a number. It is in no UTF-8, so no text has the bytes of a number.
const NUMBER: u8 = 0xff;

impl UserId {
    /// What is hashed.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Name::Text(text) => text.as_bytes().into(),
            Name::Number(number) => {
                let mut bytes = vec![NUMBER];
                bytes.extend(number.to_be_bytes());
                bytes.into()
            }
        }
    }
}

/// Without the id itself, which is in no log.
impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(..)")
    }
}

impl From<&str> for UserId {
    fn from(id: &str) -> Self {
        id.to_owned().into()
    }
}

impl From<&String> for UserId {
    fn from(id: &String) -> Self {
        id.clone().into()
    }
}

impl From<String> for UserId {
    fn from(id: String) -> Self {
        Self(Name::Text(id))
    }
}

from_numbers!(UserId, |number| UserId(Name::Number(number)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_user_in_every_type_and_never_a_text() {
        let seven = UserId::from(7_u128);
        for same in [
            UserId::from(7_u32),
            UserId::from(7_i32),
            UserId::from(7_u64),
            UserId::from(7_i64),
            UserId::from(7_usize),
            UserId::from(7_u128.to_be_bytes()),
        ] {
            assert_eq!(same.bytes(), seven.bytes());
        }
        assert_eq!(UserId::from(-1_i64), UserId::from(u128::MAX));
        assert_eq!(UserId::from(-1_i32), UserId::from(-1_i64));
        assert_eq!(*UserId::from("42").bytes(), *b"42");
        for number in [0_u128, 42, u128::MAX] {
            let id = UserId::from(number);
            assert!(std::str::from_utf8(&id.bytes()).is_err());
        }
    }

    #[test]
    fn an_id_is_not_shown() {
        assert_eq!(format!("{:?}", UserId::from("alice")), "UserId(..)");
    }
}
