//! Opening, reading, writing: inline and by RDMA.

use proto::smb2::close::{CloseFlags, CloseRequest};
use proto::smb2::create::{CreateRequest, CreateResponse};
use proto::smb2::create_context::CreateContexts;
use proto::smb2::read::{ReadFlags, ReadRequest, ReadResponse};
use proto::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use proto::smb2::{
    AccessMask, BufferDescriptorV1, Channel, Command, CreateDisposition, CreateOptions,
    FileAttributes, FileId, Header, ShareAccess,
};

use super::{Access, ClientError, Connection, Tree};

/// How to open a file.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// DesiredAccess.
    pub access: AccessMask,
    /// ShareAccess.
    pub share: ShareAccess,
    /// CreateDisposition.
    pub disposition: CreateDisposition,
    /// CreateOptions.
    pub options: CreateOptions,
}

impl OpenOptions {
    /// An existing file, to read, shared with everyone.
    pub fn read() -> OpenOptions {
        OpenOptions {
            access: AccessMask::READ_DATA | AccessMask::READ_ATTRIBUTES,
            share: ShareAccess::all(),
            disposition: CreateDisposition::Open,
            options: CreateOptions::empty(),
        }
    }

    /// A file to read and write, made if it is missing, shared with everyone.
    pub fn read_write() -> OpenOptions {
        OpenOptions {
            access: AccessMask::READ_DATA
                | AccessMask::WRITE_DATA
                | AccessMask::READ_ATTRIBUTES
                | AccessMask::DELETE,
            disposition: CreateDisposition::OpenIf,
            ..OpenOptions::read()
        }
    }
}

impl Connection {
    /// Opens `name` (backslashes between components).
    pub fn open(
        &mut self,
        tree: Tree,
        name: &str,
        options: OpenOptions,
    ) -> Result<FileId, ClientError> {
        let body = create_body(name, options);
        let header = self.header(Command::Create, Some(tree.session), tree.id);
        let reply = self.exchange(header, &body)?.check()?;
        let (response, _) =
            CreateResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        Ok(response.file_id)
    }

    /// Closes `file`.
    pub fn close(&mut self, tree: Tree, file: FileId) -> Result<(), ClientError> {
        let mut body = Vec::new();
        CloseRequest {
            flags: CloseFlags::empty(),
            file_id: file,
        }
        .encode(&mut body);
        let header = self.header(Command::Close, Some(tree.session), tree.id);
        self.exchange(header, &body)?.check()?;
        Ok(())
    }

    /// Reads inline.
    pub fn read(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, ClientError> {
        let mut body = read_body(file, offset, length, Channel::None, &[]);
        if self.compression.is_on {
            // Behind StructureSize and Padding.
            body[3] |= ReadFlags::REQUEST_COMPRESSED.bits();
        }
        let header = self.header_for(Command::Read, Some(tree.session), tree.id, length);
        let reply = self.exchange(header, &body)?.check()?;
        let response = ReadResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        Ok(response.data.to_vec())
    }

    /// Writes inline.
    pub fn write(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        data: &[u8],
    ) -> Result<u32, ClientError> {
        let body = write_body(file, offset, data);
        let length = data.len() as u32;
        let header = self.header_for(Command::Write, Some(tree.session), tree.id, length);
        written(self.exchange(header, &body)?)
    }

    /// Reads by RDMA into memory exposed for it, split over `pieces` descriptors.
    pub fn read_rdma(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        length: u32,
        channel: Channel,
        pieces: u32,
    ) -> Result<Vec<u8>, ClientError> {
        let memory = self
            .rdma()?
            .expose(&vec![0xee; length as usize], Access::RemoteWrite)?;
        let descriptors = split(memory.descriptor, pieces);
        let body = read_body(file, offset, length, channel, &descriptors);
        let header = self.header_for(Command::Read, Some(tree.session), tree.id, length);
        let answer = self.exchange(header, &body).and_then(super::Reply::check);
        let contents = self.rdma()?.contents(memory)?;
        self.rdma()?.withdraw(memory)?;
        let reply = answer?;
        let response = ReadResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        if !response.data.is_empty() || response.data_remaining > length {
            return Err(ClientError::protocol(format!("{response:?}")));
        }
        let moved = response.data_remaining as usize;
        if contents[moved..].iter().any(|byte| *byte != 0xee) {
            return Err(ClientError::protocol(
                "bytes behind DataRemaining were written",
            ));
        }
        Ok(contents[..moved].to_vec())
    }

    /// Writes by RDMA from memory exposed for it, split over `pieces` descriptors.
    pub fn write_rdma(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        data: &[u8],
        channel: Channel,
        pieces: u32,
    ) -> Result<u32, ClientError> {
        let memory = self.rdma()?.expose(data, Access::RemoteRead)?;
        let descriptors = split(memory.descriptor, pieces);
        let length = data.len() as u32;
        let body = write_rdma_body(file, offset, length, channel, &descriptors);
        let header = self.header_for(Command::Write, Some(tree.session), tree.id, length);
        let answer = self.exchange(header, &body);
        self.rdma()?.withdraw(memory)?;
        written(answer?)
    }

    /// A header for a request that names `length` bytes of payload.
    pub fn payload_header(&mut self, command: Command, tree: Tree, length: u32) -> Header {
        self.header_for(command, Some(tree.session), tree.id, length)
    }
}

/// CREATE's body.
pub fn create_body(name: &str, options: OpenOptions) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut body = Vec::new();
    CreateRequest {
        requested_oplock_level: 0,
        impersonation_level: 2,
        desired_access: options.access,
        file_attributes: FileAttributes::empty(),
        share_access: options.share,
        create_disposition: options.disposition.into(),
        create_options: options.options,
        name: &name,
        contexts: CreateContexts(&[]),
    }
    .encode(&[], &mut body);
    body
}

/// READ's body.
pub fn read_body(
    file: FileId,
    offset: u64,
    length: u32,
    channel: Channel,
    descriptors: &[BufferDescriptorV1],
) -> Vec<u8> {
    let mut body = Vec::new();
    ReadRequest {
        padding: 80,
        flags: ReadFlags::empty(),
        length,
        offset,
        file_id: file,
        minimum_count: 0,
        channel: channel.into(),
        remaining_bytes: 0,
        channel_info: &list(descriptors),
    }
    .encode(&mut body);
    body
}

/// A WRITE's body with its bytes inline.
pub fn write_body(file: FileId, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    WriteRequest {
        offset,
        file_id: file,
        channel: Channel::None.into(),
        remaining_bytes: 0,
        flags: WriteFlags::empty(),
        channel_info: &[],
        data,
    }
    .encode(&mut body);
    body
}

/// WRITE's body for a payload by RDMA.
pub fn write_rdma_body(
    file: FileId,
    offset: u64,
    length: u32,
    channel: Channel,
    descriptors: &[BufferDescriptorV1],
) -> Vec<u8> {
    let mut body = Vec::new();
    WriteRequest {
        offset,
        file_id: file,
        channel: channel.into(),
        remaining_bytes: length,
        flags: WriteFlags::empty(),
        channel_info: &list(descriptors),
        data: &[],
    }
    .encode(&mut body);
    // MS-SMB2 3.2.4.7: with an RDMA channel DataOffset and Length are zero.
    body[2..8].fill(0);
    body
}

/// `whole` as `pieces` descriptors of nearly equal length.
pub fn split(whole: BufferDescriptorV1, pieces: u32) -> Vec<BufferDescriptorV1> {
    let each = whole.length.div_ceil(pieces.max(1)).max(1);
    let mut offset = 0;
    let mut list = Vec::new();
    while offset < whole.length {
        let length = each.min(whole.length - offset);
        list.push(BufferDescriptorV1 {
            offset: whole.offset + u64::from(offset),
            token: whole.token,
            length,
        });
        offset += length;
    }
    list
}

fn list(descriptors: &[BufferDescriptorV1]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for descriptor in descriptors {
        descriptor.encode(&mut bytes);
    }
    bytes
}

fn written(reply: super::Reply) -> Result<u32, ClientError> {
    let reply = reply.check()?;
    let response = WriteResponse::decode(&reply.element).map_err(ClientError::protocol)?;
    Ok(response.count)
}
