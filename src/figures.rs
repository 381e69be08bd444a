//! Statistics that can be listed: the fields of a struct by their names.

use std::time::Duration;

/// What a field of statistics is.
pub(crate) trait Figure {
    fn number(self) -> u64;
}

impl Figure for u64 {
    fn number(self) -> u64 {
        self
    }
}

impl Figure for usize {
    fn number(self) -> u64 {
        self as u64
    }
}

impl Figure for Duration {
    fn number(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Figure for Option<Duration> {
    fn number(self) -> u64 {
        self.unwrap_or_default().number()
    }
}

/// A struct of statistics, and the list of its fields, so that none is left out of the list.
macro_rules! figures {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$meaning:meta])* pub $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$meaning])* pub $field: $kind,)*
        }

        impl $name {
            /// The name and the value of each field, in the order of the fields, also of those that
            /// later versions add. Times are in nanoseconds, and 0 where there is none. For an
            /// exporter: see [`Stats`](crate::Stats#to-export-them).
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                use $crate::figures::Figure;
                [$((stringify!($field), self.$field.number())),*].into_iter()
            }
        }
    };
}

pub(crate) use figures;
