//! SET_INFO (MS-SMB2 3.3.5.21): times, attributes, size, name, deletion and permissions.

use std::sync::Arc;

use proto::smb2::info::file::{
    DispositionFlags, FileAllocationInfo, FileBasicInfo, FileDispositionExInfo,
    FileDispositionInfo, FileEndOfFileInfo, FileModeInfo, FilePositionInfo, FileRenameInfo,
};
use proto::smb2::info::{FileInfoClass, InfoType};
use proto::smb2::query_info::SecurityInformation;
use proto::smb2::set_info::{SetInfoRequest, SetInfoResponse};
use proto::smb2::{AccessMask, FileTime, NtStatus};
use proto::wire::WireError;

use super::{Context, READ_ONLY, Response, malformed};
use crate::state::{DiskOpen, Open};
use crate::vfs::{SharePath, security_descriptor};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = SetInfoRequest::decode(request).map_err(malformed)?;
    if request.buffer.len() as u64 > u64::from(cx.connection.max_transact()) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let kind = InfoType::try_from(request.info_type).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let parts = SecurityInformation::from_bits_truncate(request.additional_information);
    let open = cx.open(request.file_id)?;
    match kind {
        InfoType::File => {
            let class = FileInfoClass::try_from(request.file_info_class)
                .map_err(|_| NtStatus::INVALID_INFO_CLASS)?;
            set_file_information(&open, class, request.buffer, cx).await?;
        }
        InfoType::Security => set_security(&open, parts, request.buffer, cx).await?,
        // Nothing of a file system can be set from here, and no quotas are kept.
        InfoType::FileSystem => return Err(NtStatus::INVALID_INFO_CLASS),
        InfoType::Quota => return Err(NtStatus::NOT_SUPPORTED),
    }
    let mut body = Vec::new();
    SetInfoResponse.encode(&mut body);
    Ok(Response::of(body))
}

async fn set_file_information(
    open: &Open,
    class: FileInfoClass,
    buffer: &[u8],
    cx: &Context,
) -> Result<(), NtStatus> {
    if open.pipe().is_some() {
        return super::named_pipe::set_information(class, buffer);
    }
    let disk = open.disk()?;
    match class {
        FileInfoClass::Basic => {
            let wanted = FileBasicInfo::decode(buffer).map_err(too_short)?;
            disk.require_any(AccessMask::WRITE_ATTRIBUTES)?;
            check_times(&wanted)?;
            let file = Arc::clone(&disk.file);
            cx.as_user(move || file.set_basic(&wanted)).await
        }
        FileInfoClass::EndOfFile => {
            let wanted = FileEndOfFileInfo::decode(buffer).map_err(too_short)?;
            let size = size_of_file(disk, wanted.end_of_file)?;
            let file = Arc::clone(&disk.file);
            cx.as_user(move || file.set_end_of_file(size)).await
        }
        FileInfoClass::Allocation => {
            let wanted = FileAllocationInfo::decode(buffer).map_err(too_short)?;
            let size = size_of_file(disk, wanted.allocation_size)?;
            let file = Arc::clone(&disk.file);
            cx.as_user(move || file.set_allocation(size)).await
        }
        FileInfoClass::Disposition => {
            let wanted = FileDispositionInfo::decode(buffer).map_err(too_short)?;
            set_disposition(disk, wanted.delete_pending, false, cx).await
        }
        FileInfoClass::DispositionEx => {
            let flags = FileDispositionExInfo::decode(buffer)
                .map_err(too_short)?
                .flags;
            let on = flags.contains(DispositionFlags::DELETE);
            let ignore_read_only = flags.contains(DispositionFlags::IGNORE_READONLY_ATTRIBUTE);
            set_disposition(disk, on, ignore_read_only, cx).await
        }
        FileInfoClass::Rename | FileInfoClass::RenameEx => {
            let (target, replace) = new_name(buffer).map_err(|status| cx.path_refused(status))?;
            disk.require_any(AccessMask::DELETE)?;
            let file = Arc::clone(&disk.file);
            cx.as_session_user(move || file.rename(&target, replace))
                .await
        }
        FileInfoClass::Link => {
            let (target, replace) = new_name(buffer).map_err(|status| cx.path_refused(status))?;
            if cx.tree()?.read_only {
                return Err(cx.refuse(READ_ONLY, NtStatus::ACCESS_DENIED));
            }
            let file = Arc::clone(&disk.file);
            cx.as_session_user(move || file.link(&target, replace))
                .await
        }
        FileInfoClass::Position => {
            let wanted = FilePositionInfo::decode(buffer).map_err(too_short)?;
            if wanted.current_byte_offset > i64::MAX as u64 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            disk.position.set(wanted.current_byte_offset);
            Ok(())
        }
        FileInfoClass::Mode => {
            // How a client waits for its own calls is its own business (MS-FSCC 2.4.31).
            FileModeInfo::decode(buffer).map_err(too_short)?;
            Ok(())
        }
        FileInfoClass::FullEa => Err(NtStatus::EAS_NOT_SUPPORTED),
        FileInfoClass::ValidDataLength => Err(NtStatus::PRIVILEGE_NOT_HELD),
        FileInfoClass::ShortName | FileInfoClass::Pipe => Err(NtStatus::NOT_SUPPORTED),
        _ => Err(NtStatus::INVALID_INFO_CLASS),
    }
}

/// MS-FSA 2.1.5.15.3: the broker keeps the mark, for every open of the file everywhere.
async fn set_disposition(
    disk: &DiskOpen,
    on: bool,
    ignore_read_only: bool,
    cx: &Context,
) -> Result<(), NtStatus> {
    disk.require_any(AccessMask::DELETE)?;
    if on {
        let file = Arc::clone(&disk.file);
        cx.as_user(move || file.check_deletable(ignore_read_only))
            .await?;
    }
    cx.child.broker.set_delete_pending(disk.grant, on).await;
    Ok(())
}

async fn set_security(
    open: &Open,
    parts: SecurityInformation,
    buffer: &[u8],
    cx: &Context,
) -> Result<(), NtStatus> {
    let disk = open.disk()?;
    for (part, right) in [
        (SecurityInformation::DACL, AccessMask::WRITE_DAC),
        (SecurityInformation::OWNER, AccessMask::WRITE_OWNER),
        (SecurityInformation::GROUP, AccessMask::WRITE_OWNER),
        (
            SecurityInformation::SACL,
            AccessMask::ACCESS_SYSTEM_SECURITY,
        ),
    ] {
        if parts.contains(part) {
            disk.require_any(right)?;
        }
    }
    let file = Arc::clone(&disk.file);
    let descriptor = buffer.to_vec();
    cx.as_user(move || {
        let metadata = file.metadata()?;
        match security_descriptor::decode(&descriptor, parts, &metadata)? {
            Some(mode) => file.set_mode(mode),
            None => Ok(()),
        }
    })
    .await
}

/// Where a rename or link leads, and whether it may replace what is there.
fn new_name(buffer: &[u8]) -> Result<(SharePath, bool), NtStatus> {
    const REPLACE_IF_EXISTS: u8 = 1;
    let wanted = FileRenameInfo::decode(buffer).map_err(too_short)?;
    // MS-FSCC 2.4.42.2: over the network a name is always relative to the share.
    if wanted.root_directory != 0 || wanted.name.is_empty() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let target = SharePath::from_wire(wanted.name)?;
    Ok((target, wanted.replace_if_exists & REPLACE_IF_EXISTS != 0))
}

/// A size a file can have, on an open that may set it.
fn size_of_file(disk: &DiskOpen, size: i64) -> Result<u64, NtStatus> {
    disk.require_any(AccessMask::WRITE_DATA)?;
    if disk.file.is_directory() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    u64::try_from(size).map_err(|_| NtStatus::INVALID_PARAMETER)
}

/// MS-FSA 2.1.5.15.2: negative times other than -1 and -2 mean nothing.
fn check_times(wanted: &FileBasicInfo) -> Result<(), NtStatus> {
    let times = [
        wanted.creation_time,
        wanted.last_access_time,
        wanted.last_write_time,
        wanted.change_time,
    ];
    let is_valid = |time: &FileTime| {
        time.0 <= i64::MAX as u64 || *time == FileTime::FREEZE || *time == FileTime::THAW
    };
    if times.iter().all(is_valid) {
        Ok(())
    } else {
        Err(NtStatus::INVALID_PARAMETER)
    }
}

/// MS-SMB2 3.3.5.21.1: a buffer shorter than its class.
fn too_short(_: WireError) -> NtStatus {
    NtStatus::INFO_LENGTH_MISMATCH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smb2::utf16;

    fn rename(root_directory: u64, name: &str) -> Vec<u8> {
        let mut buffer = Vec::new();
        FileRenameInfo {
            replace_if_exists: 1,
            root_directory,
            name: &utf16::encode(name),
        }
        .encode(&mut buffer);
        buffer
    }

    #[test]
    fn a_rename_stays_beneath_the_share() {
        let (path, replace) = new_name(&rename(0, "dir\\new")).unwrap();
        assert_eq!((path.as_str(), replace), ("dir/new", true));
        for (buffer, status) in [
            (rename(7, "new"), NtStatus::INVALID_PARAMETER),
            (rename(0, ""), NtStatus::INVALID_PARAMETER),
            (rename(0, "..\\new"), NtStatus::OBJECT_PATH_SYNTAX_BAD),
            (rename(0, "a:stream"), NtStatus::OBJECT_NAME_INVALID),
            (vec![0; 19], NtStatus::INFO_LENGTH_MISMATCH),
        ] {
            assert_eq!(new_name(&buffer), Err(status));
        }
    }

    #[test]
    fn times_below_minus_two_are_invalid() {
        let with = |time| FileBasicInfo {
            last_write_time: time,
            ..FileBasicInfo::default()
        };
        for time in [FileTime(0), FileTime::FREEZE, FileTime::THAW, FileTime(5)] {
            assert_eq!(check_times(&with(time)), Ok(()));
        }
        let wrong = FileTime(u64::MAX - 2);
        assert_eq!(check_times(&with(wrong)), Err(NtStatus::INVALID_PARAMETER));
    }
}
