//! One whole effect on the state, as the log and the snapshot keep it.
//!
//! An effect is never an increment, so replaying it twice does what replaying it once does. It
//! starts with one byte of kind and flags, then numbers as varints (seven bits a byte, the lowest
//! first), then the bytes themselves: a small entry without a deadline costs three bytes over its
//! key and value.

use super::made_by::MadeBy;
use super::varint::{put_number, take_bytes, take_number, take_seq, take_u64};

/// What happened to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
        meta: Meta<'a>,
    },
    /// The deadlines of an entry moved (expire, persist, idle extension).
    Deadline {
        key: &'a [u8],
        life: WallLife,
    },
    Delete {
        key: &'a [u8],
    },
    /// A tag or group was invalidated: entries with this label and an epoch below `epoch` are dead.
    Label {
        label: u64,
        epoch: u64,
    },
}

impl<'a> Effect<'a> {
    /// The key it concerns, `None` if it is many.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Effect::Put { key, .. } | Effect::Deadline { key, .. } | Effect::Delete { key } => {
                Some(key)
            }
            Effect::Label { .. } => None,
        }
    }
}

/// When an entry ends, in wall-clock milliseconds since 1970; `None` is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WallLife {
    pub(crate) hard: Option<u64>,
    pub(crate) idle: Option<u64>,
}

impl WallLife {
    /// The same, so many milliseconds before.
    pub(crate) fn sooner(self, by_ms: u64) -> Self {
        let sooner = |at: u64| at.saturating_sub(by_ms);
        Self {
            hard: self.hard.map(sooner),
            idle: self.idle.map(sooner),
        }
    }
}

/// What an entry is stored with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta<'a> {
    pub(crate) life: WallLife,
    pub(crate) weight: Option<u64>,
    pub(crate) labels: Labels<'a>,
    pub(crate) epoch: u64,
    pub(crate) heat: u8,
}

/// The labels of an entry, in memory as numbers or in a file as eight bytes each, little-endian.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Labels<'a> {
    Numbers(&'a [u64]),
    Bytes(&'a [u8]),
}

impl<'a> Labels<'a> {
    pub(crate) const NONE: Self = Labels::Numbers(&[]);

    pub(crate) fn len(&self) -> usize {
        match self {
            Labels::Numbers(numbers) => numbers.len(),
            Labels::Bytes(bytes) => bytes.len() / 8,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + 'a {
        let (numbers, bytes) = match self {
            Labels::Numbers(numbers) => (numbers, &[][..]),
            Labels::Bytes(bytes) => (&[][..], bytes),
        };
        let (words, _) = bytes.as_chunks::<8>();
        let read = words.iter().map(|word| u64::from_le_bytes(*word));
        numbers.iter().copied().chain(read)
    }
}

impl Default for Labels<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl PartialEq for Labels<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Labels<'_> {}

/// A value or a key that `Contents` cannot make sense of, and why; or that it has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable {
    pub(crate) reason: String,
    /// It makes sense, and too many keys have a hash like this one's.
    pub(crate) set_is_full: bool,
}

impl Undecodable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            set_is_full: false,
        }
    }

    pub(crate) fn set_full() -> Self {
        Self {
            reason: String::new(),
            set_is_full: true,
        }
    }
}

/// An entry that does not become bytes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unencodable {
    pub(crate) reason: String,
}

/// Bytes that are no effect, although their checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt {
    /// Where in the bytes the effect begins.
    pub(crate) offset: usize,
}

/// A growing buffer of encoded effects. What is pushed between two `clear`s is one batch: it is
/// recovered as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    bytes: Vec<u8>,
    count: u32,
    /// By which comparisons of the clocks their deadlines were made.
    pub(crate) made_by: MadeBy,
}

impl Effects {
    pub(crate) const EMPTY: Self = Self {
        bytes: Vec::new(),
        count: 0,
        made_by: MadeBy::NONE,
    };

    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Encodes an effect behind those that are there.
    pub(crate) fn push(&mut self, effect: Effect<'_>) {
        let joined = if self.count == 0 { 0 } else { flag::JOINED };
        match effect {
            Effect::Put { key, value, meta } => self.push_put(joined, key, value, &meta),
            Effect::Deadline { key, life } => self.push_deadline(joined, key, life),
            Effect::Delete { key } => {
                self.bytes.push(kind::DELETE | joined);
                self.number(key.len() as u64);
                self.bytes.extend_from_slice(key);
            }
            Effect::Label { label, epoch } => {
                self.bytes.push(kind::LABEL | joined);
                self.bytes.extend_from_slice(&label.to_le_bytes());
                self.number(epoch);
            }
        }
        self.count += 1;
    }

    fn push_put(&mut self, joined: u8, key: &[u8], value: &[u8], meta: &Meta<'_>) {
        let has_labels = !meta.labels.is_empty() || meta.epoch != 0;
        let mut first = kind::PUT | joined | flags_of(meta.life);
        first |= if meta.weight.is_some() {
            flag::WEIGHT
        } else {
            0
        };
        first |= if has_labels { flag::LABELS } else { 0 };
        first |= if meta.heat != 0 { flag::HEAT } else { 0 };
        self.bytes.push(first);
        self.number(key.len() as u64);
        self.number(value.len() as u64);
        self.life(meta.life);
        if let Some(weight) = meta.weight {
            self.number(weight);
        }
        if has_labels {
            self.number(meta.labels.len() as u64);
            self.number(meta.epoch);
        }
        if meta.heat != 0 {
            self.bytes.push(meta.heat);
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        for label in meta.labels.iter() {
            self.bytes.extend_from_slice(&label.to_le_bytes());
        }
    }

    fn push_deadline(&mut self, joined: u8, key: &[u8], life: WallLife) {
        self.bytes.push(kind::DEADLINE | joined | flags_of(life));
        self.number(key.len() as u64);
        self.life(life);
        self.bytes.extend_from_slice(key);
    }

    fn life(&mut self, life: WallLife) {
        for deadline in [life.hard, life.idle].into_iter().flatten() {
            self.number(deadline);
        }
    }

    fn number(&mut self, number: u64) {
        put_number(&mut self.bytes, number);
    }

    /// Removes all effects and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.made_by = MadeBy::NONE;
    }

    /// How many effects there are.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The effects as they are in a file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The effects as they are in a file, in parts of at most `limit` bytes and one effect.
    pub(crate) fn parts(&self, limit: usize) -> impl Iterator<Item = (u32, &[u8])> {
        let is_one = self.bytes.len() <= limit && !self.is_empty();
        let whole = is_one.then_some((self.count, &self.bytes[..]));
        let mut decoder = Decoder::new(if is_one { &[] } else { &self.bytes });
        let parts = std::iter::from_fn(move || {
            let (start, mut count) = (decoder.offset(), 0);
            while decoder.offset() - start < limit && decoder.next().is_some() {
                count += 1;
            }
            (count > 0).then(|| (count, &self.bytes[start..decoder.offset()]))
        });
        whole.into_iter().chain(parts)
    }

    pub(crate) fn iter(&self) -> Decoder<'_> {
        Decoder::new(&self.bytes)
    }
}

/// Reads effects one after the other. The first that is corrupt is the last.
#[derive(Clone, Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// How many bytes have been read.
    pub(crate) fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Whether the next effect begins a batch, and is not part of the one before.
    pub(crate) fn at_batch(&self) -> bool {
        self.rest
            .first()
            .is_none_or(|first| first & flag::JOINED == 0)
    }
}

impl<'a> Iterator for Decoder<'a> {
    type Item = Result<Effect<'a>, Corrupt>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset();
        let effect = take_effect(&mut self.rest);
        if effect.is_none() {
            self.rest = &[];
        }
        Some(effect.ok_or(Corrupt { offset }))
    }
}

#[inline]
fn take_effect<'a>(rest: &mut &'a [u8]) -> Option<Effect<'a>> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    let flags = first & !(kind::MASK | flag::JOINED);
    match first & kind::MASK {
        kind::PUT => take_put(flags, rest),
        kind::DEADLINE => take_deadline(flags, rest),
        kind::DELETE if flags == 0 => {
            let length = take_number(rest)?;
            let key = take_bytes(rest, length)?;
            Some(Effect::Delete { key })
        }
        kind::LABEL if flags == 0 => {
            let label = take_u64(rest)?;
            let epoch = take_seq(rest)?;
            Some(Effect::Label { label, epoch })
        }
        _ => None,
    }
}

#[inline]
fn take_put<'a>(flags: u8, rest: &mut &'a [u8]) -> Option<Effect<'a>> {
    let key_length = take_number(rest)?;
    let value_length = take_number(rest)?;
    let life = take_life(flags, rest)?;
    let weight = take_if(flags & flag::WEIGHT, rest)?;
    let label_count = take_if(flags & flag::LABELS, rest)?.unwrap_or(0);
    let epoch = match flags & flag::LABELS {
        0 => 0,
        _ => take_seq(rest)?,
    };
    let heat = if flags & flag::HEAT == 0 {
        0
    } else {
        take_bytes(rest, 1)?[0]
    };
    let key = take_bytes(rest, key_length)?;
    let value = take_bytes(rest, value_length)?;
    let labels = take_bytes(rest, label_count.checked_mul(8)?)?;
    let meta = Meta {
        life,
        weight,
        labels: Labels::Bytes(labels),
        epoch,
        heat,
    };
    Some(Effect::Put { key, value, meta })
}

fn take_deadline<'a>(flags: u8, rest: &mut &'a [u8]) -> Option<Effect<'a>> {
    if flags & !(flag::HARD | flag::IDLE) != 0 {
        return None;
    }
    let key_length = take_number(rest)?;
    let life = take_life(flags, rest)?;
    let key = take_bytes(rest, key_length)?;
    Some(Effect::Deadline { key, life })
}

#[inline]
fn take_life(flags: u8, rest: &mut &[u8]) -> Option<WallLife> {
    let hard = take_if(flags & flag::HARD, rest)?;
    let idle = take_if(flags & flag::IDLE, rest)?;
    Some(WallLife { hard, idle })
}

/// A number that is there if its flag is set. The outer `None` is the end of the bytes.
#[inline]
fn take_if(flag: u8, rest: &mut &[u8]) -> Option<Option<u64>> {
    if flag == 0 {
        return Some(None);
    }
    take_number(rest).map(Some)
}

fn flags_of(life: WallLife) -> u8 {
    let hard = if life.hard.is_some() { flag::HARD } else { 0 };
    let idle = if life.idle.is_some() { flag::IDLE } else { 0 };
    hard | idle
}

mod kind {
    pub(super) const MASK: u8 = 0b11;
    pub(super) const PUT: u8 = 0;
    pub(super) const DEADLINE: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const LABEL: u8 = 3;
}

mod flag {
    pub(super) const HARD: u8 = 1 << 2;
    pub(super) const IDLE: u8 = 1 << 3;
    pub(super) const WEIGHT: u8 = 1 << 4;
    /// The number of labels, and the epoch.
    pub(super) const LABELS: u8 = 1 << 5;
    pub(super) const HEAT: u8 = 1 << 6;
    /// The effect belongs to the batch of the one before.
    pub(super) const JOINED: u8 = 1 << 7;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::varint::HIGHEST;

    const FULL: Meta<'static> = Meta {
        life: WallLife {
            hard: Some(1_760_000_000_000),
            idle: Some(0),
        },
        weight: Some(u64::MAX),
        labels: Labels::Numbers(&[1, u64::MAX]),
        epoch: 300,
        heat: 3,
    };

    fn samples() -> Vec<Effect<'static>> {
        let life = WallLife {
            hard: None,
            idle: Some(u64::MAX),
        };
        vec![
            Effect::Put {
                key: b"k",
                value: b"v",
                meta: Meta::default(),
            },
            Effect::Put {
                key: b"",
                value: &[7; 300],
                meta: FULL,
            },
            Effect::Deadline { key: b"k", life },
            Effect::Deadline {
                key: b"k",
                life: WallLife::default(),
            },
            Effect::Delete { key: &[0; 128] },
            Effect::Label {
                label: u64::MAX,
                epoch: 1 << 40,
            },
        ]
    }

    fn encoded(effects: &[Effect<'_>]) -> Effects {
        let mut buffer = Effects::new();
        effects.iter().for_each(|effect| buffer.push(*effect));
        buffer
    }

    #[test]
    fn what_goes_in_comes_out() {
        let buffer = encoded(&samples());
        let read: Result<Vec<_>, _> = buffer.iter().collect();
        assert_eq!(read.unwrap(), samples());
        assert_eq!(buffer.len(), 6);
    }

    #[test]
    fn a_small_put_costs_three_bytes() {
        let put = Effect::Put {
            key: b"key",
            value: b"value",
            meta: Meta::default(),
        };
        assert_eq!(encoded(&[put]).bytes().len(), 3 + 8);
    }

    #[test]
    fn a_batch_is_seen_in_the_bytes() {
        let buffer = encoded(&samples());
        let mut decoder = buffer.iter();
        assert!(decoder.at_batch());
        decoder.next();
        assert!(!decoder.at_batch());
        assert!(decoder.by_ref().all(|effect| effect.is_ok()));
        assert!(decoder.at_batch(), "the end ends a batch");
    }

    #[test]
    fn parts_together_are_the_whole() {
        let buffer = encoded(&samples());
        for limit in 1..buffer.bytes().len() + 2 {
            let parts: Vec<_> = buffer.parts(limit).collect();
            assert_eq!(parts.iter().map(|part| part.0).sum::<u32>(), 6);
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.1).copied().collect();
            assert_eq!(bytes, buffer.bytes());
        }
        assert_eq!(buffer.parts(1).count(), 6);
        assert_eq!(buffer.parts(usize::MAX).count(), 1);
        assert_eq!(Effects::new().parts(1).count(), 0);
    }

    #[test]
    fn cut_bytes_are_corrupt_or_fewer_effects() {
        let buffer = encoded(&samples());
        for cut in 0..buffer.bytes().len() {
            let read: Vec<_> = Decoder::new(&buffer.bytes()[..cut]).collect();
            let good = read.iter().filter(|effect| effect.is_ok()).count();
            assert!(good < samples().len());
            assert!(read.len() - good <= 1, "the first corrupt one is the last");
        }
    }

    /// The next one has to be a number, too.
    #[test]
    fn an_epoch_that_no_process_reaches_is_corrupt() {
        for (epoch, is_read) in [(HIGHEST, true), (HIGHEST + 1, false), (u64::MAX, false)] {
            let meta = Meta {
                labels: Labels::Bytes(&[7; 8]),
                epoch,
                ..Meta::default()
            };
            let (key, value) = (&b"key"[..], &b"value"[..]);
            let put = Effect::Put { key, value, meta };
            for effect in [put, Effect::Label { label: 7, epoch }] {
                let encoded = encoded(&[effect]);
                assert_eq!(encoded.iter().all(|read| read.is_ok()), is_read, "{epoch}");
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        for seed in 0..20_000u64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
            let taken: usize = Decoder::new(&bytes)
                .map(|effect| usize::from(effect.is_ok()))
                .sum();
            assert!(taken <= bytes.len());
        }
    }
}
