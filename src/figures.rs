//! Statistics that can be listed: the fields of a struct by their names.

use std::fmt;
use std::time::Duration;

/// One of the statistics of a cache or a role, or of the health of files, by its name: what an
/// exporter needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name of the field, which does not say its unit.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// What the value counts.
    pub unit: MetricUnit,
    /// A time where there is none is 0.
    pub value: u64,
}

#[cfg(feature = "persist")]
impl Metric {
    pub(crate) fn counter(name: &'static str, value: u64) -> Self {
        Self {
            name,
            kind: MetricKind::Counter,
            unit: MetricUnit::One,
            value,
        }
    }

    pub(crate) fn gauge(name: &'static str, value: u64) -> Self {
        Self {
            kind: MetricKind::Gauge,
            ..Self::counter(name, value)
        }
    }
}

/// What a [`Metric`] is to whoever watches it. `Display` writes what Prometheus calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It counts from 0, at the start or a reset, and never goes down: its rate is what matters.
    Counter,
    /// How much there is now.
    Gauge,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        })
    }
}

/// What the value of a [`Metric`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricUnit {
    /// What its name says: calls, entries, bytes.
    One,
    /// A time, which is a `Duration` in the struct.
    Nanoseconds,
}

/// What a field of statistics is.
pub(crate) trait Figure {
    const UNIT: MetricUnit = MetricUnit::One;

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
    const UNIT: MetricUnit = MetricUnit::Nanoseconds;

    fn number(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Figure for Option<Duration> {
    const UNIT: MetricUnit = MetricUnit::Nanoseconds;

    fn number(self) -> u64 {
        self.unwrap_or_default().number()
    }
}

/// A struct of statistics, and the list of its fields, so that none is left out of the list. Counters
/// are those that do not say `[gauge]`.
macro_rules! figures {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$meaning:meta])* pub $field:ident: $type:ty $([$kind:ident])?,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$meaning])* pub $field: $type,)*
        }

        impl $name {
            /// Each field by its name, in their order, also those that later versions add. For an
            /// exporter: see [`Stats`](crate::Stats#to-export-them).
            pub fn iter(&self) -> impl Iterator<Item = $crate::Metric> + use<> {
                use $crate::figures::{Figure, Metric, kind};
                [$(Metric {
                    name: stringify!($field),
                    kind: kind!($($kind)?),
                    unit: <$type as Figure>::UNIT,
                    value: self.$field.number(),
                }),*]
                .into_iter()
            }
        }
    };
}

macro_rules! kind {
    () => {
        $crate::MetricKind::Counter
    };
    (gauge) => {
        $crate::MetricKind::Gauge
    };
}

pub(crate) use {figures, kind};
