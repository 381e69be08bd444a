//! The first 64 bytes of every file: whose it is, and who can read it.

use super::dir_kind::DirKind;
use super::error::{OpenError, Unreadable};
use super::storage::{Blob, read_full};
use super::varint::{take_array, take_u32, take_u64};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How long a file header is.
pub(crate) const LENGTH: usize = 64;

/// The text file conversions of old (CR LF, a set high bit) break it, as in PNG.
const MAGIC: [u8; 8] = *b"\x89hbox\r\n\x1A";

/// The version of the format that this code writes, and the newest that it reads.
pub(crate) const FORMAT: u16 = 1;

/// A log with this bit may say that all there was is gone ([`Clear`](super::frame::Kind::Clear)),
/// which versions that do not know the bit would take for damage.
pub(crate) const CLEARS: u32 = 1;

/// The feature bits that this code knows. A file with others is not read.
const FEATURES: u32 = CLEARS;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest = 1,
    Log = 2,
    Snapshot = 3,
}

/// Whose files these are: drawn once when the store is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub(crate) u128);

impl StoreId {
    pub(crate) fn random() -> Self {
        Self(u128::from(crate::random::number()) << 64 | u128::from(crate::random::number()))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which codec wrote the keys and values: four letters, so that an error can say them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(pub [u8; 4]);

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) kind: Kind,
    /// What a reader has to know of to read the file.
    pub(crate) features: u32,
    pub(crate) store: StoreId,
    /// The number in the file's name; of a manifest, how often it was written.
    pub(crate) generation: u64,
    pub(crate) codec: CodecId,
    pub(crate) schema: u32,
    /// Goes into every checksum of the file, so that a frame of another file is none of this one.
    pub(crate) salt: u32,
    /// What the directory was kept for when the file was made. Versions that know of no kinds wrote
    /// zeros here, and do not look at it.
    pub(crate) dir_kind: Option<DirKind>,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.kind as u16).to_le_bytes());
        bytes.extend_from_slice(&self.features.to_le_bytes());
        bytes.extend_from_slice(&self.store.0.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.codec.0);
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&DirKind::code(self.dir_kind).to_le_bytes());
        let mut header = [0; LENGTH];
        header[..bytes.len()].copy_from_slice(&bytes);
        let checksum = crc32c::crc32c(&header[..LENGTH - 4]);
        header[LENGTH - 4..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Reads the header of a file and checks all of it that needs no other file.
    pub(crate) fn read(blob: &dyn Blob, path: &Path) -> Result<Self, OpenError> {
        let mut bytes = [0; LENGTH];
        let read = read_full(blob, &mut bytes, 0).map_err(|error| Unreadable {
            file: path.to_owned(),
            bytes: 0..LENGTH as u64,
            error: Arc::new(error),
        })?;
        if read < LENGTH {
            let found = format!("{read} bytes");
            return Err(OpenError::header(path, "a file header of 64 bytes", found));
        }
        Self::decode(&bytes, path)
    }

    /// Whether a file begins with what no file of ours does, also a damaged one: with other bytes, as
    /// another program's. Nothing, zeros, and most of the mark are what is left of one.
    pub(crate) fn is_none_of_ours(blob: &dyn Blob) -> io::Result<bool> {
        let mut bytes = [0; MAGIC.len()];
        let read = read_full(blob, &mut bytes, 0)?;
        let found = &bytes[..read];
        let right = found.iter().zip(MAGIC).filter(|(is, ours)| **is == *ours);
        Ok(2 * right.count() < read && found.iter().any(|byte| *byte != 0))
    }

    fn decode(bytes: &[u8; LENGTH], path: &Path) -> Result<Self, OpenError> {
        if bytes[..8] != MAGIC {
            let found = format!("{}", bytes[..8].escape_ascii());
            return Err(OpenError::header(path, "the mark of a haybox file", found));
        }
        // Before the checksum: a newer format may keep it elsewhere.
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let checksum = crc32c::crc32c(&bytes[..LENGTH - 4]);
        let is_whole = bytes[LENGTH - 4..] == checksum.to_le_bytes();
        if version > FORMAT && is_whole {
            return Err(OpenError::NewerFormat {
                file: path.to_owned(),
                found: version,
                supported: FORMAT,
            });
        }
        if !is_whole || version == 0 {
            let found = "another checksum".to_owned();
            return Err(OpenError::header(path, "a whole file header", found));
        }
        Self::fields(bytes, path)
    }

    fn fields(bytes: &[u8; LENGTH], path: &Path) -> Result<Self, OpenError> {
        let mut rest = &bytes[10..];
        let damaged = || OpenError::header(path, "a kind of file", "another number".to_owned());
        let mut take = || {
            let kind = match u16::from_le_bytes(take_array(&mut rest)?) {
                1 => Kind::Manifest,
                2 => Kind::Log,
                3 => Kind::Snapshot,
                _ => return None,
            };
            Some(Self {
                kind,
                features: take_u32(&mut rest)?,
                store: StoreId(u128::from_le_bytes(take_array(&mut rest)?)),
                generation: take_u64(&mut rest)?,
                codec: CodecId(take_array(&mut rest)?),
                schema: take_u32(&mut rest)?,
                salt: take_u32(&mut rest)?,
                dir_kind: DirKind::of_code(u16::from_le_bytes(take_array(&mut rest)?)),
            })
        };
        let header: Self = take().ok_or_else(damaged)?;
        match header.features & !FEATURES {
            0 => Ok(header),
            bits => Err(OpenError::UnknownFeatures {
                file: path.to_owned(),
                bits,
            }),
        }
    }

    /// Fails unless the file is what its name and its place say.
    pub(crate) fn expect(&self, kind: Kind, generation: u64, path: &Path) -> Result<(), OpenError> {
        if self.kind == kind && self.generation == generation {
            return Ok(());
        }
        let found = format!("{:?} {}", self.kind, self.generation);
        let expected = format!("{kind:?} {generation}, as the name of the file says");
        Err(OpenError::header(path, expected, found))
    }
}
