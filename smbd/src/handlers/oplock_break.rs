//! OPLOCK_BREAK: the notification that an oplock is wanted back (MS-SMB2 3.3.4.6), and the
//! client's acknowledgment (3.3.5.22.1).
//!
//! An oplock is always broken to none: nobody is told here of the writes of others, as the holder
//! of a level II oplock would have to be. A client that says nothing for [`ACKNOWLEDGMENT_LIMIT`]
//! has lost its oplock (3.3.6.1); a channel that is lost with a notification on it is no answer.

use std::rc::Rc;
use std::time::Duration;

use futures::future::select;
use proto::control::broker::OpenId;
use proto::smb2::access::OplockLevel;
use proto::smb2::oplock_break::{BreakMessage, OplockBreak};
use proto::smb2::{Command, FileId, Header, HeaderFlags, MessageId, NtStatus};

use super::{Context, Response, malformed};
use crate::child::Child;
use crate::dispatch;
use crate::state::Session;

/// The oplock break acknowledgment timer, as long as Windows' (MS-SMB2 3.3.2.1).
const ACKNOWLEDGMENT_LIMIT: Duration = Duration::from_secs(35);

/// The broker wants an oplock back: the client is told, and given some time.
pub fn begin(child: &Rc<Child>, open: OpenId) {
    if !child.broker.holds_oplock(open) {
        return;
    }
    let Some(wanted) = child.oplocks.begin_break(open) else {
        return;
    };
    notify(child, &wanted.session, wanted.file);
    let child = Rc::clone(child);
    child.clone().spawn_detached(async move {
        let limit = std::pin::pin!(child.timers.sleep(ACKNOWLEDGMENT_LIMIT));
        select(limit, std::pin::pin!(wanted.ended.cancelled())).await;
        if !wanted.ended.is_cancelled() {
            tracing::warn!(user = ?wanted.session.user().name, "a client does not give up an oplock; it has none now");
            child.oplocks.end(open);
            child.broker.release_oplock(open);
        }
    });
}

/// A channel of a session is lost: what may have been on its way there is said again on another.
pub fn repeat(child: &Child, session: &Rc<Session>) {
    for file in child.oplocks.breaking(session) {
        notify(child, session, file);
    }
}

/// Tells the client, on any channel of the session.
fn notify(child: &Child, session: &Session, file: FileId) {
    let connections = child.connections();
    let channel = connections
        .iter()
        .find(|connection| connection.ended().is_none() && session.has_channel(connection.id));
    let Some(connection) = channel else { return };
    let mut header = Header::request(Command::OplockBreak, MessageId::UNSOLICITED);
    header.flags = HeaderFlags::SERVER_TO_REDIR;
    header.credit_charge = 0;
    header.credits = 0;
    let mut message = Vec::new();
    header.encode(&mut message);
    let notification = OplockBreak {
        oplock_level: OplockLevel::None.into(),
        file_id: file,
    };
    BreakMessage::Oplock(notification).encode(&mut message);
    dispatch::send_unsolicited(child, connection, session, message);
}

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let BreakMessage::Oplock(acknowledged) = BreakMessage::decode(request).map_err(malformed)?
    else {
        // No lease is ever granted (MS-SMB2 3.3.5.22.2).
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    };
    let open = cx.open(acknowledged.file_id)?;
    let grant = open.disk()?.grant;
    let level = OplockLevel::try_from(acknowledged.oplock_level);
    let is_breaking = cx.child.oplocks.is_breaking(grant);
    let outcome = match (level, is_breaking) {
        (Ok(OplockLevel::Lease) | Err(_), _) => Err(NtStatus::INVALID_PARAMETER),
        (Ok(OplockLevel::None | OplockLevel::LevelTwo), true) => Ok(()),
        (Ok(OplockLevel::None | OplockLevel::LevelTwo), false) => {
            Err(NtStatus::INVALID_DEVICE_STATE)
        }
        (Ok(OplockLevel::Exclusive | OplockLevel::Batch), _) => {
            Err(NtStatus::INVALID_OPLOCK_PROTOCOL)
        }
    };
    // A wrong answer is one too: the break is complete, and leaves nothing.
    if is_breaking {
        cx.child.oplocks.end(grant);
        cx.child.broker.release_oplock(grant);
    }
    outcome?;
    let mut body = Vec::new();
    let answer = OplockBreak {
        oplock_level: OplockLevel::None.into(),
        file_id: open.id,
    };
    BreakMessage::Oplock(answer).encode(&mut body);
    Ok(Response::of(body))
}
