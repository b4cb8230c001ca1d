//! Dispatch: from a message of the client to the replies it gets (MS-SMB2 3.3.5.2).
//!
//! The loop calls [`deliver`] for each whole message. Framing, sequence and CANCEL are settled at
//! once; the rest of the chain becomes one task, which checks each element, calls its handler and
//! gathers the replies. What breaks the protocol ends the connection, and the reason is logged;
//! an ordinary refusal is a status. Signing, credits and compounding live here and nowhere else.

mod admission;
mod progress;
mod replies;
mod request_size;
mod requests;
mod sequence_window;
mod task;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use proto::control::broker::BindingConnection;
use proto::smb2::transform::{TRANSFORM_PROTOCOL_ID, TransformHeader};
use proto::smb2::{Command, Elements, Header, NtStatus};

use crate::channel::{Message, Reading};
use crate::child::Child;
use crate::handlers;
use crate::security::keys::PreauthHash;
use crate::state::{Connection, Session};

pub use progress::Progress;
pub use replies::send_unsolicited;
pub use request_size::relay_descriptors;
pub use requests::Requests;
pub use sequence_window::{OutOfWindow, SequenceWindow, UNAUTHENTICATED_CREDITS};

/// One element of a received chain.
struct Element {
    header: Header,
    range: Range<usize>,
    progress: Rc<Progress>,
}

impl Element {
    /// Its bytes in its message.
    fn bytes<'a>(&self, message: &'a Message) -> &'a [u8] {
        message.get(self.range.clone()).unwrap_or_default()
    }
}

/// A received chain: the message and where its elements lie.
struct Chain {
    message: Arc<Message>,
    elements: Vec<Element>,
    /// The session whose cipher it came in.
    encryption: Option<Rc<Session>>,
}

/// Takes a message of the client. Whatever it leads to happens in tasks of the child's executor.
pub fn deliver(child: &Rc<Child>, connection: &Rc<Connection>, message: Vec<u8>) {
    if connection.ended().is_some() {
        return;
    }
    if message.starts_with(b"\xFFSMB") {
        handlers::negotiate::multi_protocol(child, connection, message);
        return;
    }
    let (message, encryption) = match decrypt(child, connection, message) {
        Ok((message, start, encryption)) => {
            (Message::new(message, start, &child.buffers), encryption)
        }
        Err(violation) => return connection.end(violation),
    };
    match receive(connection, message, encryption) {
        Ok(chain) if chain.elements.is_empty() => {}
        Ok(chain) => child.spawn(
            connection,
            task::run(Rc::clone(child), Rc::clone(connection), chain),
        ),
        Err(violation) => connection.end(violation),
    }
}

/// Takes the first message of a connection that another process read it from. Its NEGOTIATE may be
/// the second one, behind a multi-protocol negotiation, so its MessageId is where the window starts.
pub fn deliver_first(child: &Rc<Child>, connection: &Rc<Connection>, message: Vec<u8>) {
    if let Ok(header) = Header::decode(&message)
        && header.command() == Ok(Command::Negotiate)
        && header.message_id.0 <= 1
    {
        connection
            .window
            .replace(SequenceWindow::starting_at(header.message_id));
    }
    deliver(child, connection, message);
}

/// Goes on with a connection that another process has negotiated, from the SESSION_SETUP that binds
/// it to a session of this one.
pub fn resume(child: &Rc<Child>, connection: &Rc<Connection>, binding: BindingConnection) {
    let taken_up = <[u8; 64]>::try_from(binding.preauth)
        .map_err(|_| NtStatus::INVALID_PARAMETER)
        .map(PreauthHash::from_bytes)
        .and_then(|preauth| {
            handlers::negotiate::resume(child, connection, &binding.negotiate, preauth)?;
            Header::decode(&binding.request).map_err(|_| NtStatus::INVALID_PARAMETER)
        });
    match taken_up {
        Ok(header) => {
            let window = SequenceWindow::resuming(header.message_id, binding.window_end);
            connection.window.replace(window);
            connection.channel.read_on(Reading::Freely);
            deliver(child, connection, binding.request);
        }
        Err(status) => connection.end(format!("it can't be taken up: {status}")),
    }
}

/// Walks the chain, takes its MessageIds from the window, and carries out CANCELs.
fn receive(
    connection: &Rc<Connection>,
    message: Message,
    encryption: Option<Rc<Session>>,
) -> Result<Chain, String> {
    let mut elements = Vec::new();
    for element in Elements::new(&message) {
        let element = element.map_err(|error| format!("{error} (MS-SMB2 3.3.5.2)"))?;
        let header = element.header;
        // MS-SMB2 3.3.5.2.1.1: a session's cipher is for its own messages.
        if let Some(session) = &encryption
            && !header.is_related()
            && header.session_id != session.id
        {
            return Err("an encrypted message for another session (MS-SMB2 3.3.5.2.1.1)".into());
        }
        if header.is_response() {
            return Err("a response where a request belongs (MS-SMB2 3.3.5.2)".into());
        }
        if header.command() == Ok(Command::Cancel) {
            handlers::cancel::carry_out(connection, &header);
            continue;
        }
        let charge = match connection.is_multi_credit() {
            true => header.credit_charge,
            false => 1,
        };
        connection
            .window
            .borrow_mut()
            .take(header.message_id, charge)
            .map_err(|error| error.to_string())?;
        elements.push(Element {
            header,
            range: element.offset..element.offset + element.bytes.len(),
            progress: connection.requests.borrow_mut().begin(header.message_id),
        });
    }
    Ok(Chain {
        message: Arc::new(message),
        elements,
        encryption,
    })
}

/// A message, where its plain bytes begin, and the session that encrypted it.
type Opened = (Vec<u8>, usize, Option<Rc<Session>>);

/// Opens an encrypted message (MS-SMB2 3.3.5.2.1.1); a plain one stays as it is.
fn decrypt(child: &Child, connection: &Connection, mut message: Vec<u8>) -> Result<Opened, String> {
    if !message.starts_with(&TRANSFORM_PROTOCOL_ID) {
        return Ok((message, 0, None));
    }
    let header = TransformHeader::decode(&message).map_err(|error| error.to_string())?;
    let session = child
        .sessions
        .find(header.session_id)
        .filter(|session| session.has_channel(connection.id) && connection.proven.get())
        .ok_or("an encrypted message of no session (MS-SMB2 3.3.5.2.1.1)")?;
    let cipher = session
        .cipher
        .as_ref()
        .ok_or("an encrypted message of a session without a cipher (MS-SMB2 3.3.5.2.1.1)")?;
    cipher
        .open(&mut message)
        .map_err(|error| error.to_string())?;
    Ok((message, TransformHeader::SIZE, Some(session)))
}
