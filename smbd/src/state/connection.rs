//! Connections (MS-SMB2 3.3.1.7): what has been negotiated on one channel, what is under way.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use proto::smb2::negotiate::Capabilities;
use proto::smb2::{Dialect, SessionId};

use super::session::Logon;
use crate::channel::Channel;
use crate::compression::Compression;
use crate::dispatch::{Requests, SequenceWindow};
use crate::negotiation::Negotiated;
use crate::refusals::Refusals;
use crate::security::keys::PreauthHash;

/// Large encrypted messages that are opened at once.
const MAX_OPENING: usize = 8;

/// One connection of the client.
pub struct Connection {
    /// Numbers the process's connections.
    pub id: u64,
    /// What carries it.
    pub channel: Rc<dyn Channel>,
    /// Set by NEGOTIATE, once.
    pub negotiated: OnceCell<Negotiated>,
    /// Connection.CommandSequenceWindow.
    pub window: RefCell<SequenceWindow>,
    /// The NEGOTIATE that settled it, until a session is authenticated.
    pub negotiate: RefCell<Vec<u8>>,
    /// Connection.PreauthIntegrityHashValue.
    pub preauth: RefCell<PreauthHash>,
    /// SESSION_SETUP exchanges under way (Connection.PreauthSessionTable and sessions in progress).
    pub logons: RefCell<HashMap<SessionId, Rc<Logon>>>,
    /// Connection.RequestList.
    pub requests: RefCell<Requests>,
    /// A NEGOTIATE has arrived: the next one ends the connection (MS-SMB2 3.3.5.4).
    pub negotiating: Cell<bool>,
    refusals: OnceCell<Arc<Refusals>>,
    /// Zero bytes between a READ response and its data; see `smbd:FSCTL_SMBTORTURE`.
    pub read_padding: Cell<u8>,
    /// The broker counts it as this process's.
    pub claimed: Cell<bool>,
    /// A user has logged on here, by a proof. A cipher means nothing where there is only nobody.
    pub proven: Cell<bool>,
    /// Encrypted messages that the pool is opening.
    pub opening: Cell<usize>,
    authenticated: Cell<bool>,
    handed_over: Cell<bool>,
    end: OnceCell<String>,
}

impl Connection {
    /// A connection nothing has arrived on.
    pub fn new(id: u64, channel: Rc<dyn Channel>) -> Connection {
        Connection {
            id,
            refusals: OnceCell::new(),
            read_padding: Cell::new(0),
            channel,
            negotiated: OnceCell::new(),
            window: RefCell::default(),
            negotiate: RefCell::default(),
            preauth: RefCell::default(),
            logons: RefCell::default(),
            requests: RefCell::default(),
            negotiating: Cell::new(false),
            claimed: Cell::new(false),
            proven: Cell::new(false),
            opening: Cell::new(0),
            authenticated: Cell::new(false),
            handed_over: Cell::new(false),
            end: OnceCell::new(),
        }
    }

    /// Where it is told what its client is refused. A relay knows its client from its first record
    /// on, so this is made when it is first wanted.
    pub fn refusals(&self) -> &Arc<Refusals> {
        let make = || Arc::new(Refusals::of(self.channel.peer()));
        self.refusals.get_or_init(make)
    }

    /// Connection.MaxTransactSize.
    pub fn max_transact(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_transact)
    }

    /// Connection.MaxReadSize.
    pub fn max_read(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_read)
    }

    /// Connection.MaxWriteSize.
    pub fn max_write(&self) -> u32 {
        self.negotiated.get().map_or(0, |found| found.max_write)
    }

    /// Connection.Dialect, once negotiated.
    pub fn dialect(&self) -> Option<Dialect> {
        self.negotiated.get().map(|found| found.dialect)
    }

    /// Connection.CompressionIds, if there are any.
    pub fn compression(&self) -> Option<&Compression> {
        self.negotiated.get()?.compression.as_ref()
    }

    /// Connection.SupportsMultiCredit.
    pub fn is_multi_credit(&self) -> bool {
        self.negotiated
            .get()
            .is_some_and(|found| found.capabilities.contains(Capabilities::LARGE_MTU))
    }

    /// A session was authenticated here: limits widen, RDMA rights may be had.
    pub fn set_authenticated(&self, credits: u16) {
        self.window.borrow_mut().widen(credits);
        if !self.authenticated.replace(true) {
            self.negotiate.take();
            self.channel.authenticated();
        }
    }

    /// Whether a session was ever authenticated here.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.get()
    }

    /// Whether the loop shall read more of it: of messages that count against no credit yet, since
    /// they are still sealed, only a few may be under way.
    pub fn wants_read(&self) -> bool {
        self.opening.get() < MAX_OPENING && self.channel.wants_read()
    }

    /// Ends the connection: nothing more is read or answered. The first reason is the one logged.
    pub fn end(&self, reason: impl Into<String>) {
        if self.end.set(reason.into()).is_ok() {
            self.channel.close();
        }
    }

    /// Another process serves it now: it is forgotten here without a word on it.
    pub fn hand_over(&self) {
        self.handed_over.set(true);
        let _ = self.end.set("handed over".into());
    }

    /// Whether another process serves it.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.get()
    }

    /// Why it is ending, if it is.
    pub fn ended(&self) -> Option<&str> {
        self.end.get().map(String::as_str)
    }
}
