//! QUERY_DIRECTORY (MS-SMB2 3.3.5.18): a directory's entries, a response's worth at a time.

use std::sync::{Arc, PoisonError};

use proto::smb2::info::directory::DirectoryClass;
use proto::smb2::query_directory::{
    QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use proto::smb2::{AccessMask, NtStatus};

use super::{Context, Response, malformed};
use crate::vfs::Pattern;
use crate::vfs::directory::Scan;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = QueryDirectoryRequest::decode(request).map_err(malformed)?;
    let open = cx.open(request.file_id)?;
    let disk = open.disk()?;
    if !disk.file.is_directory() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let class = DirectoryClass::try_from(request.file_information_class)
        .map_err(|_| NtStatus::INVALID_INFO_CLASS)?;
    let limit = request.output_buffer_length;
    if limit > cx.connection.max_transact() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    disk.require_any(AccessMask::READ_DATA)?;
    let case_sensitive = disk.file.share().options().case_sensitive;
    let pattern = Pattern::from_wire(request.pattern, case_sensitive)?;
    let names_a_pattern = !request.pattern.is_empty();
    let flags = request.flags;
    let (file, scan) = (Arc::clone(&disk.file), Arc::clone(&disk.scan));
    let output = cx
        .as_user(move || {
            // Requests on one open go one after the other.
            let mut scan = scan.lock().unwrap_or_else(PoisonError::into_inner);
            let restart = flags.contains(QueryDirectoryFlags::RESTART_SCANS);
            if flags.contains(QueryDirectoryFlags::REOPEN) || (restart && names_a_pattern) {
                *scan = None;
            }
            let scan = match &mut *scan {
                Some(scan) => {
                    if restart {
                        scan.restart()?;
                    }
                    scan
                }
                none => none.insert(Scan::start(&file, pattern)?),
            };
            let single = flags.contains(QueryDirectoryFlags::RETURN_SINGLE_ENTRY);
            scan.read(&file, class, limit as usize, single)
        })
        .await?;
    let mut body = Vec::new();
    QueryDirectoryResponse { output: &output }.encode(&mut body);
    Ok(Response::of(body))
}
