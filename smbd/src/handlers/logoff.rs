//! LOGOFF (MS-SMB2 3.3.5.6): a session ends, with its tree connects and opens.

use std::rc::Rc;

use proto::smb2::NtStatus;
use proto::smb2::logoff::{LogoffRequest, LogoffResponse};

use super::{Context, Response, close, malformed};
use crate::child::Child;
use crate::state::Session;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    LogoffRequest::decode(request).map_err(malformed)?;
    let session = cx.session()?;
    cx.connection.logons.borrow_mut().remove(&session.id);
    cx.child.end_session(session);
    let mut body = Vec::new();
    LogoffResponse.encode(&mut body);
    Ok(Response::of(body))
}

/// Closes what a session had open, in the background.
pub fn close_opens(child: &Rc<Child>, session: &Rc<Session>) {
    let opens = session.opens.remove_all(None);
    if opens.is_empty() {
        return;
    }
    let releasing = Rc::clone(child);
    child.spawn_detached(async move {
        for open in opens {
            close::release(&releasing, open).await;
        }
    });
}
