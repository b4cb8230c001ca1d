//! LOGOFF (MS-SMB2 3.3.5.6): a session ends, with its tree connects and opens.

use proto::smb2::NtStatus;
use proto::smb2::logoff::{LogoffRequest, LogoffResponse};

use super::{Context, Response, close, malformed};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    LogoffRequest::decode(request).map_err(malformed)?;
    let session = cx.session()?;
    cx.connection.logons.borrow_mut().remove(&session.id);
    for open in cx.child.take_session(session) {
        close::release(&cx.child, open).await;
    }
    let mut body = Vec::new();
    LogoffResponse.encode(&mut body);
    Ok(Response::of(body))
}
