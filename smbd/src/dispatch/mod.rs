//! Dispatch: from a message of the client to the replies it gets (MS-SMB2 3.3.5.2).
//!
//! The loop calls [`deliver`] for each whole message. Framing, sequence and CANCEL are settled at
//! once, as soon as the message is open; the rest of the chain becomes one task, which checks each element, calls its handler and
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
use proto::smb2::compression::COMPRESSION_PROTOCOL_ID;
use proto::smb2::transform::{TRANSFORM_PROTOCOL_ID, TransformHeader};
use proto::smb2::{Command, Elements, Header, NtStatus};

use crate::channel::{Followed, Message, Reading};
use crate::child::Child;
use crate::handlers;
use crate::security::keys::PreauthHash;
use crate::state::{Connection, Session};
use crate::sys::pool::RunAs;

pub use progress::Progress;
pub use replies::send_unsolicited;
pub use request_size::relay_descriptors;
pub use requests::Requests;
pub use sequence_window::{OutOfWindow, SequenceWindow, UNAUTHENTICATED_CREDITS};

/// An encrypted message of this size is opened, and sealed, on the pool: other requests go on.
const LARGE: usize = 128 * 1024;
/// The largest payload of a client that has not logged on: a SESSION_SETUP's token.
const MAX_UNAUTHENTICATED_PAYLOAD: u32 = 65_536;

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
pub fn deliver(child: &Rc<Child>, connection: &Rc<Connection>, mut message: Vec<u8>) {
    if connection.ended().is_some() {
        return;
    }
    if message.starts_with(b"\xFFSMB") {
        handlers::negotiate::multi_protocol(child, connection, message);
        return;
    }
    let number = connection.channel.delivering();
    let session = match encrypted_by(child, connection, &message) {
        Ok(Some(session)) => session,
        Ok(None) => return take(child, connection, number, message, None),
        Err(violation) => return connection.end(violation),
    };
    let Some(cipher) = session.cipher.clone() else {
        return connection
            .end("an encrypted message of a session without a cipher (MS-SMB2 3.3.5.2.1.1)");
    };
    let is_large = message.len() >= LARGE;
    let open = move || cipher.open(&mut message).map(|()| message);
    if !is_large {
        return match open() {
            Ok(message) => take(child, connection, number, message, Some(session)),
            Err(error) => connection.end(error.to_string()),
        };
    }
    connection.opening.set(connection.opening.get() + 1);
    let (own_child, own_connection) = (Rc::clone(child), Rc::clone(connection));
    child.spawn(connection, async move {
        let opened = own_child.pool.run(RunAs::Anyone, open).await;
        let connection = own_connection;
        connection.opening.set(connection.opening.get() - 1);
        match opened {
            _ if connection.ended().is_some() => {}
            Ok(Ok(message)) => take(&own_child, &connection, number, message, Some(session)),
            Ok(Err(error)) => connection.end(error.to_string()),
            Err(lost) => connection.end(lost.to_string()),
        }
    });
}

/// Takes a message that is in the clear by now, and starts the task that answers it. Of a relay it
/// was the `number`-th.
fn take(
    child: &Rc<Child>,
    connection: &Rc<Connection>,
    number: u64,
    message: Vec<u8>,
    encryption: Option<Rc<Session>>,
) {
    let start = encryption.as_ref().map_or(0, |_| TransformHeader::SIZE);
    let message = match decompress(
        child,
        connection,
        Message::new(message, start, &child.buffers),
    ) {
        Ok(message) => message,
        Err(violation) => return connection.end(violation),
    };
    match receive(connection, message, encryption) {
        Ok(chain) if chain.elements.is_empty() => {}
        Ok(chain) => {
            let task = task::run(Rc::clone(child), Rc::clone(connection), chain);
            let task = Followed::new(&*connection.channel, number, task);
            child.spawn(connection, task);
        }
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

/// The session whose cipher a message was encrypted with (MS-SMB2 3.3.5.2.1.1), if it is encrypted.
fn encrypted_by(
    child: &Child,
    connection: &Connection,
    message: &[u8],
) -> Result<Option<Rc<Session>>, String> {
    if !message.starts_with(&TRANSFORM_PROTOCOL_ID) {
        return Ok(None);
    }
    let header = TransformHeader::decode(message).map_err(|error| error.to_string())?;
    child
        .sessions
        .find(header.session_id)
        .filter(|session| session.has_channel(connection.id) && connection.proven.get())
        .map(Some)
        .ok_or_else(|| "an encrypted message of no session (MS-SMB2 3.3.5.2.1.1)".into())
}

/// Undoes compression (MS-SMB2 3.3.5.2.1.2), behind decryption and before the signature is looked
/// at. What comes out is an SMB2 message: nothing is compressed or encrypted twice.
fn decompress(child: &Child, connection: &Connection, message: Message) -> Result<Message, String> {
    if !message.starts_with(&COMPRESSION_PROTOCOL_ID) {
        return Ok(message);
    }
    let compression = connection
        .compression()
        .ok_or("a compressed message, and compression was not negotiated (MS-SMB2 3.3.5.2)")?;
    let largest = match connection.is_authenticated() {
        true => connection
            .max_transact()
            .max(connection.max_read())
            .max(connection.max_write()),
        false => MAX_UNAUTHENTICATED_PAYLOAD,
    };
    let out = child.buffers.spare(message.len());
    compression
        .decompress(&message, largest as usize, out)
        .map(|whole| Message::new(whole, 0, &child.buffers))
        .map_err(|error| error.to_string())
}
