//! LOGOFF (MS-SMB2 3.3.5.6): a session ends, with its tree connects and opens. And how a client hears of a session's
//! end that it did not ask for on that channel: the notification of 2.2.44.

use proto::smb2::logoff::{LogoffRequest, LogoffResponse};
use proto::smb2::notification::SessionClosed;
use proto::smb2::{Command, Header, HeaderFlags, MessageId, NtStatus};

use super::{Context, Response, close, malformed};
use crate::child::Child;
use crate::dispatch;
use crate::state::{Connection, Session};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    LogoffRequest::decode(request).map_err(malformed)?;
    let session = cx.session()?;
    cx.connection.logons.borrow_mut().remove(&session.id);
    for open in cx.child.take_session(session, Some(&cx.connection)) {
        close::release(&cx.child, open).await;
    }
    let mut body = Vec::new();
    LogoffResponse.encode(&mut body);
    Ok(Response::of(body))
}

/// Tells the client that a session has ended, where it knows what that means (Session.SupportsNotifications), on each
/// channel but the one it asked for it on.
pub fn notify(child: &Child, session: &Session, asked_on: Option<&Connection>) {
    if !session.supports_notifications {
        return;
    }
    let mut header = Header::request(Command::ServerToClientNotification, MessageId::UNSOLICITED);
    header.flags = HeaderFlags::SERVER_TO_REDIR;
    header.credit_charge = 0;
    header.credits = 0;
    header.session_id = session.id;
    let mut message = Vec::new();
    header.encode(&mut message);
    SessionClosed.encode(&mut message);
    for connection in child.connections() {
        let asked = asked_on.is_some_and(|asked_on| asked_on.id == connection.id);
        if !asked && session.has_channel(connection.id) && connection.ended().is_none() {
            dispatch::send_unsolicited(child, &connection, session, message.clone());
        }
    }
}
