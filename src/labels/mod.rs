//! The tags and the group of an entry, as the store knows them: by their hashes.
//!
//! A label is 64 bits of a hash with keys that the process draws once; with the feature `persist`,
//! of one with keys that never change, since a label has to mean the same after a restart. It is
//! the process's hash and not the cache's, so that a list of tags can be made before it is known
//! which cache it is for, and so that a hasher of the user's that is made for one type of keys is
//! not given others. Two tags with one label are invalidated together: that is one pair in 2^64,
//! and costs a miss. Who can choose tags and knows the keys can find such pairs with some 2^32
//! attempts.

mod register;

pub(crate) use register::{Pass, Register};

use std::hash::{Hash, Hasher};

/// The labels of an entry, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    /// One that needs no memory of its own, or none if it is zero, which no label is.
    One(u64),
    Several(Box<[u64]>),
}

impl Labels {
    pub(crate) const NONE: Self = Self::One(0);

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::One(0))
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(0) => &[],
            Self::One(label) => std::slice::from_ref(label),
            Self::Several(labels) => labels,
        }
    }

    pub(crate) fn add(&mut self, label: u64) {
        match self {
            Self::One(0) => *self = Self::One(label),
            _ if self.as_slice().contains(&label) => {}
            _ => self.extend([label]),
        }
    }

    pub(crate) fn extend(&mut self, labels: impl IntoIterator<Item = u64>) {
        let mut all = self.as_slice().to_vec();
        all.extend(labels);
        all.sort_unstable();
        all.dedup();
        *self = match *all {
            [] => Self::NONE,
            [label] => Self::One(label),
            _ => Self::Several(all.into_boxed_slice()),
        };
    }

    /// About how many bytes the labels take up besides their place in the set.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match self {
            Self::One(_) => 0,
            // With what an allocator adds to a small block.
            Self::Several(labels) => (size_of_val::<[u64]>(labels) + 16) as u64,
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::NONE
    }
}

/// The labels that a value is to be stored with, and the epoch at which it was made: what is
/// invalidated after that concerns it.
///
/// In a box, so that a call that stores a value without labels carries one word for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) labels: Labels,
    pub(crate) epoch: u64,
}

/// The epoch of a value that is made as it is stored.
pub(crate) const NOW: u64 = u64::MAX;

impl Given {
    /// `None` where there are no labels.
    pub(crate) fn new(labels: Labels, epoch: u64) -> Option<Box<Self>> {
        (!labels.is_empty()).then(|| Box::new(Self { labels, epoch }))
    }
}

/// What a label stands for: a tag and a group of one name have nothing to do with each other.
#[derive(Clone, Copy)]
enum Kind {
    Tag,
    Group,
}

pub(crate) fn of_tag<T: Hash + ?Sized>(tag: &T) -> u64 {
    label(Kind::Tag, tag)
}

pub(crate) fn of_group<G: Hash + ?Sized>(group: &G) -> u64 {
    label(Kind::Group, group)
}

fn label<T: Hash + ?Sized>(kind: Kind, name: &T) -> u64 {
    let mut hasher = LabelHasher(hasher());
    hasher.write_u8(kind as u8);
    name.hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(not(feature = "persist"))]
type NameHasher = crate::hash::DefaultHasher;

#[cfg(not(feature = "persist"))]
fn hasher() -> NameHasher {
    use crate::hash::DefaultHashBuilder;
    use std::hash::BuildHasher;
    use std::sync::LazyLock;

    static BUILDER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    BUILDER.build_hasher()
}

#[cfg(feature = "persist")]
type NameHasher = siphasher::sip::SipHasher13;

/// Part of the format of the files: never to be changed.
#[cfg(feature = "persist")]
fn hasher() -> NameHasher {
    NameHasher::new_with_keys(0x6861_7962_6f78_206c, 0x6162_656c_2068_6173)
}

/// Hashes a number alike whatever its type, so that `invalidate_tag(&7)` finds what was tagged with
/// a `u64`. Were it not so, the mistake would show only as data that stays when it should not.
struct LabelHasher(NameHasher);

macro_rules! alike {
    ($($method:ident($type:ty)),*) => {
        impl Hasher for LabelHasher {
            fn finish(&self) -> u64 {
                self.0.finish()
            }
            fn write(&mut self, bytes: &[u8]) {
                // Told apart from numbers, or an empty text would be the number that ends it.
                self.0.write(&[1]);
                self.0.write(&(bytes.len() as u64).to_le_bytes());
                self.0.write(bytes);
            }
            $(fn $method(&mut self, number: $type) {
                // A negative number gives the same bits from every type that can hold it.
                // The same bytes on every machine, since the files may be moved.
                self.0.write(&[0]);
                self.0.write(&(number as u128).to_le_bytes());
            })*
        }
    };
}
alike!(
    write_u8(u8),
    write_u16(u16),
    write_u32(u32),
    write_u64(u64),
    write_u128(u128),
    write_usize(usize),
    write_i8(i8),
    write_i16(i16),
    write_i32(i32),
    write_i64(i64),
    write_i128(i128),
    write_isize(isize)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_tag_whatever_its_type() {
        let sevens = [
            of_tag(&7u8),
            of_tag(&7u16),
            of_tag(&7i32),
            of_tag(&7u64),
            of_tag(&7usize),
            of_tag(&7i128),
        ];
        assert!(sevens.iter().all(|label| *label == sevens[0]));
        assert_eq!(of_tag(&-7i8), of_tag(&-7i64));
        assert_ne!(of_tag(&7), of_tag(&-7));
        assert_eq!(of_tag(&(7u32, "x")), of_tag(&(7u64, "x".to_owned())));
    }

    #[test]
    fn a_name_is_the_same_tag_owned_or_not() {
        assert_eq!(of_tag("users"), of_tag(&"users"));
        assert_eq!(of_tag("users"), of_tag(&"users".to_owned()));
        assert_ne!(of_tag("users"), of_tag("user"));
        assert_ne!(of_tag("users"), of_group("users"));
        let mut numbers = (0..1_000).map(|number| of_tag(&number));
        assert!(numbers.all(|label| label != of_tag("")));
    }

    #[test]
    fn labels_are_kept_once_and_few_of_them_without_an_allocation() {
        let mut labels = Labels::default();
        assert!(labels.is_empty());
        labels.extend([]);
        assert_eq!((labels.as_slice(), labels.heap_bytes()), (&[][..], 0));
        labels.add(5);
        labels.extend([5, 5]);
        assert_eq!(labels, Labels::One(5));
        labels.add(3);
        labels.add(5);
        assert_eq!(labels.as_slice(), [3, 5]);
        assert!(!labels.is_empty());
        assert_eq!(size_of::<Labels>(), 16);
    }
}
