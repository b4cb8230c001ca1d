//! Requests on IPC$ and on its named pipes (MS-SMB2 3.3.5.9 to 3.3.5.15): CREATE, READ, WRITE,
//! QUERY_INFO, SET_INFO and the pipe control codes come here once they turn out to concern a pipe.
//! What a pipe answers is `rpc`'s.

use std::rc::Rc;

use proto::smb2::access::{CreateAction, ImpersonationLevel, OplockLevel};
use proto::smb2::create::{CreateRequest, CreateResponse};
use proto::smb2::fsctl::PipeWaitRequest;
use proto::smb2::info::FileInfoClass;
use proto::smb2::info::file::{FilePipeInfo, FilePipeLocalInfo, FileStandardInfo};
use proto::smb2::ioctl::IoctlRequest;
use proto::smb2::{AccessMask, CreateDisposition, FileAttributes, FileTime, NtStatus, utf16};

use super::{Context, Response, malformed};
use crate::child;
use crate::rpc::{NamedPipe, Pipe, PipeRead, Served};
use crate::state::{Open, OpenFile, PipeOpen};

/// What Windows says a pipe can hold either way.
const QUOTA: u32 = 4096;
/// FILE_PIPE_MESSAGE_TYPE and FILE_PIPE_MESSAGE_MODE (MS-FSCC 2.4.37, 2.4.38).
const MESSAGE: u32 = 1;
/// FILE_PIPE_FULL_DUPLEX, FILE_PIPE_CONNECTED_STATE, and no limit of instances.
const FULL_DUPLEX: u32 = 2;
const CONNECTED: u32 = 3;
const UNLIMITED: u32 = u32::MAX;

/// CREATE on IPC$. `desired` has its generic rights mapped.
pub(super) fn create(
    request: &CreateRequest<'_>,
    desired: AccessMask,
    cx: &Context,
) -> Result<Response, NtStatus> {
    ImpersonationLevel::try_from(request.impersonation_level)
        .map_err(|_| NtStatus::BAD_IMPERSONATION_LEVEL)?;
    CreateDisposition::try_from(request.create_disposition)
        .map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let tree = cx.tree()?;
    let granted = match desired.contains(AccessMask::MAXIMUM_ALLOWED) {
        true => tree.maximal_access,
        false => desired,
    };
    if !tree.maximal_access.contains(granted) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    let name = utf16::decode(request.name, "Name").map_err(|_| NtStatus::OBJECT_NAME_INVALID)?;
    let served = Served::of(&cx.child.config, child::now);
    let pipe = NamedPipe::open(&name, served)?;
    let file = OpenFile::Pipe(Box::new(PipeOpen { pipe, granted }));
    let sequence = cx.header.channel_sequence();
    let opens = &cx.session()?.opens;
    let inserted = opens.insert(Rc::clone(tree), file, sequence);
    let open = inserted.map_err(|not_added| not_added.status)?;
    cx.chain_file.set(Some(open.id));
    let mut body = Vec::new();
    CreateResponse {
        oplock_level: OplockLevel::None,
        flags: 0,
        create_action: CreateAction::Opened,
        creation_time: FileTime(0),
        last_access_time: FileTime(0),
        last_write_time: FileTime(0),
        change_time: FileTime(0),
        allocation_size: QUOTA.into(),
        end_of_file: 0,
        file_attributes: FileAttributes::NORMAL,
        file_id: open.id,
    }
    .encode(&[], &mut body);
    Ok(Response::of(body))
}

/// READ of a pipe: a message, or as much of it as was asked for (MS-SMB2 3.3.5.12).
pub(super) async fn read(pipe: &PipeOpen, length: u32, cx: &Context) -> Result<PipeRead, NtStatus> {
    pipe.require(AccessMask::READ_DATA)?;
    pipe.pipe.read(length as usize, &cx.progress).await
}

/// WRITE to a pipe; its offset means nothing.
pub(super) fn write(pipe: &PipeOpen, data: &[u8]) -> Result<(), NtStatus> {
    pipe.require(AccessMask::WRITE_DATA)?;
    pipe.pipe.write(data)
}

/// FSCTL_PIPE_TRANSCEIVE (MS-SMB2 3.3.5.15.3).
pub(super) async fn transceive(
    open: &Open,
    request: &IoctlRequest<'_>,
    cx: &Context,
) -> Result<PipeRead, NtStatus> {
    let pipe = open.pipe().ok_or(NtStatus::NOT_SUPPORTED)?;
    pipe.require(AccessMask::READ_DATA | AccessMask::WRITE_DATA)?;
    let most = request.max_output_response as usize;
    pipe.pipe
        .transceive(request.input, most, &cx.progress)
        .await
}

/// FSCTL_PIPE_WAIT (MS-SMB2 3.3.5.15.10): instances are never short, so nobody ever waits.
pub(super) fn wait(request: &IoctlRequest<'_>, cx: &Context) -> Result<(), NtStatus> {
    if !cx.tree()?.is_pipe() {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let wanted = PipeWaitRequest::decode(request.input).map_err(malformed)?;
    let name = utf16::decode(wanted.name, "Name").map_err(malformed)?;
    match Pipe::exists(&name) {
        true => Ok(()),
        false => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
    }
}

/// What QUERY_INFO tells of a pipe.
pub(super) fn information(pipe: &PipeOpen, class: FileInfoClass) -> Result<Vec<u8>, NtStatus> {
    let mut out = Vec::new();
    match class {
        FileInfoClass::Standard => FileStandardInfo {
            allocation_size: QUOTA.into(),
            end_of_file: 0,
            number_of_links: 1,
            // A pipe is gone with its last handle.
            delete_pending: true,
            directory: false,
        }
        .encode(&mut out),
        FileInfoClass::Pipe => FilePipeInfo {
            read_mode: MESSAGE,
            completion_mode: 0,
        }
        .encode(&mut out),
        FileInfoClass::PipeLocal => FilePipeLocalInfo {
            named_pipe_type: MESSAGE,
            named_pipe_configuration: FULL_DUPLEX,
            maximum_instances: UNLIMITED,
            current_instances: 1,
            inbound_quota: QUOTA,
            read_data_available: u32::try_from(pipe.pipe.unread()).unwrap_or(u32::MAX),
            outbound_quota: QUOTA,
            write_quota_available: QUOTA,
            named_pipe_state: CONNECTED,
            named_pipe_end: 0,
        }
        .encode(&mut out),
        // What Windows' pipes answer.
        _ => return Err(NtStatus::INVALID_PARAMETER),
    }
    Ok(out)
}

/// SET_INFO of a pipe: messages that are waited for are the only mode there is.
pub(super) fn set_information(class: FileInfoClass, buffer: &[u8]) -> Result<(), NtStatus> {
    if class != FileInfoClass::Pipe {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let wanted = FilePipeInfo::decode(buffer).map_err(|_| NtStatus::INFO_LENGTH_MISMATCH)?;
    match (wanted.read_mode, wanted.completion_mode) {
        (MESSAGE, 0) => Ok(()),
        (0 | MESSAGE, 0 | 1) => Err(NtStatus::NOT_SUPPORTED),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_stays_in_message_mode() {
        let mode = |read_mode, completion_mode| {
            let mut buffer = Vec::new();
            FilePipeInfo {
                read_mode,
                completion_mode,
            }
            .encode(&mut buffer);
            buffer
        };
        let set = |buffer: &[u8]| set_information(FileInfoClass::Pipe, buffer);
        assert_eq!(set(&mode(1, 0)), Ok(()));
        assert_eq!(set(&mode(0, 0)), Err(NtStatus::NOT_SUPPORTED));
        assert_eq!(set(&mode(1, 1)), Err(NtStatus::NOT_SUPPORTED));
        assert_eq!(set(&mode(2, 0)), Err(NtStatus::INVALID_PARAMETER));
        assert_eq!(set(&[1]), Err(NtStatus::INFO_LENGTH_MISMATCH));
        assert_eq!(
            set_information(FileInfoClass::Basic, &[]),
            Err(NtStatus::INVALID_PARAMETER)
        );
    }
}
