//! A frame: what is written in one go, or not at all.
//!
//! Its header has a checksum of its own, so that its length can be trusted before the payload is
//! read, and after damage the headers that follow still say how far the log was proven on disk.

use super::header;
use super::storage::Blob;
use super::varint::{HIGHEST, take_array, take_u32, take_u64};
use super::window::{Gap, Window};
use std::io;
use std::sync::Arc;

/// How long the header of a frame is.
pub(crate) const HEADER: usize = 48;

/// The largest payload of a frame, unless one batch is larger.
pub(crate) const PAYLOAD: usize = 256 << 10;

/// The largest batch: its length has to fit.
pub(crate) const LARGEST: usize = 1 << 30;

const MAGIC: u32 = 0x4D52_4668; // "hFRM"

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Effects, in a log.
    Batch = 1,
    /// No effects: how far the log is proven on disk.
    Mark = 2,
    /// The start of a snapshot, or effects in it.
    Snapshot = 3,
    /// The end of a snapshot: all of it is there.
    End = 4,
    /// What the manifest says.
    Manifest = 5,
    /// In a log that [`CLEARS`](header::CLEARS): every entry there was is gone. It has no payload, and a
    /// number as an effect has.
    Clear = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) count: u32,
    /// In a log the number of the first effect, or of the next where there is none; in a snapshot
    /// the number of the frame.
    pub(crate) first: u64,
    /// How far the log was proven on disk when this was written.
    pub(crate) durable: u64,
    pub(crate) wall_ms: u64,
    payload_checksum: u32,
}

impl FrameHeader {
    /// The number of the last effect, or of the one before where there is none.
    pub(crate) fn last(&self) -> u64 {
        self.first
            .saturating_add(u64::from(self.count))
            .saturating_sub(1)
    }

    pub(crate) fn end_of(&self, offset: u64) -> u64 {
        offset + HEADER as u64 + u64::from(self.length)
    }

    fn encode(&self, salt: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.wall_ms.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = crc32c::crc32c_append(salt, &bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], salt: u32) -> Result<Self, &'static str> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or("the end of the file")?;
        if bytes[..4] != MAGIC.to_le_bytes() {
            return Err(match bytes {
                [0, ..] if bytes.iter().all(|byte| *byte == 0) => "zeros",
                _ => "no mark of a frame",
            });
        }
        if bytes[44..] != crc32c::crc32c_append(salt, &bytes[..44]).to_le_bytes() {
            return Err("another checksum of the frame's header");
        }
        let header = Self::fields(bytes).ok_or("an unknown kind of frame")?;
        if header.first.max(header.durable) > HIGHEST {
            return Err("a number that no log reaches");
        }
        Ok(header)
    }

    fn fields(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut rest = &bytes[4..];
        let kind = match u32::from_le_bytes(take_array(&mut rest)?) {
            1 => Kind::Batch,
            2 => Kind::Mark,
            3 => Kind::Snapshot,
            4 => Kind::End,
            5 => Kind::Manifest,
            6 => Kind::Clear,
            _ => return None,
        };
        Some(Self {
            kind,
            length: take_u32(&mut rest)?,
            count: take_u32(&mut rest)?,
            first: take_u64(&mut rest)?,
            durable: take_u64(&mut rest)?,
            wall_ms: take_u64(&mut rest)?,
            payload_checksum: take_u32(&mut rest)?,
        })
    }
}

/// What a frame is to say besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) first: u64,
    pub(crate) durable: u64,
    pub(crate) wall_ms: u64,
}

/// Fills in the header of a frame whose payload is in place behind [`HEADER`] free bytes.
pub(crate) fn seal(frame: &mut [u8], stamp: Stamp, salt: u32) {
    let (head, payload) = frame.split_at_mut(HEADER);
    let header = FrameHeader {
        kind: stamp.kind,
        // Cut short it would make what follows unreadable, too.
        length: u32::try_from(payload.len()).expect("no entry is larger than a batch may be"),
        count: stamp.count,
        first: stamp.first,
        durable: stamp.durable,
        wall_ms: stamp.wall_ms,
        payload_checksum: crc32c::crc32c_append(salt, payload),
    };
    head.copy_from_slice(&header.encode(salt));
}

/// A whole frame around a payload.
pub(crate) fn framed(payload: &[u8], stamp: Stamp, salt: u32) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend_from_slice(payload);
    seal(&mut frame, stamp, salt);
    frame
}

/// A frame that was read, and is whole.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.header.end_of(self.offset)
    }
}

/// Why there is no frame where one was expected.
#[derive(Debug)]
pub(crate) enum Unread {
    Disk(Gap),
    Broken { expected: String, found: String },
}

impl Unread {
    pub(crate) fn broken(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Broken {
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl From<Gap> for Unread {
    fn from(gap: Gap) -> Self {
        Self::Disk(gap)
    }
}

/// Reads the frames of a file one after the other.
#[derive(Debug)]
pub(crate) struct FrameReader {
    window: Window,
    salt: u32,
    /// Where the next frame begins.
    offset: u64,
}

impl FrameReader {
    /// Begins behind the header of the file.
    pub(crate) fn new(blob: Arc<dyn Blob>, salt: u32) -> io::Result<Self> {
        Ok(Self {
            window: Window::new(blob)?,
            salt,
            offset: header::LENGTH as u64,
        })
    }

    /// As [`new`](Self::new). A frame of which something cannot be read is broken, and no reason to
    /// read no further.
    pub(crate) fn around_gaps(blob: Arc<dyn Blob>, salt: u32) -> io::Result<Self> {
        let mut reader = Self::new(blob, salt)?;
        reader.window.read_around();
        Ok(reader)
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn length(&self) -> u64 {
        self.window.length()
    }

    /// What could not be read so far, in the order of the file.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.window.gaps()
    }

    pub(crate) fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next frame, `None` at the end of the file. After a broken one the reader stays where
    /// that begins.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Unread> {
        if self.offset >= self.length() {
            return Ok(None);
        }
        let header = self.header_at(self.offset)?;
        let frame = self.frame_at(self.offset, header)?;
        self.offset = frame.end();
        Ok(Some(frame))
    }

    /// The next whole frame behind the offset, however much is skipped.
    pub(crate) fn next_whole(&mut self) -> Result<Option<Frame>, Gap> {
        while let Some((offset, header)) = self.next_header()? {
            match self.frame_at(offset, header) {
                Ok(frame) => {
                    self.offset = frame.end();
                    return Ok(Some(frame));
                }
                Err(Unread::Disk(gap)) => return Err(gap),
                Err(Unread::Broken { .. }) => {}
            }
        }
        Ok(None)
    }

    /// The next whole header of a frame from behind the first byte at the offset on, byte by byte.
    pub(crate) fn next_header(&mut self) -> Result<Option<(u64, FrameHeader)>, Gap> {
        let magic = MAGIC.to_le_bytes();
        while self.offset < self.length() {
            self.offset += 1;
            let (offset, salt, length) = (self.offset, self.salt, self.length());
            let bytes = self.window.bytes_from(offset, HEADER as u64)?;
            let (scanned, header) = (bytes.len() as u64, HEADER as u64);
            let found = bytes
                .windows(HEADER)
                .position(|at| at[..4] == magic && FrameHeader::decode(at, salt).is_ok());
            match found {
                Some(at) => {
                    let header = FrameHeader::decode(&bytes[at..], salt);
                    self.offset = offset + at as u64;
                    return Ok(header.ok().map(|header| (self.offset, header)));
                }
                // The last bytes may be the first of a header.
                None if scanned >= header && offset + scanned < length => {
                    self.offset = offset + scanned - header;
                }
                None => self.offset = length,
            }
        }
        Ok(None)
    }

    fn header_at(&mut self, offset: u64) -> Result<FrameHeader, Unread> {
        let (salt, expected) = (self.salt, "the header of a frame");
        let bytes = self.bytes(offset, HEADER as u64, expected)?;
        FrameHeader::decode(bytes, salt).map_err(|found| Unread::broken(expected, found))
    }

    fn frame_at(&mut self, offset: u64, header: FrameHeader) -> Result<Frame, Unread> {
        let start = offset + HEADER as u64;
        let left = self.length().saturating_sub(start);
        if u64::from(header.length) > left {
            let expected = format!("{} bytes of payload", header.length);
            return Err(Unread::broken(
                expected,
                format!("{left} to the end of the file"),
            ));
        }
        let salt = self.salt;
        let payload = self.take(start, u64::from(header.length), "the payload")?;
        if payload.len() as u64 != u64::from(header.length) {
            return Err(Unread::broken("the payload", "the end of the file"));
        }
        if crc32c::crc32c_append(salt, &payload) != header.payload_checksum {
            return Err(Unread::broken(
                "a payload with the checksum in its header",
                "another checksum",
            ));
        }
        Ok(Frame {
            offset,
            header,
            payload,
        })
    }

    fn take(&mut self, offset: u64, length: u64, what: &str) -> Result<Vec<u8>, Unread> {
        let bytes = self.window.take(offset, length)?;
        if self.window.has_gap_in(offset..offset + length) {
            return Err(Unread::broken(what, "bytes that cannot be read"));
        }
        Ok(bytes)
    }

    fn bytes(&mut self, offset: u64, length: u64, what: &str) -> Result<&[u8], Unread> {
        self.window.bytes(offset, length)?;
        if self.window.has_gap_in(offset..offset + length) {
            return Err(Unread::broken(what, "bytes that cannot be read"));
        }
        Ok(self.window.bytes(offset, length)?)
    }
}
