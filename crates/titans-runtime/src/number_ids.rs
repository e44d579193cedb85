//! Ids from numbers, for users and items alike.

/// Makes an id of every type of number, and of the 16 bytes of a UUID, by its number in 128 bits:
/// the two's complement of a negative one.
macro_rules! from_numbers {
    ($id:ty, $make:expr) => {
        $crate::number_ids::from_numbers!($id, $make, i32, i64, u32, u64, u128, usize);

        impl From<[u8; 16]> for $id {
            fn from(uuid: [u8; 16]) -> Self {
                u128::from_be_bytes(uuid).into()
            }
        }
    };
    ($id:ty, $make:expr, $($number:ty),+) => {
        $(impl From<$number> for $id {
            fn from(number: $number) -> Self {
                let make: fn(u128) -> $id = $make;
                make(number as u128)
            }
        })+
    };
}

pub(crate) use from_numbers;
