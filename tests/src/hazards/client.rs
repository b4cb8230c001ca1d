//! A client of the project's own over verbs, for a whole server: logged on, its share connected,
//! its SMB Direct side within reach of a scenario that wants it to misbehave.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proto::smb2::{Channel, Command, FileId, Guid, MessageId};

use super::{Ground, Misbehaving};
use crate::client::{
    Access, ClientError, Connection, ExposedMemory, Offer, OpenOptions, RdmaTransport, Transport,
    Tree, write_body,
};
use crate::server::{PASSWORD, USER};

/// A client that is logged on. Dropped, it is gone without a word.
pub struct RdmaClient {
    pub connection: Connection,
    pub wire: Rc<RefCell<Wire>>,
    pub tree: Tree,
}

/// The transport, shared by the connection and the scenario.
pub struct Wire {
    pub smbdirect: Box<dyn Misbehaving>,
    /// How a message is handed over.
    pub sending: Sending,
}

/// How messages leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Sent before the call returns.
    AtOnce,
    /// Queued; who drives the wire sends them.
    Queued,
    /// Queued, in fragments of so many bytes.
    Fragments(usize),
}

/// A ClientGuid that differs from others in its last byte only.
pub fn guid(last: u8) -> Guid {
    let mut guid = Guid::ZERO;
    guid.0[15] = last;
    guid
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A connection's transport, on which nothing was said yet.
pub(super) fn transport(
    ground: &Ground,
    host: u8,
) -> Result<impl Transport + 'static, ClientError> {
    let smbdirect = ground.connect(host, None)?;
    Ok(Shared(Rc::new(RefCell::new(Wire {
        smbdirect,
        sending: Sending::AtOnce,
    }))))
}

impl RdmaClient {
    /// Connects, negotiates, logs on, connects to the share, and signs nothing from then on, so
    /// that bare RDMA is allowed. `credits`: the most it ever grants, if it is to be few.
    pub(super) fn log_on(ground: &Ground, last: u8, credits: Option<u16>) -> RdmaClient {
        let smbdirect = ground.connect(last, credits).expect("the server accepts");
        let wire = Rc::new(RefCell::new(Wire {
            smbdirect,
            sending: Sending::AtOnce,
        }));
        let offer = Offer {
            client_guid: guid(last),
            ..Offer::default()
        };
        let transport = Shared(Rc::clone(&wire));
        let mut connection = Connection::negotiate(transport, offer).expect("NEGOTIATE");
        let session = connection.log_on(USER, PASSWORD).expect("the user logs on");
        let tree = connection
            .tree_connect(session, "share")
            .expect("the share is there");
        // MS-SMB2 3.3.5.7: only TREE_CONNECT had to be signed.
        connection.forget_key(session.id);
        RdmaClient {
            connection,
            wire,
            tree,
        }
    }

    /// Opens a file to read and write.
    pub fn create(&mut self, name: &str) -> FileId {
        self.connection
            .open(self.tree, name, OpenOptions::read_write())
            .expect("the file opens")
    }

    /// Writes and reads back by RDMA.
    #[track_caller]
    pub fn write_and_check(&mut self, file: FileId, offset: u64, length: usize, seed: u64) {
        let sent = pattern(length, seed);
        let written =
            self.connection
                .write_rdma(self.tree, file, offset, &sent, Channel::RdmaV1, 3);
        assert_eq!(written.expect("WRITE"), length as u32);
        self.check(file, offset, &sent);
    }

    /// Reads by RDMA and compares.
    #[track_caller]
    pub fn check(&mut self, file: FileId, offset: u64, expected: &[u8]) {
        let length = expected.len() as u32;
        let read = self
            .connection
            .read_rdma(self.tree, file, offset, length, Channel::RdmaV1, 2)
            .expect("READ");
        let wrong = read
            .iter()
            .zip(expected)
            .position(|(one, other)| one != other);
        assert!(
            read.len() == expected.len() && wrong.is_none(),
            "{} bytes of {}, the first wrong one at {wrong:?}",
            read.len(),
            expected.len()
        );
    }

    /// Submits a WRITE with its bytes inline.
    pub fn submit_write(&mut self, file: FileId, offset: u64, data: &[u8]) -> MessageId {
        let body = write_body(file, offset, data);
        let length = data.len() as u32;
        let header = self
            .connection
            .payload_header(Command::Write, self.tree, length);
        self.connection.submit(header, &body).expect("it is queued")
    }

    /// Gathers SMB credits until there are that many.
    pub fn gather_credits(&mut self, wanted: u32) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.connection.credits() < wanted {
            assert!(
                Instant::now() < deadline,
                "the server grants {} credits",
                self.connection.credits()
            );
            self.connection.echo().expect("ECHO");
        }
    }
}

/// The connection's end of a [`Wire`].
struct Shared(Rc<RefCell<Wire>>);

impl Transport for Shared {
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError> {
        let wire = &mut *self.0.borrow_mut();
        match wire.sending {
            Sending::AtOnce => wire.smbdirect.send(message),
            Sending::Queued => {
                wire.smbdirect.queue(message);
                Ok(())
            }
            Sending::Fragments(size) => {
                wire.smbdirect.queue_in_fragments(message, size);
                Ok(())
            }
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
        self.0.borrow_mut().smbdirect.receive(patience)
    }

    fn rdma(&mut self) -> Option<&mut dyn RdmaTransport> {
        Some(self)
    }
}

impl RdmaTransport for Shared {
    fn expose(&mut self, contents: &[u8], access: Access) -> Result<ExposedMemory, ClientError> {
        self.0.borrow_mut().smbdirect.expose(contents, access)
    }

    fn contents(&mut self, memory: ExposedMemory) -> Result<Vec<u8>, ClientError> {
        self.0.borrow_mut().smbdirect.contents(memory)
    }

    fn withdraw(&mut self, memory: ExposedMemory) -> Result<bool, ClientError> {
        self.0.borrow_mut().smbdirect.withdraw(memory)
    }
}
