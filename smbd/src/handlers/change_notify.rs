//! CHANGE_NOTIFY (MS-SMB2 3.3.5.19): waits until it is cancelled or its directory is closed.
//!
//! Changes are not watched yet: a client that waits learns of none, which the protocol allows (it
//! never promises one), and looks again when its own cache expires.

use futures::future::{Either, select};
use proto::smb2::change_notify::{ChangeNotifyRequest, ChangeNotifyResponse, CompletionFilter};
use proto::smb2::{AccessMask, NtStatus};

use super::{Context, Response, malformed};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = ChangeNotifyRequest::decode(request).map_err(malformed)?;
    let open = cx.open(request.file_id)?;
    let disk = open.disk()?;
    let unknown = request.completion_filter.bits() & !CompletionFilter::all().bits();
    if request.output_buffer_length > cx.connection.max_transact()
        || !disk.file.is_directory()
        || unknown != 0
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    disk.require_any(AccessMask::READ_DATA)?;
    cx.progress.will_wait();
    let cancelled = std::pin::pin!(cx.progress.cancelled());
    let closed = std::pin::pin!(open.closed.cancelled());
    match select(cancelled, closed).await {
        Either::Left(_) => Err(NtStatus::CANCELLED),
        Either::Right(_) => {
            let mut body = Vec::new();
            ChangeNotifyResponse { output: &[] }.encode(&mut body);
            Ok(Response {
                status: NtStatus::NOTIFY_CLEANUP,
                ..Response::of(body)
            })
        }
    }
}
