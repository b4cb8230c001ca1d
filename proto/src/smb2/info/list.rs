//! Lists linked by NextEntryOffset (MS-FSCC 2.4, 2.5, 2.7): every entry starts with the distance
//! to the next one, 0 in the last. One walker and one writer serve all classes of that form.

use crate::wire::{Reader, WireError, length_u32};

/// One entry, its NextEntryOffset included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub bytes: &'a [u8],
    /// Where the entry starts in the list.
    pub offset: usize,
}

/// Walks a list; ends behind the last entry or the first malformed one. Empty bytes are an empty
/// list.
#[derive(Debug, Clone)]
pub struct EntryList<'a> {
    list: &'a [u8],
    next: Option<usize>,
}

impl<'a> EntryList<'a> {
    pub const fn new(list: &'a [u8]) -> Self {
        Self {
            list,
            next: if list.is_empty() { None } else { Some(0) },
        }
    }

    fn read(&mut self, offset: usize) -> Result<Entry<'a>, WireError> {
        let rest = self.list.get(offset..).unwrap_or_default();
        let error = WireError::new("NextEntryOffset", offset);
        let next = Reader::new(rest)
            .u32("NextEntryOffset")
            .map_err(|_| error)? as usize;
        if next == 0 {
            return Ok(Entry {
                bytes: rest,
                offset,
            });
        }
        // Four bytes is the smallest step that moves on; the next entry must start inside.
        let bytes = rest.get(..next).ok_or(error)?;
        if next < 4 || next == rest.len() {
            return Err(error);
        }
        self.next = Some(offset + next);
        Ok(Entry { bytes, offset })
    }
}

impl<'a> Iterator for EntryList<'a> {
    type Item = Result<Entry<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.next.take()?;
        Some(self.read(offset))
    }
}

/// Appends entries to a buffer while they fit: aligns each, links the one before to it.
#[derive(Debug)]
pub struct ListWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    alignment: usize,
    limit: usize,
    previous: Option<usize>,
}

impl<'a> ListWriter<'a> {
    /// Alignment and limit count from what `out` holds now.
    pub fn new(out: &'a mut Vec<u8>, alignment: usize, limit: usize) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            alignment,
            limit,
            previous: None,
        }
    }

    /// Appends one entry; `fill` appends what follows NextEntryOffset. False: it did not fit and
    /// the list is as it was.
    pub fn push(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let end = self.out.len();
        let begin = self.start + (end - self.start).next_multiple_of(self.alignment);
        self.out.resize(begin, 0);
        self.out.extend_from_slice(&[0; 4]);
        fill(self.out);
        if self.out.len() - self.start > self.limit {
            self.out.truncate(end);
            return false;
        }
        if let Some(previous) = self.previous {
            let distance = length_u32(begin - previous).to_le_bytes();
            self.out[previous..previous + 4].copy_from_slice(&distance);
        }
        self.previous = Some(begin);
        true
    }

    pub const fn is_empty(&self) -> bool {
        self.previous.is_none()
    }

    /// Bytes the list has so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_does_not_fit_leaves_the_list_as_it_was() {
        let mut out = vec![0xEE];
        let mut list = ListWriter::new(&mut out, 8, 20);
        assert!(list.is_empty());
        assert!(list.push(|out| out.push(1)));
        assert!(list.push(|out| out.extend([2; 8])));
        assert!(!list.push(|out| out.push(3)));
        assert_eq!(list.len(), 20);
        #[rustfmt::skip]
        assert_eq!(out, [
            0xEE, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2,
        ]);
        let entries: Vec<_> = EntryList::new(&out[1..]).map(Result::unwrap).collect();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].offset, entries[1].bytes.len()), (8, 12));
    }

    #[test]
    fn links_that_point_nowhere_are_refused() {
        for next in [1_u32, 3, 16, 17, u32::MAX] {
            let mut list = vec![0; 16];
            list[..4].copy_from_slice(&next.to_le_bytes());
            let results: Vec<_> = EntryList::new(&list).collect();
            assert_eq!(results, [Err(WireError::new("NextEntryOffset", 0))]);
        }
        assert_eq!(EntryList::new(&[]).count(), 0);
        assert!(EntryList::new(&[0; 3]).next().unwrap().is_err());
    }
}
