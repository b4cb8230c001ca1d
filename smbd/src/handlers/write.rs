//! WRITE (MS-SMB2 3.3.5.13): from the message, or by RDMA READ from the client's buffers.

use std::sync::Arc;

use proto::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use proto::smb2::{AccessMask, CreateOptions, NtStatus};

use super::read::{channel_of, client_buffers, is_in_a_file};
use super::{Context, Response, malformed};
use crate::channel::Message;
use crate::sys::file;
use crate::vfs::errno::status_of;

/// No file is longer than Windows' file systems allow (MS-FSA 2.1.5.4).
const MAX_FILE_SIZE: u64 = 0xFFF_FFFF_0000;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = WriteRequest::decode(request).map_err(malformed)?;
    let channel = channel_of(request.channel, cx)?;
    let by_rdma = channel.is_rdma_v1();
    let length = if by_rdma {
        request.remaining_bytes
    } else {
        request.data.len() as u32
    };
    let descriptors = if by_rdma && length > 0 {
        Some(client_buffers(request.descriptors(), length, cx)?)
    } else {
        None
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

    let user = &cx.tree()?.identity;
    let count = match descriptors {
        _ if length == 0 => 0,
        None => {
            let done = match durable {
                true => 0,
                false => opened.write_at_once(request.data, offset, user)?,
            };
            if done < length {
                let rest = request.data.get(done as usize..).unwrap_or_default();
                // The job holds the message: nothing is copied.
                let bytes = Message::share(&cx.message, rest).ok_or(NtStatus::INTERNAL_ERROR)?;
                let write = move || {
                    opened.check_locks(true, offset, length.into())?;
                    let at = offset + u64::from(done);
                    file::write(opened.descriptor(), &bytes, at, durable).map_err(status_of)
                };
                cx.as_user(write).await?;
            }
            length
        }
        Some(descriptors) => {
            let payload = cx.connection.channel.fetch(descriptors, length).await?;
            let slice = payload.slice();
            let at_once = match durable {
                true => Ok(0),
                false => opened.write_payload_at_once(&slice, length, offset, user),
            };
            // What was written in part is written again: an extent is named from its start.
            let written = match at_once {
                Ok(done) if done < length => {
                    let write = move || {
                        opened.check_locks(true, offset, length.into())?;
                        file::write_from_payload(
                            opened.descriptor(),
                            &slice,
                            length,
                            offset,
                            durable,
                        )
                        .map_err(status_of)
                    };
                    cx.as_user(write).await
                }
                outcome => outcome,
            };
            // Only now may the extent be used for something else.
            drop(payload);
            written?
        }
    };
    Ok(answer(count))
}

fn answer(count: u32) -> Response {
    let mut body = Vec::new();
    WriteResponse { count }.encode(&mut body);
    Response::of(body)
}
