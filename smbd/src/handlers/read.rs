//! READ (MS-SMB2 3.3.5.12): inline, or by RDMA WRITE into the client's buffers, as it is or signed or
//! encrypted first.

use std::sync::Arc;

use proto::relay::Descriptor;
use proto::smb2::rdma::Descriptors;
use proto::smb2::rdma_transform::RdmaTransform;
use proto::smb2::read::{ReadFlags, ReadRequest, ReadResponseFixed};
use proto::smb2::{AccessMask, Channel, Dialect, NtStatus};
use proto::wire::WireError;

use super::{Context, Data, Response, malformed, payload};
use crate::channel::Piece;
use crate::dispatch::relay_descriptors;
use crate::security::payload::Sealing;
use crate::sys::file;
use crate::vfs::File;
use crate::vfs::errno::status_of;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = ReadRequest::decode(request).map_err(malformed)?;
    let channel = channel_of(request.channel, cx)?;
    // How a READ's payload is protected is the answer's to say (MS-SMB2 2.2.19, 2.2.20).
    if channel == Channel::RdmaTransform {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let (length, offset, minimum) = (request.length, request.offset, request.minimum_count);
    let by_rdma = if channel.is_rdma_v1() && length > 0 {
        let sealing = payload::sealing(cx)?;
        let descriptors = client_buffers(request.descriptors(), length, cx)?;
        Some((sealing, descriptors))
    } else {
        None
    };
    if length > cx.connection.max_read() || !is_in_a_file(offset, length) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let open = cx.open(request.file_id)?;
    if let Some(pipe) = open.pipe() {
        // A pipe's few bytes are not worth an RDMA WRITE, and no client asks for one.
        if by_rdma.is_some() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let message = super::named_pipe::read(pipe, length, cx).await?;
        return Ok(Response {
            status: message.status(),
            ..inline(message.data.into(), cx.connection.read_padding.get())
        });
    }
    let disk = open.disk()?;
    if disk.file.is_directory() {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    disk.require_any(AccessMask::READ_DATA | AccessMask::EXECUTE)?;
    let range = Range {
        file: Arc::clone(&disk.file),
        offset,
        length,
    };
    let (count, response) = match by_rdma {
        None => {
            let bytes = range.read(cx, |bytes| Ok(((), bytes))).await?.1;
            let count = bytes.len() as u32;
            let compress =
                request.flags.contains(ReadFlags::REQUEST_COMPRESSED) && cx.tree()?.compress;
            let response = inline(bytes, cx.connection.read_padding.get());
            (
                count,
                Response {
                    compress,
                    ..response
                },
            )
        }
        Some((None, descriptors)) => range.read_by_rdma(cx, descriptors).await?,
        // Rarer, and longer: see `super::handle`.
        Some((Some(sealing), descriptors)) => {
            Box::pin(range.read_sealed(cx, sealing, descriptors)).await?
        }
    };
    check_count(count, length, minimum)?;
    disk.position.set(offset + u64::from(count));
    Ok(response)
}

/// What is read of which file.
struct Range {
    file: Arc<File>,
    offset: u64,
    length: u32,
}

impl Range {
    /// Reads into memory of this process and has `then` make something of it, where the read was
    /// made: at once, or on the pool.
    async fn read<T: Send + 'static>(
        self,
        cx: &Context,
        then: impl FnOnce(Piece) -> Result<(T, Piece), NtStatus> + Send + 'static,
    ) -> Result<(T, Piece), NtStatus> {
        let size = Piece::ROOM + self.length as usize;
        let mut buffer = cx.child.buffers.spare(size);
        buffer
            .try_reserve_exact(size)
            .map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        Piece::make_room(&mut buffer);
        let transfers = &cx.child.transfers;
        let at_once = transfers.read(&self.file, buffer, self.length, self.offset);
        match at_once.await {
            (buffer, Some(outcome)) => outcome.and_then(|_| then(Piece::behind_room(buffer))),
            (mut buffer, None) => {
                buffer.truncate(Piece::ROOM);
                let read = move || {
                    let (length, offset) = (self.length, self.offset);
                    self.file.check_locks(false, offset, length.into())?;
                    file::read(self.file.descriptor(), buffer, length, offset)
                        .map_err(status_of)
                        .and_then(|buffer| then(Piece::behind_room(buffer)))
                };
                cx.as_user(read).await
            }
        }
    }

    /// Reads straight into the client's region, from where smbdirectd writes it to the client.
    async fn read_by_rdma(
        self,
        cx: &Context,
        descriptors: Vec<Descriptor>,
    ) -> Result<(u32, Response), NtStatus> {
        let (length, offset) = (self.length, self.offset);
        let payload = cx.connection.channel.payload(length).await?;
        let slice = payload.slice();
        let transfers = &cx.child.transfers;
        let at_once = transfers.read_payload(&self.file, &slice, length, offset);
        let count = match at_once.await {
            Some(outcome) => outcome?,
            None => {
                // The extent stays this task's until the job is back, whatever becomes of the
                // connection.
                let read = move || {
                    self.file.check_locks(false, offset, length.into())?;
                    file::read_into_payload(self.file.descriptor(), &slice, length, offset)
                        .map_err(status_of)
                };
                cx.as_user(read).await?
            }
        };
        let data = Data::Rdma {
            payload,
            length: count,
            descriptors,
        };
        let response = answer(ReadResponseFixed::rdma(count));
        Ok((count, Response { data, ..response }))
    }

    /// Signs or encrypts what it reads before it lies in the region: smbdirectd never sees the
    /// plain bytes of an encrypted session, and cannot forge a signed one's.
    async fn read_sealed(
        self,
        cx: &Context,
        sealing: Sealing,
        descriptors: Vec<Descriptor>,
    ) -> Result<(u32, Response), NtStatus> {
        let payload = cx.connection.channel.payload(self.length).await?;
        let slice = payload.slice();
        let seal = move |mut bytes: Piece| {
            let sealed = sealing.seal(&mut bytes);
            let copied = slice.copy_in(&bytes);
            copied.map_err(|_| NtStatus::INTERNAL_ERROR)?;
            Ok((sealed, bytes))
        };
        let (sealed, bytes) = self.read(cx, seal).await?;
        let count = bytes.len() as u32;
        cx.child.buffers.put(bytes.into_buffer());
        let mut transform = Vec::new();
        RdmaTransform {
            channel: Channel::None,
            crypto: sealed.transform(),
            descriptors: &[],
        }
        .encode(&mut transform);
        let fixed = ReadResponseFixed::transformed(count, transform.len() as u32);
        let mut response = answer(fixed);
        response.body.append(&mut transform);
        response.data = Data::Rdma {
            payload,
            length: count,
            descriptors,
        };
        Ok((count, response))
    }
}

/// What the Channel field of a READ or WRITE means here; INVALID_PARAMETER for what this
/// connection can't do.
pub(super) fn channel_of(raw: u32, cx: &Context) -> Result<Channel, NtStatus> {
    match cx.connection.dialect() {
        // MS-SMB2 2.2.19: reserved before 3.0.
        None | Some(Dialect::Smb202 | Dialect::Smb210) => return Ok(Channel::None),
        Some(Dialect::Smb300) if raw == u32::from(Channel::RdmaV1Invalidate) => {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Some(_) => {}
    }
    let channel = Channel::try_from(raw).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    match channel {
        Channel::None => Ok(channel),
        Channel::RdmaV1 | Channel::RdmaV1Invalidate if cx.connection.channel.has_rdma() => {
            Ok(channel)
        }
        Channel::RdmaTransform if cx.connection.channel.has_rdma() && payload::is_known(cx) => {
            Ok(channel)
        }
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// The client's buffers, which must hold the whole payload (MS-SMB2 3.3.5.12, 3.3.5.13).
pub(super) fn client_buffers(
    descriptors: Result<Descriptors<'_>, WireError>,
    length: u32,
    cx: &Context,
) -> Result<Vec<Descriptor>, NtStatus> {
    let refuse = |why| cx.refuse(why, NtStatus::INVALID_PARAMETER);
    let descriptors = descriptors.map_err(|_| refuse("its buffer descriptors can't be decoded"))?;
    if descriptors.len() == 0 {
        return Err(refuse("it has no buffer descriptor"));
    }
    if descriptors.total_length() < u64::from(length) {
        return Err(refuse("its buffer descriptors hold less than its payload"));
    }
    relay_descriptors(descriptors).map_err(|_| refuse("it has more than 256 buffer descriptors"))
}

/// Whether a file can have these bytes: offsets are signed 64-bit numbers.
pub(super) fn is_in_a_file(offset: u64, length: u32) -> bool {
    offset
        .checked_add(length.into())
        .is_some_and(|end| end <= i64::MAX as u64)
}

/// MS-SMB2 3.3.5.12: nothing read where something was asked for, or less than MinimumCount.
fn check_count(count: u32, length: u32, minimum: u32) -> Result<(), NtStatus> {
    if (count == 0 && length > 0) || count < minimum {
        return Err(NtStatus::END_OF_FILE);
    }
    Ok(())
}

fn inline(bytes: Piece, padding: u8) -> Response {
    let fixed = ReadResponseFixed {
        padding,
        ..ReadResponseFixed::inline(bytes.len() as u32)
    };
    Response {
        data: Data::Bytes(bytes),
        ..answer(fixed)
    }
}

fn answer(fixed: ReadResponseFixed) -> Response {
    let mut body = Vec::new();
    fixed.encode(&mut body);
    Response::of(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_is_told_as_the_specification_counts() {
        for (count, length, minimum, expected) in [
            (10, 10, 1, Ok(())),
            (0, 0, 0, Ok(())),
            (1, 2, 0, Ok(())),
            (0, 10, 0, Err(NtStatus::END_OF_FILE)),
            (0, 0, 1, Err(NtStatus::END_OF_FILE)),
            (1, 1, 2, Err(NtStatus::END_OF_FILE)),
        ] {
            assert_eq!(check_count(count, length, minimum), expected);
        }
    }

    #[test]
    fn offsets_end_where_a_signed_number_does() {
        let last = i64::MAX as u64;
        assert!(is_in_a_file(last - 1, 1) && is_in_a_file(last, 0));
        assert!(!is_in_a_file(last, 1) && !is_in_a_file(last + 1, 0));
        assert!(!is_in_a_file(u64::MAX, 0) && !is_in_a_file(u64::MAX, 1));
    }
}
