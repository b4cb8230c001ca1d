//! The active side of SMB Direct with accounts of its own: it shares nothing with the machine under
//! test but the layout of messages, keeps to the protocol where a case leaves it to, and sends what
//! a case composes otherwise. SMB2 connections run over it ([`Line`]).

mod ledger;
mod messages;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::smbdirect::messages::{NegotiateRequest, NegotiateResponse, PAYLOAD_OFFSET};
use tests::client::{Access, ClientError, ExposedMemory, PATIENCE, RdmaTransport, Transport};

use crate::endpoint::Endpoint;

pub use ledger::Ledger;
pub use messages::{BASIC, Piece};

/// Receives posted beyond what is granted, so that a message without a credit is heard and not lost.
const SPARE: u16 = 4;
/// Before a server that spent its last credit on nothing is granted another.
const PAUSE: Duration = Duration::from_millis(5);
/// How soon the server must have ended a connection it has to end: well before any timer of its own.
pub const PROMPTLY: Duration = Duration::from_secs(4);

/// What a wire asks for.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// As it is sent.
    pub request: NegotiateRequest,
    /// The most credits the server is to hold.
    pub grants: u16,
}

impl Terms {
    /// The suite's: ten credits each way and messages of 1,024 bytes.
    pub const BASIC: Terms = Terms {
        request: BASIC,
        grants: 10,
    };

    /// As many credits each way.
    pub const fn credits(credits: u16) -> Terms {
        Terms {
            request: NegotiateRequest {
                credits_requested: credits,
                ..BASIC
            },
            grants: credits,
        }
    }
}

/// How the next SMB2 message is cut.
type Cut = Box<dyn FnOnce(&[u8]) -> Vec<Piece>>;

/// A negotiated connection.
pub struct Wire<E> {
    endpoint: E,
    terms: Terms,
    /// What the server answered.
    pub response: NegotiateResponse,
    pub ledger: Ledger,
    /// It grants credits as they are used up, unasked if the server runs low.
    pub grants: bool,
    /// It gives a sign of life when asked for one.
    pub answers: bool,
    /// Credits to be granted with the next message.
    grantable: u16,
    /// A message waits for a credit, and will carry the grant.
    sending: bool,
    /// Receives in the queue.
    posted: u16,
    cut: Option<Cut>,
    partial: Vec<u8>,
    inbox: VecDeque<Vec<u8>>,
}

impl<E: Endpoint> Wire<E> {
    /// Connects and negotiates.
    pub fn connect(server: SocketAddr, terms: Terms) -> Result<Wire<E>, ClientError> {
        Wire::negotiate(E::connect(server)?, terms)
    }

    /// Negotiates on a connection on which nothing was said.
    pub fn negotiate(mut endpoint: E, terms: Terms) -> Result<Wire<E>, ClientError> {
        endpoint.send(&terms.request.encode())?;
        let answer = endpoint.receive(PATIENCE)?;
        let response = NegotiateResponse::decode(&answer).map_err(|short| {
            ClientError::Protocol(format!("MS-SMBD 2.2.2: the negotiate response: {short}"))
        })?;
        if response.status != 0 {
            return Err(ClientError::Status(proto::smb2::NtStatus(response.status)));
        }
        let mut wire = Wire {
            endpoint,
            terms,
            response,
            ledger: Ledger::new(&terms.request, response.credits_granted),
            grants: true,
            answers: true,
            grantable: 0,
            sending: false,
            posted: 0,
            cut: None,
            partial: Vec::new(),
            inbox: VecDeque::new(),
        };
        wire.posted = wire.endpoint.post_receives(terms.grants + SPARE)?;
        wire.grantable = terms.grants;
        Ok(wire)
    }

    /// Payload of one message to the server, at most.
    pub fn room(&self) -> usize {
        (self.response.max_receive_size - PAYLOAD_OFFSET) as usize
    }

    /// Has the next SMB2 message sent so.
    pub fn cut_next(&mut self, cut: impl FnOnce(&[u8]) -> Vec<Piece> + 'static) {
        self.cut = Some(Box::new(cut));
    }

    /// Sends one message of the upper layer.
    pub fn transfer(&mut self, message: &[u8]) -> Result<(), ClientError> {
        let pieces = match self.cut.take() {
            Some(cut) => cut(message),
            None => Piece::cut(message, [self.room()]),
        };
        pieces.into_iter().try_for_each(|piece| self.send(piece))
    }

    /// Sends one message once a credit allows it, the last one only on a message that grants.
    pub fn send(&mut self, piece: Piece) -> Result<(), ClientError> {
        let until = Instant::now() + PATIENCE;
        self.sending = true;
        let mut outcome = self.hear_what_is_there();
        while outcome.is_ok()
            && (self.ledger.held == 0
                || self.ledger.held == 1 && self.grantable == 0 && piece.credits_granted.is_none())
        {
            outcome = self.hear(until.saturating_duration_since(Instant::now()));
        }
        self.sending = false;
        outcome.and_then(|()| self.send_now(piece))
    }

    /// Sends one message whatever credits there are.
    pub fn send_now(&mut self, piece: Piece) -> Result<(), ClientError> {
        let grants = std::mem::take(&mut self.grantable);
        let grants = piece.credits_granted.unwrap_or(grants);
        let target = self.terms.request.credits_requested;
        let bytes = piece.bytes(piece.credits_requested.unwrap_or(target), grants);
        self.ledger.held = self.ledger.held.saturating_sub(1);
        self.ledger.ask(piece.credits_requested.unwrap_or(target));
        self.ledger.granted += u32::from(grants);
        self.endpoint.send(&bytes)
    }

    /// Sends bytes that are no message.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.endpoint.send(bytes)
    }

    /// Hears the server's next message.
    pub fn hear(&mut self, patience: Duration) -> Result<(), ClientError> {
        let mute = self.grants && self.ledger.granted == 0 && self.grantable > 0;
        if mute && self.ledger.held > 0 && !self.sending && !patience.is_zero() {
            // It cannot say anything until it is granted a credit, and may have nothing to say yet.
            std::thread::sleep(PAUSE);
            self.send_now(Piece::empty())?;
        }
        let bytes = self.endpoint.receive(patience)?;
        self.posted -= 1;
        let (header, data) = self.ledger.hear(&bytes);
        if header.data_length > 0 {
            self.partial.extend_from_slice(&bytes[data]);
            if header.remaining_data_length == 0 {
                self.inbox.push_back(std::mem::take(&mut self.partial));
            }
        }
        // An empty message is no reason for one back: both sides would never fall silent.
        self.repay(header.response_requested(), header.data_length > 0)
    }

    /// What has come already.
    pub fn hear_what_is_there(&mut self) -> Result<(), ClientError> {
        loop {
            match self.hear(Duration::ZERO) {
                Ok(()) => {}
                Err(ClientError::Silence(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Hears until `done`.
    #[track_caller]
    pub fn hear_until(&mut self, what: &str, patience: Duration, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + patience;
        while !done(self) {
            let left = until.saturating_duration_since(Instant::now());
            if let Err(error) = self.hear(left) {
                panic!("waited for {what}: {error}; {:?}", self.ledger);
            }
        }
    }

    /// The connection must be ended by the server in this time, whatever it sends before.
    #[track_caller]
    pub fn expect_end(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.hear(left) {
                Ok(()) => {}
                Err(_) if self.endpoint.over().is_some() => return,
                Err(error) => panic!("the server did not end the connection: {error}"),
            }
        }
    }

    /// Leaves in order.
    pub fn disconnect(&mut self) {
        let _ = self.endpoint.disconnect();
    }

    /// Asks for so many credits from the next message on.
    pub fn set_target(&mut self, credits: u16) {
        self.terms.request.credits_requested = credits;
    }

    /// Starts to grant again, `credits` at most, and says so if it may speak.
    pub fn grant(&mut self, credits: u16) -> Result<(), ClientError> {
        self.grants = true;
        self.terms.grants = credits;
        self.repay(false, true)
    }

    /// Posts what was used, and tells the server if it asked for a sign of life, or runs low in the
    /// middle of what it has to say and nothing is about to be sent anyway.
    fn repay(&mut self, asked: bool, says_something: bool) -> Result<(), ClientError> {
        if self.grants {
            let most = u32::from(self.terms.grants);
            let wanted = (most + u32::from(SPARE)).saturating_sub(self.posted.into());
            self.posted += self.endpoint.post_receives(wanted as u16)?;
            let known = self.ledger.granted + u32::from(SPARE);
            self.grantable = u32::from(self.posted).saturating_sub(known) as u16;
        }
        let low = self.ledger.granted <= u32::from(self.terms.grants) / 4;
        let runs_low = low && says_something && self.grantable > 0 && !self.sending;
        let owed = asked && self.answers || runs_low;
        match owed && self.ledger.held > 0 && (self.ledger.held > 1 || self.grantable > 0) {
            true => self.send_now(Piece::empty()),
            false => Ok(()),
        }
    }
}

/// A wire that an SMB2 connection runs over, and that a case still has a hand in.
pub struct Line<E>(Rc<RefCell<Wire<E>>>);

impl<E: Endpoint> Line<E> {
    pub fn new(wire: Wire<E>) -> Line<E> {
        Line(Rc::new(RefCell::new(wire)))
    }

    /// The other hand.
    pub fn share(&self) -> Line<E> {
        Line(Rc::clone(&self.0))
    }

    pub fn wire(&self) -> RefMut<'_, Wire<E>> {
        self.0.borrow_mut()
    }
}

impl<E: Endpoint> Transport for Line<E> {
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError> {
        self.wire().transfer(message)
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
        let until = Instant::now() + patience;
        let mut wire = self.wire();
        loop {
            if let Some(message) = wire.inbox.pop_front() {
                return Ok(message);
            }
            wire.hear(until.saturating_duration_since(Instant::now()))?;
        }
    }

    fn rdma(&mut self) -> Option<&mut dyn RdmaTransport> {
        Some(self)
    }
}

impl<E: Endpoint> RdmaTransport for Line<E> {
    fn expose(&mut self, contents: &[u8], access: Access) -> Result<ExposedMemory, ClientError> {
        self.wire().endpoint.rdma().expose(contents, access)
    }

    fn contents(&mut self, memory: ExposedMemory) -> Result<Vec<u8>, ClientError> {
        self.wire().endpoint.rdma().contents(memory)
    }

    fn withdraw(&mut self, memory: ExposedMemory) -> Result<bool, ClientError> {
        self.wire().endpoint.rdma().withdraw(memory)
    }
}
