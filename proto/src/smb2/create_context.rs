//! Create contexts (MS-SMB2 2.2.13.2, 2.2.14.2): the list both ways, and typed views of those a
//! server understands. A list is walked, never collected; unknown names pass through raw.

use zerocopy::little_endian::{U16, U32};

use crate::wire::{Reader, WireError, length_u16, length_u32, range};

/// Names of create contexts: four ASCII letters, or a GUID for the later ones.
pub mod name {
    pub const EXTENDED_ATTRIBUTES: &[u8] = b"ExtA";
    pub const SECURITY_DESCRIPTOR: &[u8] = b"SecD";
    pub const DURABLE_REQUEST: &[u8] = b"DHnQ";
    pub const DURABLE_RECONNECT: &[u8] = b"DHnC";
    pub const ALLOCATION_SIZE: &[u8] = b"AlSi";
    pub const MAXIMAL_ACCESS: &[u8] = b"MxAc";
    pub const TIMEWARP: &[u8] = b"TWrp";
    pub const QUERY_ON_DISK_ID: &[u8] = b"QFid";
    pub const LEASE: &[u8] = b"RqLs";
    pub const DURABLE_REQUEST_V2: &[u8] = b"DH2Q";
    pub const DURABLE_RECONNECT_V2: &[u8] = b"DH2C";
    pub const POSIX: &[u8] = &[
        0x93, 0xAD, 0x25, 0x50, 0x9C, 0xB4, 0x11, 0xE7, 0xB4, 0x23, 0x83, 0xDE, 0x96, 0x8B, 0xCD,
        0x7C,
    ];
    pub const APP_INSTANCE_ID: &[u8] = &[
        0x45, 0xBC, 0xA6, 0x6A, 0xEF, 0xA7, 0xF7, 0x4A, 0x90, 0x08, 0xFA, 0x46, 0x2E, 0x14, 0x4D,
        0x74,
    ];
}

/// One context as it lies in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateContext<'a> {
    pub name: &'a [u8],
    pub data: &'a [u8],
}

wire_structs! {
    struct ContextWire {
        next: U32,
        name_offset: U16,
        name_length: U16,
        reserved: U16,
        data_offset: U16,
        data_length: U32,
    }
}

/// A context list, not yet walked. Offsets in errors count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreateContexts<'a>(pub &'a [u8]);

impl<'a> CreateContexts<'a> {
    pub fn iter(&self) -> CreateContextIter<'a> {
        CreateContextIter {
            list: self.0,
            next: if self.0.is_empty() { None } else { Some(0) },
        }
    }

    /// The data of the first context of that name; an error if the list is malformed before it.
    pub fn find(&self, name: &[u8]) -> Result<Option<&'a [u8]>, WireError> {
        for context in self.iter() {
            let context = context?;
            if context.name == name {
                return Ok(Some(context.data));
            }
        }
        Ok(None)
    }
}

/// See [`CreateContexts::iter`]. Ends behind the first malformed context.
#[derive(Debug, Clone)]
pub struct CreateContextIter<'a> {
    list: &'a [u8],
    next: Option<usize>,
}

impl<'a> CreateContextIter<'a> {
    fn read(&mut self, start: usize) -> Result<CreateContext<'a>, WireError> {
        let rest = self.list.get(start..).unwrap_or_default();
        let wire = Reader::new(rest)
            .fixed::<ContextWire>("CreateContext")
            .map_err(|error| WireError::new(error.field, start))?;
        let next = wire.next.get() as usize;
        // Next names where the following context starts: 8-aligned, behind this one, inside.
        let entry = match next {
            0 => rest,
            _ if next % 8 == 0 && next >= size_of::<ContextWire>() && next < rest.len() => {
                rest.get(..next).unwrap_or_default()
            }
            _ => return Err(WireError::new("CreateContext.Next", start)),
        };
        let part = |offset: U16, length: u32, field| {
            if length != 0 && usize::from(offset.get()) < size_of::<ContextWire>() {
                return Err(WireError::new(field, start));
            }
            range(entry, offset.get().into(), length.into(), field)
                .map_err(|error| WireError::new(field, start.saturating_add(error.offset)))
        };
        let context = CreateContext {
            name: part(
                wire.name_offset,
                wire.name_length.get().into(),
                "CreateContext.Name",
            )?,
            data: part(
                wire.data_offset,
                wire.data_length.get(),
                "CreateContext.Data",
            )?,
        };
        self.next = if next == 0 { None } else { Some(start + next) };
        Ok(context)
    }
}

impl<'a> Iterator for CreateContextIter<'a> {
    type Item = Result<CreateContext<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        Some(self.read(start))
    }
}

/// Appends a context list: names of four bytes or a GUID, each entry padded to 8, Next filled.
pub(crate) fn append_contexts(out: &mut Vec<u8>, contexts: &[CreateContext<'_>]) {
    for (index, context) in contexts.iter().enumerate() {
        let start = out.len();
        let data_offset = (size_of::<ContextWire>() + context.name.len()).next_multiple_of(8);
        let end = if context.data.is_empty() {
            size_of::<ContextWire>() + context.name.len()
        } else {
            data_offset + context.data.len()
        };
        let is_last = index + 1 == contexts.len();
        let size = if is_last {
            end
        } else {
            end.next_multiple_of(8)
        };
        let wire = ContextWire {
            next: if is_last { 0 } else { length_u32(size) }.into(),
            name_offset: (size_of::<ContextWire>() as u16).into(),
            name_length: length_u16(context.name.len()).into(),
            reserved: 0.into(),
            data_offset: if context.data.is_empty() {
                0
            } else {
                length_u16(data_offset)
            }
            .into(),
            data_length: length_u32(context.data.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(context.name);
        if !context.data.is_empty() {
            out.resize(start + data_offset, 0);
            out.extend_from_slice(context.data);
        }
        out.resize(start + size, 0);
    }
}
