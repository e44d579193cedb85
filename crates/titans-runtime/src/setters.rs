//! Methods that set one field each.
//!
//! A configuration can be read field by field, but its literal cannot be written outside this
//! crate, so that a new field breaks nobody. What stands in for the literal is a chain of these.

/// For each line `with_field => field: Type` a method that sets the field and gives the
/// configuration back. `impl Into<..>` may stand for the type.
macro_rules! setters {
    ($config:ident { $($setter:ident => $field:ident: $value:ty,)+ }) => {
        impl $config {$(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            pub fn $setter(mut self, $field: $value) -> Self {
                self.$field = $field.into();
                self
            }
        )+}
    };
}
pub(crate) use setters;
