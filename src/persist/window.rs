//! What is read of a file in one go, and how a part that cannot be read is read around.
//!
//! A disk with a bad sector fails a read as a whole, though all but a few bytes of it are there. So
//! what fails is read again block by block: that says which bytes it is about, and, where they are to
//! be read around, gives the others. What is missing is zeros then, and noted, so that nothing with a
//! part of it in it is taken for whole.

use super::error::Unreadable;
use super::storage::{Blob, read_full};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How much is read in one go.
const WINDOW: u64 = 1 << 20;

/// How much is given up at least: a sector of today's disks, and what systems read in one go.
const BLOCK: u64 = 4 << 10;

/// Bytes that the system does not give.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) bytes: Range<u64>,
    pub(crate) error: Arc<io::Error>,
}

impl Gap {
    pub(crate) fn of(self, path: &Path) -> Unreadable {
        Unreadable {
            file: path.to_owned(),
            bytes: self.bytes,
            error: self.error,
        }
    }
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Window {
    blob: Arc<dyn Blob>,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
    /// What cannot be read; `None` where that ends the reading.
    gaps: Option<Gaps>,
}

impl Window {
    pub(crate) fn new(blob: Arc<dyn Blob>) -> io::Result<Self> {
        Ok(Self {
            length: blob.length()?,
            blob,
            start: 0,
            bytes: Vec::new(),
            gaps: None,
        })
    }

    /// From now on has zeros for what cannot be read.
    pub(crate) fn read_around(&mut self) {
        self.gaps.get_or_insert_default();
    }

    /// How long the file is.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How much of what was read lies behind a place in it.
    pub(crate) fn left_from(&self, offset: u64) -> Option<u64> {
        let end = self.start + self.bytes.len() as u64;
        let left = end.checked_sub(offset)?;
        (offset >= self.start).then_some(left)
    }

    /// The bytes from a place to the end of the window, or as many as are read in one go.
    pub(crate) fn bytes_from(&mut self, offset: u64, least: u64) -> Result<&[u8], Gap> {
        let left = self.left_from(offset).filter(|left| *left >= least);
        self.bytes(offset, left.unwrap_or(WINDOW))
    }

    /// The bytes at a place, fewer at the end of the file. What is allocated is bounded by the
    /// length of the file.
    pub(crate) fn bytes(&mut self, offset: u64, length: u64) -> Result<&[u8], Gap> {
        let length = length.min(self.length.saturating_sub(offset));
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length > end {
            let most = self.length - offset.min(self.length);
            self.fill(offset, length.max(WINDOW.min(most)))?;
        }
        let start = (offset - self.start) as usize;
        let end = (start + length as usize).min(self.bytes.len());
        Ok(&self.bytes[start.min(end)..end])
    }

    /// As [`bytes`](Self::bytes), for who keeps them: what is more than the window is not copied out of
    /// it, nor does that stay as large.
    pub(crate) fn take(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, Gap> {
        if length <= WINDOW {
            return Ok(self.bytes(offset, length)?.to_vec());
        }
        let most = self.length.saturating_sub(offset);
        self.fill(offset, length.min(most))?;
        Ok(std::mem::take(&mut self.bytes))
    }

    /// Whether something in a range of the file could not be read.
    pub(crate) fn has_gap_in(&self, range: Range<u64>) -> bool {
        let gaps = self.gaps.as_ref();
        gaps.is_some_and(|gaps| gaps.is_any_in(range))
    }

    /// What was read around so far, in the order of the file.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.gaps.iter().flat_map(Gaps::iter)
    }

    fn fill(&mut self, offset: u64, length: u64) -> Result<(), Gap> {
        self.start = offset;
        let Ok(room) = usize::try_from(length) else {
            self.bytes.clear();
            return Err(Gap {
                bytes: offset..offset + length,
                error: Arc::new(io::ErrorKind::OutOfMemory.into()),
            });
        };
        // What is there from the last time need not be zeroed: all of it is read, or found unreadable.
        // Nor need it be copied to where there is more room.
        if room > self.bytes.capacity() {
            self.bytes = Vec::new();
            self.bytes = vec![0; room];
        }
        self.bytes.resize(room, 0);
        match read_full(&*self.blob, &mut self.bytes, offset) {
            Ok(read) => self.bytes.truncate(read),
            Err(_) => self.fill_by_block(offset)?,
        }
        Ok(())
    }

    fn fill_by_block(&mut self, offset: u64) -> Result<(), Gap> {
        let mut filled = 0;
        while filled < self.bytes.len() {
            let at = offset + filled as u64;
            let block = (BLOCK - at % BLOCK) as usize;
            let end = self.bytes.len().min(filled + block);
            let bytes = &mut self.bytes[filled..end];
            match read_full(&*self.blob, bytes, at) {
                Ok(read) if read < bytes.len() => {
                    self.bytes.truncate(filled + read);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => {
                    bytes.fill(0);
                    self.miss(at..offset + end as u64, error)?;
                }
            }
            filled = end;
        }
        Ok(())
    }

    fn miss(&mut self, bytes: Range<u64>, error: io::Error) -> Result<(), Gap> {
        let error = Arc::new(error);
        let gap = Gap { bytes, error };
        match &mut self.gaps {
            Some(gaps) => gaps.add(gap),
            None => {
                self.bytes.clear();
                return Err(gap);
            }
        }
        Ok(())
    }
}

/// Gaps of a file, each by where it begins. What touches is one.
#[derive(Debug, Default)]
struct Gaps(BTreeMap<u64, (u64, Arc<io::Error>)>);

impl Gaps {
    fn add(&mut self, gap: Gap) {
        let Range { mut start, mut end } = gap.bytes;
        let mut error = gap.error;
        while let Some((&other, (its_end, _))) = self.0.range(..=end).next_back()
            && *its_end >= start
        {
            (start, end) = (start.min(other), end.max(*its_end));
            // What the system said first.
            error = self.0.remove(&other).map_or(error, |(_, error)| error);
        }
        self.0.insert(start, (end, error));
    }

    fn is_any_in(&self, range: Range<u64>) -> bool {
        let before_its_end = self.0.range(..range.end).next_back();
        before_its_end.is_some_and(|(_, (end, _))| *end > range.start)
    }

    fn iter(&self) -> impl Iterator<Item = Gap> {
        self.0.iter().map(|(start, (end, error))| Gap {
            bytes: *start..*end,
            error: Arc::clone(error),
        })
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_large_is_given_away_and_not_kept() {
        let all: Vec<u8> = (0..3 * WINDOW).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&all).unwrap();
        let mut window = Window::new(Arc::new(file)).unwrap();
        for (offset, length) in [
            (5, 2 * WINDOW),
            (7, 9),
            (7 + 9, WINDOW),
            (WINDOW, 9 * WINDOW),
        ] {
            let (start, end) = (offset as usize, all.len().min((offset + length) as usize));
            assert_eq!(window.take(offset, length).unwrap(), all[start..end]);
            assert!(window.bytes.capacity() <= WINDOW as usize, "{offset}");
            assert_eq!(window.bytes(offset, 3).unwrap(), &all[start..start + 3]);
        }
    }
}
