//! NDR 2.0 (C706 chapter 14), as much as srvsvc and wkssvc need: 32-bit integers, unique pointers,
//! conformant varying strings of UTF-16. Alignment counts from the beginning of the stub.

use crate::smb2::utf16;
use crate::wire::{Reader, WireError, length_u32};

/// Unmarshals a stub. As `wire::Reader`, it never indexes; a count is never trusted beyond the
/// bytes that are there.
#[derive(Debug, Clone)]
pub struct NdrReader<'a> {
    reader: Reader<'a>,
}

impl<'a> NdrReader<'a> {
    pub const fn new(stub: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(stub),
        }
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.align(4, field)?;
        self.reader.u32(field)
    }

    /// A unique pointer's referent: whether something follows for it.
    pub fn pointer(&mut self, field: &'static str) -> Result<bool, WireError> {
        Ok(self.u32(field)? != 0)
    }

    /// `[string] wchar_t *`: counts and characters, the terminating NUL among them.
    pub fn string(&mut self, field: &'static str) -> Result<String, WireError> {
        let maximum = self.u32(field)?;
        let offset = self.u32(field)?;
        let start = self.reader.error(field);
        let actual = self.u32(field)?;
        if offset != 0 || actual > maximum {
            return Err(start);
        }
        let length = usize::try_from(u64::from(actual) * 2).map_err(|_| start)?;
        let bytes = self.reader.bytes(length, field)?;
        if bytes.is_empty() {
            return Ok(String::new());
        }
        let text = bytes.strip_suffix(&[0, 0]).ok_or(start)?;
        utf16::decode(text, field).map_err(|_| start)
    }

    /// `[unique, string] wchar_t *` as a parameter of its own: what it points to follows at once.
    pub fn unique_string(&mut self, field: &'static str) -> Result<Option<String>, WireError> {
        match self.pointer(field)? {
            true => self.string(field).map(Some),
            false => Ok(None),
        }
    }

    /// `[unique] DWORD *` as a parameter of its own.
    pub fn unique_u32(&mut self, field: &'static str) -> Result<Option<u32>, WireError> {
        match self.pointer(field)? {
            true => self.u32(field).map(Some),
            false => Ok(None),
        }
    }

    fn align(&mut self, alignment: usize, field: &'static str) -> Result<(), WireError> {
        let offset = self.reader.offset();
        self.reader
            .skip(offset.next_multiple_of(alignment) - offset, field)
    }
}

/// Marshals a stub. What pointers within a structure or an array lead to follows behind it, so
/// such strings wait until [`NdrWriter::referents`].
#[derive(Debug, Default)]
pub struct NdrWriter<'a> {
    stub: Vec<u8>,
    pointers: u32,
    waiting: Vec<&'a str>,
}

/// Referents count up from here in steps of 4: any value but 0 will do, Windows' own begin so.
const FIRST_REFERENT: u32 = 0x0002_0000;

impl<'a> NdrWriter<'a> {
    pub fn u32(&mut self, value: u32) -> &mut Self {
        let aligned = self.stub.len().next_multiple_of(4);
        self.stub.resize(aligned, 0);
        self.stub.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A unique pointer to what the caller writes where it belongs.
    pub fn pointer(&mut self) -> &mut Self {
        let referent = FIRST_REFERENT + 4 * self.pointers;
        self.pointers += 1;
        self.u32(referent)
    }

    pub fn null(&mut self) -> &mut Self {
        self.u32(0)
    }

    /// A pointer to a string, which follows at [`NdrWriter::referents`].
    pub fn string_pointer(&mut self, text: &'a str) -> &mut Self {
        self.waiting.push(text);
        self.pointer()
    }

    /// The strings pointed to so far, in order.
    pub fn referents(&mut self) -> &mut Self {
        for text in std::mem::take(&mut self.waiting) {
            self.string(text);
        }
        self
    }

    /// `[string] wchar_t *`.
    pub fn string(&mut self, text: &str) -> &mut Self {
        let count = length_u32(utf16::encoded_len(text) / 2 + 1);
        self.u32(count).u32(0).u32(count);
        utf16::append(text, &mut self.stub);
        self.stub.extend_from_slice(&[0, 0]);
        self
    }

    /// `[unique, string] wchar_t *` as a parameter of its own.
    pub fn unique_string(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.pointer().string(text),
            None => self.null(),
        }
    }

    /// `[unique] DWORD *` as a parameter of its own.
    pub fn unique_u32(&mut self, value: Option<u32>) -> &mut Self {
        match value {
            Some(value) => self.pointer().u32(value),
            None => self.null(),
        }
    }

    /// The stub; nothing may wait to be written any more.
    pub fn finish(&mut self) -> Vec<u8> {
        debug_assert!(self.waiting.is_empty(), "strings pointed to, never written");
        std::mem::take(&mut self.stub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_pointers_survive_both_ways() {
        let mut writer = NdrWriter::default();
        let stub = writer
            .unique_string(Some("\\\\höst 🦀"))
            .unique_u32(Some(7))
            .unique_string(None)
            .unique_u32(None)
            .string("")
            .finish();
        let mut reader = NdrReader::new(&stub);
        assert_eq!(
            reader.unique_string("a"),
            Ok(Some("\\\\höst 🦀".to_owned()))
        );
        assert_eq!(reader.unique_u32("b"), Ok(Some(7)));
        assert_eq!(reader.unique_string("c"), Ok(None));
        assert_eq!(reader.unique_u32("d"), Ok(None));
        assert_eq!(reader.string("e"), Ok(String::new()));
    }

    #[test]
    fn strings_within_a_structure_follow_behind_it_in_order() {
        let mut writer = NdrWriter::default();
        let stub = writer
            .string_pointer("a")
            .string_pointer("b")
            .u32(9)
            .referents()
            .finish();
        let words: Vec<u32> = stub
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let text = |letter: u8| [2, 0, 2, u32::from(letter)];
        assert_eq!(
            words,
            [&[0x20000, 0x20004, 9][..], &text(b'a'), &text(b'b')].concat()
        );
    }

    #[test]
    fn counts_that_lie_are_refused() {
        for words in [
            // More characters than the maximum, an offset, more than there is, no NUL.
            &[1u32, 0, 2, 0x0000_0061][..],
            &[2, 1, 2, 0x0000_0061],
            &[u32::MAX, 0, u32::MAX, 0],
            &[2, 0, 2, 0x0062_0061],
        ] {
            let stub: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert!(NdrReader::new(&stub).string("s").is_err(), "{words:x?}");
        }
    }
}
