//! The task of one chain: its elements in order, each admitted, handled and answered.
//!
//! The last element of a chain may go asynchronous: after [`INTERIM_DELAY`], or as soon as its
//! handler says that it waits, what is answered so far is sent, then an interim response
//! (MS-SMB2 3.3.4.2). A task is never dropped: without its connection it runs on for nobody.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use proto::smb2::{AsyncId, Command, NtStatus};

use super::admission::{Inherited, Sender, admit};
use super::replies::{Replies, Signature};
use super::request_size::{RdmaUse, payload_size, rdma_use};
use super::{Chain, Element};
use crate::channel::Message;
use crate::child::Child;
use crate::handlers::{self, Context, Response};
use crate::state::Connection;

/// After this long a client is told that its request is under way.
const INTERIM_DELAY: Duration = Duration::from_millis(50);
/// Header and fixed part of a READ response.
const READ_RESPONSE_OVERHEAD: u64 = 80;

/// Where an element stands.
#[derive(Clone, Copy)]
struct Place {
    /// The last of its chain: it may go asynchronous.
    is_last: bool,
    /// Its chain came encrypted.
    encrypted: bool,
}

type Outcome = Result<Response, NtStatus>;

pub(super) async fn run(child: Rc<Child>, connection: Rc<Connection>, mut chain: Chain) {
    let mut inherited = Inherited::default();
    let mut replies = Replies::new(&connection, &child.buffers, chain.encryption.as_deref());
    let encrypted = chain.encryption.is_some();
    let count = chain.elements.len();
    for (index, element) in chain.elements.iter().enumerate() {
        if index == 0 && element.header.is_related() {
            // MS-SMB2 3.3.5.2.7.2: there is nothing before it.
            inherited.failed = Some(NtStatus::INVALID_PARAMETER);
        }
        let is_last = index + 1 == count;
        answer(
            &child,
            &connection,
            element,
            &mut chain.message,
            Place { is_last, encrypted },
            &mut inherited,
            &mut replies,
        )
        .await;
        if connection.ended().is_some() {
            break;
        }
    }
    replies.send_last(&child.pool).await;
    let mut requests = connection.requests.borrow_mut();
    for element in &chain.elements {
        requests.finish(element.header.message_id, None);
    }
}

async fn answer(
    child: &Rc<Child>,
    connection: &Rc<Connection>,
    element: &Element,
    message: &mut Arc<Message>,
    place: Place,
    inherited: &mut Inherited,
    replies: &mut Replies<'_>,
) {
    let mut sender = Sender::default();
    let header = &element.header;
    tracing::debug!(command = ?header.command(), smb = header.message_id.0, "request");
    let mut async_id = None;
    let mut rdma = RdmaUse::default();
    let encrypted = place.encrypted;
    sender.encrypted = encrypted;
    let admitted = admit(child, connection, element, message, inherited, &mut sender);
    let bytes = element.bytes(message);
    let outcome = match admitted {
        Err(status) => {
            if header.command() == Ok(Command::Create) {
                inherited.failed = Some(status);
            }
            Err(status)
        }
        Ok(admitted) => {
            rdma = rdma_use(admitted.command, bytes, connection.dialect());
            match check_reply_size(connection, admitted.command, bytes, rdma) {
                Err(status) => Err(status),
                Ok(()) => {
                    let command = admitted.command;
                    let cx = Context {
                        child: Rc::clone(child),
                        connection: Rc::clone(connection),
                        session: admitted.session,
                        tree: admitted.tree,
                        header: *header,
                        related: header.is_related(),
                        chain_file: inherited.file.into(),
                        chain_metadata: inherited.metadata.into(),
                        named: RefCell::default(),
                        encrypted,
                        progress: Rc::clone(&element.progress),
                        message: Arc::clone(message),
                    };
                    let handler = pin!(handlers::handle(command, bytes, &cx));
                    let outcome =
                        drive(handler, command, &cx, place.is_last, replies, &mut async_id).await;
                    inherit(inherited, command, &cx, &outcome);
                    tell_of_machine(&cx, &outcome);
                    outcome
                }
            }
        }
    };
    tracing::debug!(status = ?outcome.as_ref().err(), smb = header.message_id.0, "answer");
    replies.add(
        header,
        outcome,
        async_id,
        Signature {
            key: sender.signing_key,
            claimed: sender.claims_signature,
        },
        rdma.invalidate,
    );
    connection
        .requests
        .borrow_mut()
        .finish(header.message_id, async_id);
}

/// Runs a handler to its end, sending an interim response where that takes long.
async fn drive(
    mut handler: Pin<&mut impl Future<Output = Outcome>>,
    command: Command,
    cx: &Context,
    is_last: bool,
    replies: &mut Replies<'_>,
    async_id: &mut Option<AsyncId>,
) -> Outcome {
    // Most are done at once, and need no timer.
    if let Some(outcome) = handler.as_mut().now_or_never() {
        return outcome;
    }
    if !may_go_async(command) {
        return handler.await;
    }
    if replies.holds_payload() {
        // This element may be waiting for the very memory that the replies before it hold.
        replies.send();
    }
    if !is_last {
        // Only the last element can go asynchronous: one that would wait in the middle fails.
        return match select(handler, pin!(cx.progress.waiting())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), handler)) => {
                cx.progress.cancel();
                let _ = handler.await;
                Err(NtStatus::INTERNAL_ERROR)
            }
        };
    }
    let delay = pin!(cx.child.timers.sleep(INTERIM_DELAY));
    let waiting = pin!(cx.progress.waiting());
    let patience = select(delay, waiting);
    match select(handler, patience).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right((_, handler)) => {
            if !cx.connection.requests.borrow().may_wait() {
                // One that is only slow ends by itself, without an interim response.
                if !cx.progress.waits() {
                    return handler.await;
                }
                cx.progress.cancel();
                let _ = handler.await;
                return Err(NtStatus::INSUFFICIENT_RESOURCES);
            }
            let id = cx
                .connection
                .requests
                .borrow_mut()
                .go_async(cx.header.message_id);
            replies.add_interim(&cx.header, id);
            *async_id = Some(id);
            handler.await
        }
    }
}

/// Commands that may be answered by an interim response first.
fn may_go_async(command: Command) -> bool {
    !matches!(
        command,
        Command::Negotiate
            | Command::SessionSetup
            | Command::Logoff
            | Command::TreeConnect
            | Command::TreeDisconnect
            | Command::Cancel
            | Command::Echo
    )
}

/// MS-SMB2 3.3.5.2.7.2: a related element uses what a CREATE before it opened, or fails as it did.
fn inherit(inherited: &mut Inherited, command: Command, cx: &Context, outcome: &Outcome) {
    inherited.file = cx.chain_file.get();
    inherited.metadata = match command {
        Command::Create | Command::QueryInfo | Command::QueryDirectory => cx.chain_metadata.get(),
        _ => None,
    };
    if command == Command::Create {
        inherited.failed = outcome.as_ref().err().copied();
        if outcome.is_err() {
            inherited.file = None;
        }
    }
}

/// Logs what failed for a reason that whoever runs this machine must do something about.
fn tell_of_machine(cx: &Context, outcome: &Outcome) {
    let Err(status) = outcome else { return };
    let why = match *status {
        NtStatus::DISK_FULL => "the share's file system, or its user's quota, is full",
        NtStatus::IO_DEVICE_ERROR => "the share's file system failed; the kernel's log says why",
        NtStatus::TOO_MANY_OPENED_FILES => "too many open files; raise ulimit -n",
        NtStatus::NO_MEMORY => "this machine is out of memory",
        _ => return,
    };
    cx.refuse(why, *status);
}

/// An inline READ's reply must fit a message of this connection.
fn check_reply_size(
    connection: &Connection,
    command: Command,
    bytes: &[u8],
    rdma: RdmaUse,
) -> Result<(), NtStatus> {
    if command == Command::Read && !rdma.by_rdma {
        let reply = payload_size(Command::Read, bytes) + READ_RESPONSE_OVERHEAD;
        if reply > u64::from(connection.channel.limits().max_send) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<F>(_: impl Fn(Rc<Child>, Rc<Connection>, Chain) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_requests_task_is_small_to_make_and_to_move() {
        // Before handlers other than READ and WRITE had memory of their own it was 3,936 bytes.
        let size = size_of_task(run);
        assert!(size <= 2304, "{size} bytes");
    }
}
