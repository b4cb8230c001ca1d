//! The server service (MS-SRVS): what its calls answer. Everybody with a session may list shares and
//! ask who this server is; who else is connected is told to nobody.

use proto::rpc::srvsvc::server::{
    self, ServerGetInfoRequest, ServerInfo, ServerLevel, SoftwareType,
};
use proto::rpc::srvsvc::session::SessionEnumRequest;
use proto::rpc::srvsvc::share::{
    MAX_PREFERRED_LENGTH, ShareEnumRequest, ShareEnumResponse, ShareGetInfoRequest, ShareInfo,
    ShareLevel,
};
use proto::rpc::srvsvc::{
    NETR_REMOTE_TOD, NETR_SERVER_GET_INFO, NETR_SESSION_ENUM, NETR_SHARE_ENUM, NETR_SHARE_GET_INFO,
};
use proto::rpc::{FaultStatus, Win32Error};
use proto::wire::WireError;

use super::Served;

/// The Windows version told to clients: 6.1, as Samba says.
pub(super) const VERSION: (u32, u32) = (6, 1);

pub(super) fn call(opnum: u16, stub: &[u8], served: &Served) -> Result<Vec<u8>, FaultStatus> {
    let answer = match opnum {
        NETR_SESSION_ENUM => SessionEnumRequest::decode(stub)
            .map(|request| request.encode_failure(Win32Error::ACCESS_DENIED)),
        NETR_SHARE_ENUM => share_enum(stub, served),
        NETR_SHARE_GET_INFO => share_get_info(stub, served),
        NETR_SERVER_GET_INFO => server_get_info(stub, served),
        NETR_REMOTE_TOD => {
            server::decode_remote_tod(stub).map(|_| server::encode_remote_tod((served.now)(), 0))
        }
        _ => return Err(FaultStatus::OP_RANGE_ERROR),
    };
    answer.map_err(|_| FaultStatus::BAD_STUB_DATA)
}

/// The resume handle is the number of browseable shares already told (MS-SRVS 3.1.4.8).
fn share_enum(stub: &[u8], served: &Served) -> Result<Vec<u8>, WireError> {
    let request = ShareEnumRequest::decode(stub)?;
    let Some(level) = ShareLevel::of(request.level) else {
        return Ok(request.encode_failure(Win32Error::INVALID_LEVEL));
    };
    let start = request.resume_handle.unwrap_or(0);
    let left: Vec<ShareInfo<'_>> = served
        .shares
        .iter()
        .filter(|share| share.browseable)
        .skip(usize::try_from(start).unwrap_or(usize::MAX))
        .map(|share| share.info())
        .collect();
    let count = how_many(&left, level, request.preferred_maximum_length);
    let (told, kept_back) = left.split_at_checked(count).unwrap_or((&left, &[]));
    // What fits a u32 many times over: a configuration is at most a mebibyte.
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (resume_handle, error) = match kept_back.is_empty() {
        true => (0, Win32Error::SUCCESS),
        false => (
            start.saturating_add(number(told.len())),
            Win32Error::MORE_DATA,
        ),
    };
    let response = ShareEnumResponse {
        level,
        entries: told,
        total_entries: number(left.len()),
        resume_handle: request.resume_handle.map(|_| resume_handle),
        error,
    };
    Ok(response.encode())
}

/// As many as fit in what the client prefers; one at least, so that each call gets further.
fn how_many(shares: &[ShareInfo<'_>], level: ShareLevel, preferred_length: u32) -> usize {
    if preferred_length == MAX_PREFERRED_LENGTH {
        return shares.len();
    }
    let fitting = shares
        .iter()
        .scan(0u64, |sum, share| {
            *sum += u64::from(share.length(level));
            Some(*sum)
        })
        .take_while(|sum| *sum <= u64::from(preferred_length))
        .count();
    fitting.max(1).min(shares.len())
}

fn share_get_info(stub: &[u8], served: &Served) -> Result<Vec<u8>, WireError> {
    let request = ShareGetInfoRequest::decode(stub)?;
    let Some(level) = ShareLevel::of(request.level) else {
        return Ok(request.encode_failure(Win32Error::INVALID_LEVEL));
    };
    let wanted = request.net_name.to_lowercase();
    let share = served
        .shares
        .iter()
        .find(|share| share.name.to_lowercase() == wanted);
    Ok(match share {
        Some(share) => ShareGetInfoRequest::encode_answer(level, &share.info()),
        None => request.encode_failure(Win32Error::NET_NAME_NOT_FOUND),
    })
}

fn server_get_info(stub: &[u8], served: &Served) -> Result<Vec<u8>, WireError> {
    let request = ServerGetInfoRequest::decode(stub)?;
    let Some(level) = ServerLevel::of(request.level) else {
        return Ok(request.encode_failure(Win32Error::INVALID_LEVEL));
    };
    let info = ServerInfo {
        name: &served.server_name,
        version_major: VERSION.0,
        version_minor: VERSION.1,
        software: SoftwareType::WORKSTATION
            | SoftwareType::SERVER
            | SoftwareType::SERVER_UNIX
            | SoftwareType::NT
            | SoftwareType::SERVER_NT,
        comment: &served.comment,
    };
    Ok(info.encode(level))
}
