//! Handlers: one file per SMB2 command, named as the command.
//!
//! A handler is `async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus>`;
//! `request` is the element of the compound, header included. Signing, credits, compounding and
//! channels belong to dispatch. A handler's future is never dropped before its end: when the
//! connection is lost it runs on, and its reply goes nowhere.

pub mod cancel;
mod change_notify;
pub mod close;
mod create;
mod echo;
mod file_call;
mod flush;
mod ioctl;
mod lock;
pub mod logoff;
mod logon;
mod named_pipe;
pub mod negotiate;
pub mod oplock_break;
mod outline;
mod payload;
mod query_directory;
mod query_info;
mod read;
mod server_copy;
mod session_binding;
mod session_setup;
mod set_info;
mod tree_connect;
mod tree_disconnect;
mod write;

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use proto::relay::Descriptor;
use proto::smb2::{Command, FileId, Header, HeaderFlags, NtStatus, SessionId, TreeId};

use crate::channel::{Message, Payload, Piece};
use crate::child::Child;
use crate::dispatch::Progress;
use crate::security::signing::SigningKey;
use crate::state::{Connection, Logon, Open, Sequenced, Session, Tree};
use crate::vfs::{Metadata, SharePath};

/// What a handler may reach.
pub struct Context {
    /// The process's services: configuration, pool, broker, interfaces.
    pub child: Rc<Child>,
    /// Where the request came by.
    pub connection: Rc<Connection>,
    /// The request's session, already checked to be valid where the command needs one.
    pub session: Option<Rc<Session>>,
    /// The request's tree connect, likewise.
    pub tree: Option<Rc<Tree>>,
    /// The request's header.
    pub header: Header,
    /// True for an element with SMB2_FLAGS_RELATED_OPERATIONS.
    pub related: bool,
    /// The FileId of the compound so far: set by CREATE, used where a related request says
    /// {0xffff…, 0xffff…} (MS-SMB2 3.3.5.2.7.2).
    pub chain_file: Cell<Option<FileId>>,
    /// What the compound's CREATE found, as long as nothing in the compound can have changed it.
    pub chain_metadata: Cell<Option<(FileId, Metadata)>>,
    /// The open that was asked for: whoever made it makes its calls.
    pub named: RefCell<Option<Named>>,
    /// It came encrypted, and its response leaves encrypted.
    pub encrypted: bool,
    /// Whether it was cancelled, and whether it waits.
    pub progress: Rc<Progress>,
    /// The whole received message, for a job that needs a part of it.
    pub message: Arc<Message>,
}

/// An open while a request that names it is handled.
pub struct Named {
    pub open: Rc<Open>,
    /// ChannelSequence of the request, if the open counts it.
    counted: Option<u16>,
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(sequence) = self.counted {
            self.open.sequence.finished(sequence);
        }
    }
}

/// An ordinary answer of a handler. An error answer is `Err(NtStatus)`.
pub struct Response {
    /// SUCCESS, or a status that carries a body (BUFFER_OVERFLOW, MORE_PROCESSING_REQUIRED, …).
    pub status: NtStatus,
    /// The body, from behind the header on.
    pub body: Vec<u8>,
    /// Bulk data that follows the body.
    pub data: Data,
    /// The data may leave compressed: the client asked for that, and the share allows it.
    pub compress: bool,
    /// Token the client asked to have invalidated; dispatch adds READ's and WRITE's itself.
    pub invalidate: Option<u32>,
    /// What the response's header says beyond the request's; only what sets up a session or a
    /// tree connect has anything here.
    pub header: ResponseHeader,
}

/// See [`Response::header`].
#[derive(Default)]
pub struct ResponseHeader {
    /// A new session's identifier.
    pub session: Option<SessionId>,
    /// A new tree connect's identifier.
    pub tree: Option<TreeId>,
    /// Signs the response although the request was not signed.
    pub signing_key: Option<Rc<SigningKey>>,
    /// Takes the response's bytes in.
    pub preauth: Option<PreauthTarget>,
}

/// A preauthentication integrity hash that a response belongs to (MS-SMB2 3.3.5.4, 3.3.5.5).
pub enum PreauthTarget {
    /// Connection.PreauthIntegrityHashValue.
    Connection(Rc<Connection>),
    /// The exchange's own.
    Logon(Rc<Logon>),
}

impl PreauthTarget {
    /// Takes a message in, given in pieces.
    pub fn update(&self, message: &[&[u8]]) {
        match self {
            PreauthTarget::Connection(connection) => {
                connection.preauth.borrow_mut().update(message);
            }
            PreauthTarget::Logon(logon) => logon.hash.borrow_mut().update(message),
        }
    }
}

/// Bulk data of a response.
#[derive(Debug, Default)]
pub enum Data {
    /// None.
    #[default]
    None,
    /// In the message.
    Bytes(Piece),
    /// By RDMA WRITE, before the message.
    Rdma {
        /// What; its extent's length is what was asked for.
        payload: Payload,
        /// How much of it.
        length: u32,
        /// Where to.
        descriptors: Vec<Descriptor>,
    },
}

impl Default for Response {
    fn default() -> Response {
        Response {
            status: NtStatus::SUCCESS,
            body: Vec::new(),
            data: Data::None,
            compress: false,
            invalidate: None,
            header: ResponseHeader::default(),
        }
    }
}

impl Response {
    /// SUCCESS with this body.
    pub fn of(body: Vec<u8>) -> Response {
        Response {
            body,
            ..Response::default()
        }
    }
}

/// Calls the handler of a command. CANCEL never gets here: nothing answers it.
pub async fn handle(command: Command, request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    match command {
        Command::Read => read::handle(request, cx).await,
        Command::Write => write::handle(request, cx).await,
        Command::Echo => echo::handle(request),
        Command::Cancel | Command::ServerToClientNotification => Err(NtStatus::INVALID_PARAMETER),
        other => handle_rarer(other, request, cx).await,
    }
}

/// Longer handlers, in memory of their own: where their state is part of every task, each READ
/// and WRITE makes and moves room for the largest of them.
fn handle_rarer<'a>(
    command: Command,
    request: &'a [u8],
    cx: &'a Context,
) -> LocalBoxFuture<'a, Result<Response, NtStatus>> {
    match command {
        Command::Negotiate => negotiate::handle(request, cx).boxed_local(),
        Command::SessionSetup => session_setup::handle(request, cx).boxed_local(),
        Command::Logoff => logoff::handle(request, cx).boxed_local(),
        Command::TreeConnect => tree_connect::handle(request, cx).boxed_local(),
        Command::TreeDisconnect => tree_disconnect::handle(request, cx).boxed_local(),
        Command::Ioctl => ioctl::handle(request, cx).boxed_local(),
        Command::Create => create::handle(request, cx).boxed_local(),
        Command::Close => close::handle(request, cx).boxed_local(),
        Command::Flush => flush::handle(request, cx).boxed_local(),
        Command::Lock => lock::handle(request, cx).boxed_local(),
        Command::QueryDirectory => query_directory::handle(request, cx).boxed_local(),
        Command::ChangeNotify => change_notify::handle(request, cx).boxed_local(),
        Command::QueryInfo => query_info::handle(request, cx).boxed_local(),
        Command::SetInfo => set_info::handle(request, cx).boxed_local(),
        Command::OplockBreak => oplock_break::handle(request, cx).boxed_local(),
        Command::Read
        | Command::Write
        | Command::Echo
        | Command::Cancel
        | Command::ServerToClientNotification => {
            ready(Err(NtStatus::INVALID_PARAMETER)).boxed_local()
        }
    }
}

/// Why nothing is changed through a tree connect that may only read.
const READ_ONLY: &str = "the share is read only for this user (read only, read list)";

/// What a request that can't be decoded is answered with.
pub fn malformed(error: proto::wire::WireError) -> NtStatus {
    tracing::debug!(%error, "a request can't be decoded");
    NtStatus::INVALID_PARAMETER
}

impl Context {
    /// The session; dispatch has checked it for every command but NEGOTIATE and SESSION_SETUP.
    pub fn session(&self) -> Result<&Rc<Session>, NtStatus> {
        self.session.as_ref().ok_or(NtStatus::USER_SESSION_DELETED)
    }

    /// The tree connect.
    pub fn tree(&self) -> Result<&Rc<Tree>, NtStatus> {
        self.tree.as_ref().ok_or(NtStatus::NETWORK_NAME_DELETED)
    }

    /// Logs why the request is refused; gives the status back.
    pub fn refuse(&self, why: &'static str, status: NtStatus) -> NtStatus {
        let user = self.session.as_ref().map(|session| session.user());
        let name = user.as_ref().map_or("", |user| &user.name);
        match self.header.command() {
            Ok(command) => {
                let what = format_args!("{command:?} of {name:?}");
                self.connection.refusals().tell(what, why, status)
            }
            Err(_) => status,
        }
    }

    /// A path a client wrote. One that would leave the share is told.
    pub fn share_path(&self, name: &[u8]) -> Result<SharePath, NtStatus> {
        SharePath::from_wire(name).map_err(|status| self.path_refused(status))
    }

    /// Tells why a path is refused, if it is one that would leave the share.
    pub fn path_refused(&self, status: NtStatus) -> NtStatus {
        match status {
            NtStatus::OBJECT_PATH_SYNTAX_BAD => {
                self.refuse("a path with .. could lead out of the share", status)
            }
            NtStatus::INVALID_PARAMETER => self.refuse(
                "a path must be relative to the share (MS-SMB2 3.3.5.9; MS-FSCC 2.4.42)",
                status,
            ),
            _ => status,
        }
    }

    /// The open a request names; all ones in a related request is the compound's.
    pub fn open(&self, id: FileId) -> Result<Rc<Open>, NtStatus> {
        let wanted = if self.related && id == FileId::RELATED {
            self.chain_file.get().ok_or(NtStatus::FILE_CLOSED)?
        } else {
            id
        };
        let open = self.session()?.opens.find(wanted)?;
        if open.tree.id != self.tree()?.id {
            return Err(NtStatus::FILE_CLOSED);
        }
        self.chain_file.set(Some(wanted));
        let is_named = |named: &Named| Rc::ptr_eq(&named.open, &open);
        if !self.named.borrow().as_ref().is_some_and(is_named) {
            let counted = self.begin(&open)?;
            let open = Rc::clone(&open);
            self.named.replace(Some(Named { open, counted }));
        }
        Ok(open)
    }

    /// Checks the channel sequence of a request for an open, and counts it (MS-SMB2 3.3.5.2.10).
    fn begin(&self, open: &Open) -> Result<Option<u16>, NtStatus> {
        let negotiated = self.connection.negotiated.get();
        if !negotiated.is_some_and(|negotiated| negotiated.dialect.is_smb3()) {
            return Ok(None);
        }
        let sequence = self.header.channel_sequence();
        let counted = open.sequence.begin(Sequenced {
            sequence,
            replay: self.header.flags.contains(HeaderFlags::REPLAY_OPERATION),
            changes: matches!(
                self.header.command(),
                Ok(Command::Write | Command::SetInfo | Command::Ioctl)
            ),
        })?;
        Ok(counted.then_some(sequence))
    }
}
