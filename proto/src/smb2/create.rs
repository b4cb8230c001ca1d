//! CREATE (MS-SMB2 2.2.13, 2.2.14). Names are raw UTF-16LE relative to the share; enumerations
//! stay raw so that a handler can answer each wrong value with its own status.

use zerocopy::little_endian::{U16, U32, U64};

use super::access::{
    AccessMask, CreateAction, CreateOptions, FileAttributes, OplockLevel, ShareAccess,
};
use super::body::{HEADER_SIZE, after_fixed, fixed_part};
use super::create_context::{CreateContext, CreateContexts, append_contexts};
use super::ids::{FileId, FileIdWire};
use super::time::FileTime;
use crate::wire::{WireError, length_u16, length_u32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    /// Raw, see [`OplockLevel`].
    pub requested_oplock_level: u8,
    /// Raw, see [`super::access::ImpersonationLevel`].
    pub impersonation_level: u32,
    pub desired_access: AccessMask,
    pub file_attributes: FileAttributes,
    pub share_access: ShareAccess,
    /// Raw, see [`super::access::CreateDisposition`].
    pub create_disposition: u32,
    pub create_options: CreateOptions,
    /// UTF-16LE, relative to the share's root, no leading backslash.
    pub name: &'a [u8],
    pub contexts: CreateContexts<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateResponse {
    pub oplock_level: OplockLevel,
    /// SMB2_CREATE_FLAG_REPARSEPOINT is 1.
    pub flags: u8,
    pub create_action: CreateAction,
    pub creation_time: FileTime,
    pub last_access_time: FileTime,
    pub last_write_time: FileTime,
    pub change_time: FileTime,
    pub allocation_size: u64,
    pub end_of_file: u64,
    pub file_attributes: FileAttributes,
    pub file_id: FileId,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        security_flags: u8,
        requested_oplock_level: u8,
        impersonation_level: U32,
        smb_create_flags: U64,
        reserved: U64,
        desired_access: U32,
        file_attributes: U32,
        share_access: U32,
        create_disposition: U32,
        create_options: U32,
        name_offset: U16,
        name_length: U16,
        contexts_offset: U32,
        contexts_length: U32,
    }

    struct ResponseWire {
        structure_size: U16,
        oplock_level: u8,
        flags: u8,
        create_action: U32,
        creation_time: U64,
        last_access_time: U64,
        last_write_time: U64,
        change_time: U64,
        allocation_size: U64,
        end_of_file: U64,
        file_attributes: U32,
        reserved2: U32,
        file_id: FileIdWire,
        contexts_offset: U32,
        contexts_length: U32,
    }
}

impl<'a> CreateRequest<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 57)?;
        let contexts =
            buffers.slice(wire.contexts_offset, wire.contexts_length, "CreateContexts")?;
        Ok(Self {
            requested_oplock_level: wire.requested_oplock_level,
            impersonation_level: wire.impersonation_level.get(),
            desired_access: AccessMask::from_bits_retain(wire.desired_access.get()),
            file_attributes: FileAttributes::from_bits_retain(wire.file_attributes.get()),
            share_access: ShareAccess::from_bits_retain(wire.share_access.get()),
            create_disposition: wire.create_disposition.get(),
            create_options: CreateOptions::from_bits_retain(wire.create_options.get()),
            name: buffers.slice(wire.name_offset, wire.name_length, "Name")?,
            contexts: CreateContexts(contexts),
        })
    }

    /// Appends the body with `contexts`; `self.contexts` is what decoding found and is not sent.
    pub fn encode(&self, contexts: &[CreateContext<'_>], out: &mut Vec<u8>) {
        let start = out.len();
        let name_offset = after_fixed::<RequestWire>();
        let name_end = usize::from(name_offset) + self.name.len();
        let mut list = Vec::new();
        append_contexts(&mut list, contexts);
        let contexts_offset = if list.is_empty() {
            0
        } else {
            name_end.next_multiple_of(8)
        };
        let wire = RequestWire {
            structure_size: 57.into(),
            security_flags: 0,
            requested_oplock_level: self.requested_oplock_level,
            impersonation_level: self.impersonation_level.into(),
            smb_create_flags: 0.into(),
            reserved: 0.into(),
            desired_access: self.desired_access.bits().into(),
            file_attributes: self.file_attributes.bits().into(),
            share_access: self.share_access.bits().into(),
            create_disposition: self.create_disposition.into(),
            create_options: self.create_options.bits().into(),
            name_offset: name_offset.into(),
            name_length: length_u16(self.name.len()).into(),
            contexts_offset: length_u32(contexts_offset).into(),
            contexts_length: length_u32(list.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(self.name);
        if list.is_empty() {
            // The buffer holds at least one byte, even for the share's root.
            out.resize((start + size_of::<RequestWire>() + 1).max(out.len()), 0);
        } else {
            out.resize(start + contexts_offset - HEADER_SIZE, 0);
            out.extend_from_slice(&list);
        }
    }
}

impl CreateResponse {
    /// The response and the contexts it carries.
    pub fn decode(element: &[u8]) -> Result<(Self, CreateContexts<'_>), WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 89)?;
        let contexts =
            buffers.slice(wire.contexts_offset, wire.contexts_length, "CreateContexts")?;
        let response = Self {
            oplock_level: OplockLevel::try_from(wire.oplock_level)
                .map_err(|_| WireError::new("OplockLevel", 66))?,
            flags: wire.flags,
            create_action: CreateAction::try_from(wire.create_action.get())
                .map_err(|_| WireError::new("CreateAction", 68))?,
            creation_time: FileTime(wire.creation_time.get()),
            last_access_time: FileTime(wire.last_access_time.get()),
            last_write_time: FileTime(wire.last_write_time.get()),
            change_time: FileTime(wire.change_time.get()),
            allocation_size: wire.allocation_size.get(),
            end_of_file: wire.end_of_file.get(),
            file_attributes: FileAttributes::from_bits_retain(wire.file_attributes.get()),
            file_id: wire.file_id.into(),
        };
        Ok((response, CreateContexts(contexts)))
    }

    pub fn encode(&self, contexts: &[CreateContext<'_>], out: &mut Vec<u8>) {
        let contexts_offset = after_fixed::<ResponseWire>();
        let mut list = Vec::new();
        append_contexts(&mut list, contexts);
        let wire = ResponseWire {
            structure_size: 89.into(),
            oplock_level: self.oplock_level.into(),
            flags: self.flags,
            create_action: u32::from(self.create_action).into(),
            creation_time: self.creation_time.0.into(),
            last_access_time: self.last_access_time.0.into(),
            last_write_time: self.last_write_time.0.into(),
            change_time: self.change_time.0.into(),
            allocation_size: self.allocation_size.into(),
            end_of_file: self.end_of_file.into(),
            file_attributes: self.file_attributes.bits().into(),
            reserved2: 0.into(),
            file_id: self.file_id.into(),
            contexts_offset: if list.is_empty() {
                0
            } else {
                u32::from(contexts_offset)
            }
            .into(),
            contexts_length: length_u32(list.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(&list);
    }
}
