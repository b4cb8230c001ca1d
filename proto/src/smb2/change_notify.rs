//! CHANGE_NOTIFY (MS-SMB2 2.2.35, 2.2.36) and the entries it answers with (MS-FSCC 2.7.1).

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use super::body::fixed_part;
pub use super::buffer_response::BufferResponse as ChangeNotifyResponse;
use super::ids::{FileId, FileIdWire};
use super::info::list::{EntryList, ListWriter};
use crate::wire::{Reader, WireError, length_u32};

bitflags! {
    /// MS-SMB2 2.2.35, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ChangeNotifyFlags: u16 {
        const WATCH_TREE = 0x1;
    }

    /// MS-SMB2 2.2.35, CompletionFilter.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct CompletionFilter: u32 {
        const FILE_NAME = 0x001;
        const DIR_NAME = 0x002;
        const ATTRIBUTES = 0x004;
        const SIZE = 0x008;
        const LAST_WRITE = 0x010;
        const LAST_ACCESS = 0x020;
        const CREATION = 0x040;
        const EA = 0x080;
        const SECURITY = 0x100;
        const STREAM_NAME = 0x200;
        const STREAM_SIZE = 0x400;
        const STREAM_WRITE = 0x800;
    }
}

wire_enum! {
    /// MS-FSCC 2.7.1, Action.
    pub enum NotifyAction: u32 {
        Added = 1,
        Removed = 2,
        Modified = 3,
        RenamedOldName = 4,
        RenamedNewName = 5,
        AddedStream = 6,
        RemovedStream = 7,
        ModifiedStream = 8,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeNotifyRequest {
    pub flags: ChangeNotifyFlags,
    pub output_buffer_length: u32,
    pub file_id: FileId,
    pub completion_filter: CompletionFilter,
}

/// FILE_NOTIFY_INFORMATION (MS-FSCC 2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyEntry<'a> {
    pub action: u32,
    /// UTF-16LE, relative to the watched directory.
    pub name: &'a [u8],
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        flags: U16,
        output_buffer_length: U32,
        file_id: FileIdWire,
        completion_filter: U32,
        reserved: U32,
    }
}

impl ChangeNotifyRequest {
    pub fn decode(element: &[u8]) -> Result<Self, WireError> {
        let (wire, _) = fixed_part::<RequestWire>(element, 32)?;
        Ok(Self {
            flags: ChangeNotifyFlags::from_bits_retain(wire.flags.get()),
            output_buffer_length: wire.output_buffer_length.get(),
            file_id: wire.file_id.into(),
            completion_filter: CompletionFilter::from_bits_retain(wire.completion_filter.get()),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 32.into(),
            flags: self.flags.bits().into(),
            output_buffer_length: self.output_buffer_length.into(),
            file_id: self.file_id.into(),
            completion_filter: self.completion_filter.bits().into(),
            reserved: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

impl<'a> NotifyEntry<'a> {
    /// Adds the entry to a list, which is 4-aligned for this class.
    pub fn write(&self, list: &mut ListWriter<'_>) -> bool {
        list.push(|out| {
            out.extend(self.action.to_le_bytes());
            out.extend(length_u32(self.name.len()).to_le_bytes());
            out.extend_from_slice(self.name);
        })
    }

    /// Walks the output of a response.
    pub fn iter(output: &'a [u8]) -> impl Iterator<Item = Result<Self, WireError>> {
        EntryList::new(output).map(|entry| {
            let entry = entry?;
            let mut reader = Reader::new(entry.bytes);
            reader.skip(4, "NextEntryOffset")?;
            let action = reader.u32("Action")?;
            let length = reader.u32("FileNameLength")?;
            Ok(Self {
                action,
                name: reader.bytes(length as usize, "FileName")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_linked_at_four_byte_boundaries() {
        let mut out = Vec::new();
        let mut list = ListWriter::new(&mut out, 4, 64);
        let added = NotifyEntry {
            action: NotifyAction::Added.into(),
            name: b"a\0",
        };
        assert!(added.write(&mut list));
        assert!(added.write(&mut list));
        #[rustfmt::skip]
        assert_eq!(out, [
            16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, b'a', 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, b'a', 0,
        ]);
        let decoded: Result<Vec<_>, _> = NotifyEntry::iter(&out).collect();
        assert_eq!(decoded, Ok(vec![added, added]));
    }
}
