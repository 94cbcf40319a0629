//! Names of the values of an enum, as a user writes and reads them.

use crate::error::Error;

/// Defines the names of an enum's values: `ALL`, `name`, `Display`, and `FromStr`, which refuses another name as the
/// value of an option.
macro_rules! named {
    ($type:ident, $option:literal: $($value:ident = $name:literal),*) => {
        impl $type {
            /// Every one, in this order.
            pub const ALL: [$type; [$($name),*].len()] = [$($type::$value),*];

            /// Its name, as Python has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$value => $name),*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let found = $type::ALL.into_iter().find(|value| value.name() == name);
                found.ok_or_else(|| $crate::names::unknown($option, name, "one of", &$type::ALL.map($type::name)))
            }
        }
    };
}

pub(crate) use named;

/// The error of a name that is not among those that there are.
pub fn unknown(option: &'static str, name: &str, which: &str, names: &[&str]) -> Error {
    Error::Option { option, found: format!("{name:?}"), wanted: format!("{which} {}", names.join(", ")) }
}
