//! Create contexts (MS-SMB2 2.2.13.2, 2.2.14.2): the list both ways, and typed views of those a
//! server understands. A list is walked, never collected; unknown names pass through raw.

use zerocopy::little_endian::{U16, U32};

use super::access::AccessMask;
use super::ids::{FileId, Guid};
use super::lease::LeaseContext;
use super::record::Field;
use super::status::NtStatus;
use super::time::FileTime;
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
            _ if next.is_multiple_of(8)
                && next >= size_of::<ContextWire>()
                && next < rest.len() =>
            {
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

/// The data of a request's context, as far as a server understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedContext<'a> {
    /// `ExtA` (2.2.13.2.1): a list for [`super::info::ea::FullEa::iter`].
    ExtendedAttributes(&'a [u8]),
    /// `SecD` (2.2.13.2.2): a self-relative security descriptor.
    SecurityDescriptor(&'a [u8]),
    /// `AlSi` (2.2.13.2.6).
    AllocationSize(u64),
    /// `MxAc` (2.2.13.2.5): only answered if the file changed since, where a time is given.
    MaximalAccess(Option<FileTime>),
    /// `TWrp` (2.2.13.2.7).
    Timewarp(FileTime),
    /// `QFid` (2.2.13.2.9).
    QueryOnDiskId,
    /// `RqLs` (2.2.13.2.8, 2.2.13.2.10).
    Lease(LeaseContext),
    /// `DHnQ` (2.2.13.2.3).
    Durable,
    /// `DHnC` (2.2.13.2.4).
    DurableReconnect(FileId),
    /// `DH2Q` (2.2.13.2.11).
    DurableV2(DurableV2),
    /// `DH2C` (2.2.13.2.12).
    DurableReconnectV2(DurableReconnectV2),
    /// Ignored by a server (3.3.5.9).
    Unknown,
}

records! {
    /// SMB2_CREATE_DURABLE_HANDLE_REQUEST_V2 (2.2.13.2.11).
    pub struct DurableV2 {
        timeout_ms: u32,
        /// [`DURABLE_PERSISTENT`] or 0.
        flags: u32 => 8,
        create_guid: Guid,
    }

    /// SMB2_CREATE_DURABLE_HANDLE_RECONNECT_V2 (2.2.13.2.12).
    pub struct DurableReconnectV2 {
        file_id: FileId,
        create_guid: Guid,
        /// [`DURABLE_PERSISTENT`] or 0.
        flags: u32,
    }

    /// Answer to `DH2Q` (2.2.14.2.12). The answer to `DHnQ` is eight zero bytes (2.2.14.2.3).
    pub struct DurableV2Response {
        timeout_ms: u32,
        flags: u32,
    }

    /// Answer to `MxAc` (2.2.14.2.5).
    pub struct MaximalAccessResponse {
        query_status: NtStatus,
        maximal_access: AccessMask,
    }

    /// Answer to `QFid` (2.2.14.2.9).
    pub struct OnDiskIdResponse {
        disk_file_id: u64,
        volume_id: u64 => 16,
    }
}

/// SMB2_DHANDLE_FLAG_PERSISTENT (2.2.13.2.11).
pub const DURABLE_PERSISTENT: u32 = 2;

impl<'a> CreateContext<'a> {
    /// Reads the data of a request's context by its name; a wrong length is an error.
    pub fn requested(&self) -> Result<RequestedContext<'a>, WireError> {
        Ok(match self.name {
            name::EXTENDED_ATTRIBUTES => RequestedContext::ExtendedAttributes(self.data),
            name::SECURITY_DESCRIPTOR => RequestedContext::SecurityDescriptor(self.data),
            name::ALLOCATION_SIZE => {
                RequestedContext::AllocationSize(whole(self.data, "AllocationSize")?)
            }
            name::MAXIMAL_ACCESS if self.data.is_empty() => RequestedContext::MaximalAccess(None),
            name::MAXIMAL_ACCESS => {
                RequestedContext::MaximalAccess(Some(whole(self.data, "MaximalAccess")?))
            }
            name::TIMEWARP => RequestedContext::Timewarp(whole(self.data, "Timewarp")?),
            // MS-SMB2 3.3.5.9.9: the data of this one is not looked at.
            name::QUERY_ON_DISK_ID => RequestedContext::QueryOnDiskId,
            name::LEASE => RequestedContext::Lease(LeaseContext::decode(self.data)?),
            name::DURABLE_REQUEST => {
                whole::<[u8; 16]>(self.data, "DurableRequest")?;
                RequestedContext::Durable
            }
            name::DURABLE_RECONNECT => {
                RequestedContext::DurableReconnect(whole(self.data, "DurableReconnect")?)
            }
            name::DURABLE_REQUEST_V2 => {
                RequestedContext::DurableV2(whole(self.data, "DurableRequestV2")?)
            }
            name::DURABLE_RECONNECT_V2 => {
                RequestedContext::DurableReconnectV2(whole(self.data, "DurableReconnectV2")?)
            }
            _ => RequestedContext::Unknown,
        })
    }
}

/// Reads a value that fills `data` exactly.
fn whole<T: Field>(data: &[u8], field: &'static str) -> Result<T, WireError> {
    let mut reader = Reader::new(data);
    let value = T::read(&mut reader, field)?;
    reader.finish(field)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const TWO: [u8; 56] = [
        24, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Next, Name, Reserved, Data
        b'M', b'x', b'A', b'c', 0, 0, 0, 0,
        0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 24, 0, 8, 0, 0, 0,
        b'A', b'l', b'S', b'i', 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_list_is_written_and_walked_in_order() {
        let contexts: Result<Vec<_>, _> = CreateContexts(&TWO).iter().collect();
        let contexts = contexts.unwrap();
        assert_eq!(contexts[0].name, name::MAXIMAL_ACCESS);
        assert_eq!(
            contexts
                .iter()
                .map(CreateContext::requested)
                .collect::<Vec<_>>(),
            [
                Ok(RequestedContext::MaximalAccess(None)),
                Ok(RequestedContext::AllocationSize(0x1000)),
            ]
        );
        let found = CreateContexts(&TWO).find(b"AlSi").unwrap().unwrap();
        assert_eq!(found, 0x1000_u64.to_le_bytes());
        assert_eq!(CreateContexts(&TWO).find(b"RqLs"), Ok(None));
        let mut encoded = Vec::new();
        append_contexts(&mut encoded, &contexts);
        assert_eq!(encoded, TWO);
    }

    #[test]
    fn every_truncation_of_a_list_is_an_error() {
        for length in 1..TWO.len() {
            let walked: Result<Vec<_>, _> = CreateContexts(&TWO[..length]).iter().collect();
            assert!(walked.is_err(), "length {length}");
        }
        assert_eq!(CreateContexts(&[]).iter().count(), 0);
    }

    #[test]
    fn links_and_offsets_that_leave_their_entry_are_refused() {
        // Next: not aligned, into its own fixed part, to the very end, far away.
        for next in [20_u32, 8, 56, 0xFFFF_FFF8] {
            let mut list = TWO;
            list[..4].copy_from_slice(&next.to_le_bytes());
            let first = CreateContexts(&list).iter().next().unwrap();
            assert_eq!(first, Err(WireError::new("CreateContext.Next", 0)));
        }
        // The first entry's name may not reach into the second entry, nor into the fixed part.
        for (offset, length) in [(16_u16, 9_u16), (24, 4), (0, 4), (0xFFFF, 0xFFFF)] {
            let mut list = TWO;
            list[4..6].copy_from_slice(&offset.to_le_bytes());
            list[6..8].copy_from_slice(&length.to_le_bytes());
            let first = CreateContexts(&list).iter().next().unwrap();
            assert_eq!(first.unwrap_err().field, "CreateContext.Name");
        }
        let mut list = TWO;
        list[24 + 12] = 9;
        let last = CreateContexts(&list).iter().last().unwrap();
        assert_eq!(last.unwrap_err().field, "CreateContext.Data");
    }

    #[test]
    fn context_data_of_a_wrong_length_is_refused() {
        for (name, good) in [
            (name::ALLOCATION_SIZE, 8),
            (name::TIMEWARP, 8),
            (name::DURABLE_REQUEST, 16),
            (name::DURABLE_RECONNECT, 16),
            (name::DURABLE_REQUEST_V2, 32),
            (name::DURABLE_RECONNECT_V2, 36),
        ] {
            for length in 0..64 {
                let context = CreateContext {
                    name,
                    data: &[0; 64][..length],
                };
                assert_eq!(
                    context.requested().is_ok(),
                    length == good,
                    "{name:?} {length}"
                );
            }
        }
    }

    #[test]
    fn answers_have_the_specified_layout() {
        let mut out = Vec::new();
        MaximalAccessResponse {
            query_status: NtStatus::SUCCESS,
            maximal_access: AccessMask::FILE_ALL_ACCESS,
        }
        .encode(&mut out);
        assert_eq!(out, [0, 0, 0, 0, 0xFF, 0x01, 0x1F, 0]);
        out.clear();
        OnDiskIdResponse {
            disk_file_id: 1,
            volume_id: 2,
        }
        .encode(&mut out);
        let mut golden = [0; 32];
        (golden[0], golden[8]) = (1, 2);
        assert_eq!(out, golden);
    }
}
