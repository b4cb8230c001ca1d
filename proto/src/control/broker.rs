//! The broker, its children and the supervisor: who owns which ClientGuid, who has which file open.
//!
//! A connection moves like this: its first child sends `Claim` with a duplicate of the descriptor
//! and waits. If nobody owns the ClientGuid it becomes the owner (`Claimed`). Otherwise the broker
//! sends the owner `Pass` with the descriptor, keeps its duplicate until the owner answers, and
//! tells the claimant the outcome; an owner that dies first makes the claimant the owner. Claims
//! and opens are numbered by the child, so that it can send them again, unchanged, to a restarted
//! broker: a pass that arrives twice is recognised by its [`ClaimKey`] and taken once.

use serde::{Deserialize, Serialize};

use super::{ChildId, ConnectionKind, ControlMessage, QueryId};

/// A claim, numbered by the child that makes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ClaimId(pub u64);

/// A claim among all children's: child and claim numbers are never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ClaimKey {
    pub child: ChildId,
    pub claim: ClaimId,
}

/// An open, numbered by the child that has it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct OpenId(pub u64);

/// A logon somebody attempts, numbered by the child it is attempted at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct AttemptId(pub u64);

/// Who fails to log on from where, without the words a client used: a digest of the name, letters'
/// case aside, and the network that `proto::network` counts an address as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogonKey {
    pub user: [u8; 16],
    pub network: [u8; 16],
}

/// A file, whatever its names are. It is open while the broker lists it, so that neither number
/// can pass to another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    pub device: u64,
    pub inode: u64,
}

/// An oplock that an open has, or asks for (MS-SMB2 2.2.13; MS-FSA 2.1.5.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Oplock {
    #[default]
    None,
    /// Broken by an open that does not violate its share mode.
    Exclusive,
    /// Broken by any open: its holder may have closed the file without saying so.
    Batch,
}

/// What an open may do, and lets others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMode {
    /// MS-SMB2 2.2.13.1, the specific rights granted (no generic ones, no MAXIMUM_ALLOWED).
    pub access: u32,
    /// MS-SMB2 2.2.13, ShareAccess.
    pub share: u32,
    /// FILE_DELETE_ON_CLOSE: closing this open makes the file delete-pending.
    pub delete_on_close: bool,
    /// What it asks for; once it is granted, what it has.
    pub oplock: Oplock,
}

/// A connection that a session of another process is to be bound to, as far as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingConnection {
    /// Its NEGOTIATE message, to be judged again and not answered.
    pub negotiate: Vec<u8>,
    /// Connection.PreauthIntegrityHashValue.
    pub preauth: Vec<u8>,
    /// The SESSION_SETUP, unanswered.
    pub request: Vec<u8>,
    /// MessageIds from the request's up to here are the client's to use.
    pub window_end: u64,
}

/// Child to broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBroker {
    /// "Who serves this client?" Carries a duplicate of the connection.
    Claim {
        claim: ClaimId,
        client_guid: [u8; 16],
        /// The dialect this NEGOTIATE would choose.
        dialect: u16,
        kind: ConnectionKind,
        /// What was read so far: for TCP the NEGOTIATE message without its length prefix, for a
        /// relay the raw datagrams.
        preface: Vec<u8>,
    },
    /// The owner's answer to [`FromBroker::Pass`].
    PassAnswer { claim: ClaimKey, answer: PassAnswer },
    /// One of the owner's connections ended.
    ChannelClosed,
    /// A user has logged on (GlobalSessionTable, MS-SMB2 3.3.1.5). To a restarted broker: one had.
    SessionOpened { session: u64 },
    /// A session told of is over.
    SessionClosed { session: u64 },
    /// "This connection wants to be a channel of that session, which is none of mine." Carries a
    /// duplicate of the connection. Answered like `Claim`.
    Bind {
        claim: ClaimId,
        session: u64,
        connection: BindingConnection,
    },
    /// "This user has lost that session, which is none of mine" (PreviousSessionId, MS-SMB2
    /// 3.3.5.5.3). Answered by [`FromBroker::PreviousEnded`].
    EndPrevious {
        claim: ClaimId,
        session: u64,
        user: String,
        uid: u32,
    },
    /// Answers [`FromBroker::EndSession`], whatever became of it.
    SessionEnded { claim: ClaimKey },
    /// "May I have this file open like this?" The child has it open and has changed nothing yet.
    Open {
        open: OpenId,
        file: FileKey,
        mode: OpenMode,
    },
    /// FileDispositionInformation on an open (MS-FSA 2.1.5.15.3); the file as a whole changes.
    SetDeletePending { open: OpenId, on: bool },
    /// The open is closed. Answered by [`FromBroker::Closed`].
    Close { open: OpenId },
    /// The open has no oplock any more: its client gave it up, or did not answer.
    OplockReleased { open: OpenId },
    /// The child ended the deletion [`FromBroker::Closed`] asked of it, successfully or not.
    Deleted { open: OpenId },
    /// "When may this user's proof be judged?" Every attempt counts as failed until the child says
    /// otherwise. Answered by [`FromBroker::LogonTurn`].
    Logon {
        attempt: AttemptId,
        key: LogonKey,
        /// What a failed logon costs, as configured.
        delay_ms: u32,
    },
    /// An attempt with this key and cost did not fail.
    LoggedOn { key: LogonKey, delay_ms: u32 },
    /// To a restarted broker: this child owns this ClientGuid.
    OwnerState {
        client_guid: [u8; 16],
        dialect: u16,
        channels: u32,
    },
    /// To a restarted broker: this child has this file open.
    OpenState {
        open: OpenId,
        file: FileKey,
        mode: OpenMode,
        delete_pending: bool,
    },
    /// To a restarted broker: that was all; requests follow.
    Restored,
}

/// Broker to child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBroker {
    /// Answers a claim: this child owns the ClientGuid, and goes on with the connection.
    Claimed { claim: ClaimId },
    /// Answers a claim: the owner has the connection; forget it without a word on it.
    HandedOver { claim: ClaimId },
    /// Answers a claim: neither may serve the connection.
    Refused { claim: ClaimId, reason: Refusal },
    /// To the owner: another connection of its client. Carries it. To be answered at once.
    Pass {
        claim: ClaimKey,
        kind: ConnectionKind,
        dialect: u16,
        preface: Vec<u8>,
    },
    /// To a session's process: a connection that wants to be a channel of it. Carries it. To be
    /// answered at once, like `Pass`.
    PassBinding {
        claim: ClaimKey,
        connection: BindingConnection,
    },
    /// To a session's process: the session is lost, if it is this user's. Answered by
    /// `SessionEnded` when its files are closed.
    EndSession {
        claim: ClaimKey,
        session: u64,
        user: String,
        uid: u32,
    },
    /// Answers `EndPrevious`: if there was such a session, it is over.
    PreviousEnded { claim: ClaimId },
    /// Answers an open.
    Granted {
        open: OpenId,
        /// Somebody else has the file open too.
        other_opens: bool,
        /// Never more than it asked for.
        oplock: Oplock,
    },
    /// Another open waits for this one's oplock: answered by `OplockReleased`, or by `Close`.
    BreakOplock { open: OpenId },
    /// Answers an open.
    Denied { open: OpenId, reason: ShareDenied },
    /// Answers `Logon`: how long from now the proof is not looked at; `None` if that is too long
    /// to wait for.
    LogonTurn {
        attempt: AttemptId,
        wait_ms: Option<u32>,
    },
    /// Answers `SetDeletePending`.
    DeletePendingSet { open: OpenId },
    /// The file's delete-pending mark changed; sent for each of its opens, so that any of them
    /// can bring it back to a restarted broker.
    DeletePending { open: OpenId, on: bool },
    /// Answers `Close`. With `delete`, that was the file's last open, it is delete-pending, and
    /// this child alone deletes it now; nobody can open it until the child says `Deleted`.
    /// Another child may have renamed the file: its name now is what `/proc/self/fd` says.
    Closed { open: OpenId, delete: bool },
}

/// An owner's answer to a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassAnswer {
    /// It serves the connection.
    Accepted,
    /// It does not, and has closed its descriptor.
    Refused(Refusal),
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The client has as many connections as it may: STATUS_INSUFFICIENT_RESOURCES.
    #[error("the client already has as many connections as it may have")]
    TooManyConnections,
    /// Too many of the owner's connections are not authenticated yet.
    #[error("too many of the client's connections are not authenticated yet")]
    TooManyUnauthenticated,
    /// There is no such session: STATUS_USER_SESSION_DELETED.
    #[error("there is no such session")]
    NoSession,
    /// The owner is ending: the claimant hears nothing until it has, and then serves the client.
    #[error("the client's process is ending")]
    Ending,
}

/// Why an open is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ShareDenied {
    /// STATUS_SHARING_VIOLATION.
    #[error("another open does not share the file like this")]
    SharingViolation,
    /// STATUS_DELETE_PENDING.
    #[error("the file is about to be deleted")]
    DeletePending,
    /// STATUS_INSUFFICIENT_RESOURCES.
    #[error("the client has as many files open as it may have")]
    TooManyOpens,
}

/// Supervisor to broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupervisorToBroker {
    /// A child; carries the broker's end of the link. With `resumes`, the child was started
    /// under the broker before, and sends its state first.
    Child { child: ChildId, resumes: bool },
    /// Every child that resumes has been named: answer as soon as they all sent their state.
    Start,
    /// Answered by [`BrokerToSupervisor::Status`].
    QueryStatus { query: QueryId },
}

/// Broker to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerToSupervisor {
    /// Owner and claimant of this connection both died: fork a new child for it. Carries it.
    Orphan {
        kind: ConnectionKind,
        preface: Vec<u8>,
    },
    /// The child broke the protocol or answers nothing: end it.
    End { child: ChildId, reason: String },
    /// Something an administrator should read.
    Problem { text: String },
    /// Answers [`SupervisorToBroker::QueryStatus`].
    Status {
        query: QueryId,
        totals: BrokerTotals,
    },
}

/// What the broker holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BrokerTotals {
    /// ClientGuids with an owner.
    pub clients: u64,
    /// Connections on their way to an owner.
    pub passes: u64,
    /// Opens of all children.
    pub opens: u64,
    /// Files they are of, those being deleted included.
    pub files: u64,
}

impl ControlMessage for ToBroker {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Claim { .. } | Self::Bind { .. }))
    }
}

impl ControlMessage for FromBroker {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Pass { .. } | Self::PassBinding { .. }))
    }
}

impl ControlMessage for SupervisorToBroker {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Child { .. }))
    }
}

impl ControlMessage for BrokerToSupervisor {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Orphan { .. }))
    }
}
