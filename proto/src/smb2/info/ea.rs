//! Extended attributes: FileFullEaInformation (MS-FSCC 2.4.16), which CREATE, QUERY_INFO and
//! SET_INFO carry, and the list of names a query asks for (FILE_GET_EA_INFORMATION, 2.4.16.1).

use super::list::{EntryList, ListWriter};
use crate::wire::{Reader, WireError};

/// One extended attribute. The name is bytes of the client's code page, without a terminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullEa<'a> {
    pub flags: u8,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> FullEa<'a> {
    /// The server refuses to go on without understanding this attribute.
    pub const FLAG_NEED_EA: u8 = 0x80;

    /// Whether the class has room for the attribute: 255 bytes of name, 65,535 of value. A Linux
    /// file system may hold one byte more.
    pub fn is_encodable(&self) -> bool {
        u8::try_from(self.name.len()).is_ok() && u16::try_from(self.value.len()).is_ok()
    }

    /// Adds the attribute to a list, which is 4-aligned for this class. False: the list is full or
    /// the attribute is not encodable.
    pub fn write(&self, list: &mut ListWriter<'_>) -> bool {
        let (Ok(name_length), Ok(value_length)) = (
            u8::try_from(self.name.len()),
            u16::try_from(self.value.len()),
        ) else {
            return false;
        };
        list.push(|out| {
            out.extend([self.flags, name_length]);
            out.extend(value_length.to_le_bytes());
            out.extend_from_slice(self.name);
            out.push(0);
            out.extend_from_slice(self.value);
        })
    }

    pub fn iter(list: &'a [u8]) -> impl Iterator<Item = Result<Self, WireError>> {
        EntryList::new(list).map(|entry| {
            let mut reader = Reader::new(entry?.bytes);
            reader.skip(4, "NextEntryOffset")?;
            let flags = reader.u8("Flags")?;
            let name_length = reader.u8("EaNameLength")?;
            let value_length = reader.u16("EaValueLength")?;
            let name = read_terminated(&mut reader, name_length)?;
            let value = reader.bytes(value_length.into(), "EaValue")?;
            Ok(Self { flags, name, value })
        })
    }
}

/// The names of FILE_GET_EA_INFORMATION (MS-FSCC 2.4.16.1).
pub fn requested_names(list: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    EntryList::new(list).map(|entry| {
        let mut reader = Reader::new(entry?.bytes);
        reader.skip(4, "NextEntryOffset")?;
        let length = reader.u8("EaNameLength")?;
        read_terminated(&mut reader, length)
    })
}

fn read_terminated<'a>(reader: &mut Reader<'a>, length: u8) -> Result<&'a [u8], WireError> {
    let name = reader.bytes(length.into(), "EaName")?;
    let terminator = reader.error("EaName");
    match reader.u8("EaName")? {
        0 => Ok(name),
        _ => Err(terminator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_specified_layout_and_come_back() {
        let first = FullEa {
            flags: 0,
            name: b"user.a",
            value: b"xyz",
        };
        let second = FullEa {
            flags: FullEa::FLAG_NEED_EA,
            name: b"B",
            value: b"",
        };
        let mut out = Vec::new();
        let mut list = ListWriter::new(&mut out, 4, 100);
        assert!(first.write(&mut list));
        assert!(second.write(&mut list));
        #[rustfmt::skip]
        assert_eq!(out, [
            20, 0, 0, 0, 0, 6, 3, 0, b'u', b's', b'e', b'r', b'.', b'a', 0, b'x', b'y', b'z', 0, 0,
            0, 0, 0, 0, 0x80, 1, 0, 0, b'B', 0,
        ]);
        let decoded: Result<Vec<_>, _> = FullEa::iter(&out).collect();
        assert_eq!(decoded, Ok(vec![first, second]));
        for length in 1..out.len() {
            let result: Result<Vec<_>, _> = FullEa::iter(&out[..length]).collect();
            assert!(result.is_err(), "length {length}");
        }
    }

    #[test]
    fn what_the_length_fields_cannot_hold_is_left_out() {
        let value = vec![0; 65_536];
        let mut attribute = FullEa {
            flags: 0,
            name: b"a",
            value: &value,
        };
        let mut out = Vec::new();
        let mut list = ListWriter::new(&mut out, 4, 100_000);
        assert!(!attribute.is_encodable() && !attribute.write(&mut list));
        assert!(list.is_empty());
        attribute.value = &value[1..];
        assert!(attribute.is_encodable() && attribute.write(&mut list));
        assert_eq!(list.len(), 8 + 2 + 65_535);
    }

    #[test]
    fn a_name_without_terminator_is_refused() {
        let list = [0, 0, 0, 0, 2, b'a', b'b', b'c'];
        let names: Vec<_> = requested_names(&list).collect();
        assert_eq!(names, [Err(WireError::new("EaName", 7))]);
        let list = [0, 0, 0, 0, 2, b'a', b'b', 0];
        let names: Vec<_> = requested_names(&list).collect();
        assert_eq!(names, [Ok(&b"ab"[..])]);
    }
}
