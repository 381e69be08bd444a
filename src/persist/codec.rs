//! How keys and values become bytes.

use rmp_serde::decode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::io::ErrorKind::UnexpectedEof;

/// How keys and values become bytes, and bytes keys and values.
///
/// The files name the codec that wrote them, and are not opened with another. For a codec of your
/// own, choose an [`id`](Self::id) of your own; that of this crate's are `MPCK`, `PCRD` and `JSON`.
///
/// What the codec is given must come back equal. What does not come back at all would keep the next
/// opening from succeeding: where [`verify_writes`](super::Persistence::verify_writes) says so, by
/// default in debug builds, every write is decoded at once, and refused if that fails, as one is
/// that does not encode ([`WriteError::Encode`](super::WriteError)); otherwise it is found at the
/// next start, when the files are read. What was decoded for that is dropped, so `Deserialize`, and
/// `Drop` of what it makes, run where `Serialize` does then: by updates, transactions and snapshots
/// under the lock of a set, where a call of a cache panics. `decode` must read all bytes, and fail
/// where some are left over.
///
/// What comes back as something else is accepted, and is that after a restart: a field with
/// `#[serde(skip)]` its default, an untagged enum the first variant that fits.
pub trait Codec: Clone + Send + Sync + 'static {
    /// What the files name the codec. Never changes.
    fn id(&self) -> [u8; 4];

    /// Appends the bytes of a value.
    ///
    /// # Errors
    /// If the value has no such form.
    fn encode<T: Serialize + ?Sized>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The value that the bytes stand for, all of them.
    ///
    /// # Errors
    /// If they stand for none, or if bytes are left over.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// Why a value does not become bytes, or bytes no value: what the format's own library says.
#[derive(Debug)]
pub struct CodecError(Box<dyn Error + Send + Sync>);

impl CodecError {
    /// An error of a format.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    fn unread(count: usize) -> Self {
        Self::new(format!(
            "{count} bytes are left over after the value: its type has changed"
        ))
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// MessagePack with the names of fields: the default.
///
/// A struct may gain fields that are `#[serde(default)]`, may lose fields, and may have its fields
/// in another order, all with no change of the schema version; values that describe themselves,
/// such as `serde_json::Value`, come back as they were. A `Vec<u8>` is written as a list of
/// numbers, of up to two bytes each, unless serde is told that it is bytes, as by the crate
/// `serde_bytes`. Of an `Option` of an `Option` or of `()`, `Some` of nothing comes back as `None`.
///
/// What is nested more than 1,023 deep is encoded and does not decode: for a type that contains
/// itself there is [`verify_writes`](super::Persistence::verify_writes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePack;

impl Codec for MessagePack {
    fn id(&self) -> [u8; 4] {
        *b"MPCK"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut serializer = rmp_serde::Serializer::new(to).with_struct_map();
        value.serialize(&mut serializer).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        // What reads a slice lends texts and bytes, where another reader copies them first.
        let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
        let value = T::deserialize(&mut decoder).map_err(CodecError::new)?;
        match bool::deserialize(&mut decoder) {
            Err(decode::Error::InvalidMarkerRead(error)) if error.kind() == UnexpectedEof => {
                Ok(value)
            }
            _ => Err(CodecError::unread(unread_of::<T>(bytes))),
        }
    }
}

/// How many bytes are left over, which that decoder does not tell.
#[cold]
fn unread_of<T: DeserializeOwned>(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let _ = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
    rest.len()
}

/// Postcard: smaller and faster than [`MessagePack`], and with no names.
///
/// Any change of a type is a new
/// [`schema_version`](super::Persistence::schema_version), an added field too. Types that
/// describe themselves (`serde_json::Value`) and some attributes of serde (`flatten`, `untagged`,
/// `skip_serializing_if`) do not work with it.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    fn id(&self) -> [u8; 4] {
        *b"PCRD"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        postcard::to_io(value, to)
            .map(drop)
            .map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        let (value, rest) = postcard::take_from_bytes(bytes).map_err(CodecError::new)?;
        match rest.len() {
            0 => Ok(value),
            count => Err(CodecError::unread(count)),
        }
    }
}

/// JSON: files that other programs and people can read, three to five times as large.
///
/// Keys and values may be anything that JSON can say: numbers that are not finite, and maps whose
/// keys are not text, are none of it. Of an `Option` of an `Option` or of `()`, `Some` of
/// nothing comes back as `None`.
///
/// A number that is not finite is encoded, as `null`, and does not decode, nor does what is nested
/// more than 127 deep: where such values may come, there is
/// [`verify_writes`](super::Persistence::verify_writes).
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    fn id(&self) -> [u8; 4] {
        *b"JSON"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(to, value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        // Says where bytes are left over by itself.
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        owner: String,
        items: Vec<(u32, u16)>,
    }

    fn check<C: Codec>(codec: C) {
        let cart = Cart {
            owner: "ada".into(),
            items: vec![(7, 2), (9, 1)],
        };
        let mut bytes = b"before".to_vec();
        codec.encode(&cart, &mut bytes).unwrap();
        let bytes = bytes.split_off(6);
        assert_eq!(codec.decode::<Cart>(&bytes).unwrap(), cart);
        for end in 0..bytes.len() {
            assert!(codec.decode::<Cart>(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &bytes[..]].concat();
        let error = codec.decode::<Cart>(&longer).unwrap_err();
        assert!(!error.to_string().is_empty());
    }

    #[test]
    fn a_value_comes_back_equal_and_only_from_all_of_its_bytes() {
        check(MessagePack);
        #[cfg(feature = "postcard")]
        check(Postcard);
        #[cfg(feature = "json")]
        check(Json);
    }

    /// Whether its bytes were lent.
    #[derive(Debug, PartialEq)]
    struct Lent(bool);

    impl<'de> Deserialize<'de> for Lent {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Lent;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a text")
                }
                fn visit_str<E>(self, _: &str) -> Result<Lent, E> {
                    Ok(Lent(false))
                }
                fn visit_borrowed_str<E>(self, _: &'de str) -> Result<Lent, E> {
                    Ok(Lent(true))
                }
            }
            from.deserialize_str(Visitor)
        }
    }

    #[test]
    fn message_pack_copies_no_text_before_it_is_decoded_and_counts_what_is_left_over() {
        let mut bytes = Vec::new();
        MessagePack.encode("plum", &mut bytes).unwrap();
        assert_eq!(MessagePack.decode::<Lent>(&bytes).unwrap(), Lent(true));
        for left in 1..4 {
            // The first alone would be a number, the beginning of a text, and no marker.
            bytes.push([7, 0xd9, 0xc1][left - 1]);
            let error = MessagePack.decode::<String>(&bytes).unwrap_err();
            let said = format!("{left} bytes are left over");
            assert!(error.to_string().starts_with(&said), "{error}");
        }
        let nothing = MessagePack.decode::<Option<String>>(&[0xc0]).unwrap();
        assert_eq!(nothing, None);
        assert!(MessagePack.decode::<Option<String>>(&[0xc0, 0xc0]).is_err());
    }

    #[test]
    fn a_struct_may_gain_fields_that_have_a_default_and_lose_others() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Newer {
            #[serde(default)]
            coupon: Option<String>,
            owner: String,
        }
        let mut bytes = Vec::new();
        let cart = Cart {
            owner: "ada".into(),
            items: vec![(7, 2)],
        };
        MessagePack.encode(&cart, &mut bytes).unwrap();
        let newer: Newer = MessagePack.decode(&bytes).unwrap();
        assert_eq!((newer.owner.as_str(), newer.coupon), ("ada", None));
    }
}
