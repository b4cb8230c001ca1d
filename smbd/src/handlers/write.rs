//! WRITE (MS-SMB2 3.3.5.13): from the message, or by RDMA READ from the client's buffers, as it is or
//! signed or encrypted.

use std::sync::Arc;

use proto::smb2::rdma_transform::ChannelInformation;
use proto::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use proto::smb2::{AccessMask, Channel, CreateOptions, NtStatus};

use super::read::{channel_of, client_buffers, is_in_a_file};
use super::{Context, Response, malformed, outline, payload};
use crate::channel::{Message, Payload};
use crate::security::payload::Opening;
use crate::sys::file;
use crate::vfs::errno::status_of;
use crate::vfs::{File, at_once};

/// No file is longer than Windows' file systems allow (MS-FSA 2.1.5.4).
const MAX_FILE_SIZE: u64 = 0xFFF_FFFF_0000;

pub async fn handle(element: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = WriteRequest::decode(element).map_err(malformed)?;
    let channel = channel_of(request.channel, cx)?;
    let by_rdma = channel != Channel::None;
    let length = if by_rdma {
        request.remaining_bytes
    } else {
        request.data.len() as u32
    };
    let info = ChannelInformation::decode(channel, request.channel_info).map_err(|_| {
        cx.refuse(
            "its channel information can't be decoded",
            NtStatus::INVALID_PARAMETER,
        )
    })?;
    let fetched = match info {
        Some(info) if length > 0 => {
            let opening = payload::opening(info.crypto.as_ref(), cx)?;
            let descriptors = client_buffers(Ok(info.descriptors), length, cx)?;
            Some((opening, descriptors))
        }
        _ => None,
    };
    let offset = request.offset;
    if length > cx.connection.max_write()
        || !is_in_a_file(offset, length)
        || (length > 0 && offset.saturating_add(length.into()) > MAX_FILE_SIZE)
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let open = cx.open(request.file_id)?;
    if let Some(pipe) = open.pipe() {
        if by_rdma {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        super::named_pipe::write(pipe, request.data)?;
        return Ok(answer(length));
    }
    let disk = open.disk()?;
    if disk.file.is_directory() {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    disk.require_any(AccessMask::WRITE_DATA | AccessMask::APPEND_DATA)?;
    let durable = request.flags.contains(WriteFlags::WRITE_THROUGH)
        || disk.options.contains(CreateOptions::WRITE_THROUGH);
    let opened = Arc::clone(&disk.file);

    let write = Write {
        file: opened,
        offset,
        durable,
    };
    match fetched {
        _ if length == 0 => {}
        None => write.message(request.data, cx).await?,
        Some((None, descriptors)) => {
            let outline = || outline::of_write(element, &cx.header).filter(|_| !cx.encrypted);
            cx.connection.channel.expect(length, &outline);
            let payload = cx.connection.channel.fetch(descriptors, length).await?;
            write.payload(payload, length, cx).await?;
        }
        Some((Some(opening), descriptors)) => {
            let payload = cx.connection.channel.fetch(descriptors, length).await?;
            // Rarer, and longer: see `super::handle`.
            let written = Box::pin(write.sealed_payload(payload, length, opening, cx)).await;
            written.inspect_err(|status| payload::tell_of_forgery(cx, *status))?;
        }
    }
    Ok(answer(length))
}

/// Where to, and how.
struct Write {
    file: Arc<File>,
    offset: u64,
    durable: bool,
}

impl Write {
    /// What lies in the message.
    async fn message(self, data: &[u8], cx: &Context) -> Result<(), NtStatus> {
        // Whoever writes holds the message: nothing is copied.
        let share = |part| Message::share(&cx.message, part).ok_or(NtStatus::INTERNAL_ERROR);
        let done = match self.durable {
            true => 0,
            false => {
                let (bytes, user) = (share(data)?, &cx.tree()?.identity);
                let transfers = &cx.child.transfers;
                transfers
                    .write(&self.file, bytes, self.offset, user)
                    .await?
            }
        };
        if (done as usize) < data.len() {
            let bytes = share(data.get(done as usize..).unwrap_or_default())?;
            let length = data.len() as u64;
            cx.as_user(move || self.rest(&bytes, done, length)).await?;
        }
        Ok(())
    }

    /// What the client's RDMA READ brought, from where it lies.
    async fn payload(self, payload: Payload, length: u32, cx: &Context) -> Result<(), NtStatus> {
        let Write {
            file: opened,
            offset,
            durable,
        } = self;
        let slice = payload.slice();
        let at_once = match durable {
            true => Ok(0),
            false => {
                let user = &cx.tree()?.identity;
                let transfers = &cx.child.transfers;
                transfers
                    .write_payload(&opened, &slice, length, offset, user)
                    .await
            }
        };
        // What was written in part is written again: an extent is named from its start.
        let written = match at_once {
            Ok(done) if done < length => {
                let write = move || {
                    opened.check_locks(true, offset, length.into())?;
                    file::write_from_payload(opened.descriptor(), &slice, length, offset, durable)
                        .map_err(status_of)
                };
                cx.as_user(write).await
            }
            outcome => outcome,
        };
        // Only now may the extent be used for something else.
        drop(payload);
        written.map(|_| ())
    }

    /// Likewise, but verified or decrypted first, in a copy that nobody else can change: what was
    /// checked is what is written.
    async fn sealed_payload(
        self,
        payload: Payload,
        length: u32,
        opening: Opening,
        cx: &Context,
    ) -> Result<(), NtStatus> {
        let slice = payload.slice();
        let mut bytes = cx.child.buffers.spare(length as usize);
        let open = move |bytes: &mut Vec<u8>| {
            let copied = slice.copy_out(length, bytes);
            copied.map_err(|_| NtStatus::INTERNAL_ERROR)?;
            opening.open(bytes)
        };
        let mut done = 0;
        let mut open = Some(open);
        if length <= at_once::MAX_LENGTH
            && let Some(open) = open.take()
        {
            open(&mut bytes)?;
            if !self.durable {
                let user = &cx.tree()?.identity;
                let transfers = &cx.child.transfers;
                (done, bytes) = transfers
                    .write_private(&self.file, bytes, self.offset, user)
                    .await?;
            }
        }
        if done < length {
            let write = move || {
                if let Some(open) = open {
                    open(&mut bytes)?;
                }
                let rest = bytes.get(done as usize..).unwrap_or_default();
                self.rest(rest, done, length.into())?;
                Ok(bytes)
            };
            bytes = cx.as_user(write).await?;
        }
        cx.child.buffers.put(bytes);
        drop(payload);
        Ok(())
    }

    /// The rest of `length` bytes, of which `done` are written, on a thread of the pool.
    fn rest(&self, rest: &[u8], done: u32, length: u64) -> Result<(), NtStatus> {
        self.file.check_locks(true, self.offset, length)?;
        let at = self.offset + u64::from(done);
        file::write(self.file.descriptor(), rest, at, self.durable)
            .map(|_| ())
            .map_err(status_of)
    }
}

fn answer(count: u32) -> Response {
    let mut body = Vec::new();
    WriteResponse { count }.encode(&mut body);
    Response::of(body)
}
