//! A channel for tests: keeps what is sent and reads nothing.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use proto::control::ConnectionKind;
use proto::relay::Descriptor;
use proto::smb2::NtStatus;

use super::{Channel, ChannelError, ChannelLimits, Outgoing, Payload, Reading, Transport};

/// See the module.
pub struct RecordingChannel {
    descriptor: OwnedFd,
    /// The largest reply it takes.
    pub max_send: Cell<u32>,
    /// What was sent, in order.
    pub sent: RefCell<Vec<Outgoing>>,
    /// Whether it was closed.
    pub closed: Cell<bool>,
}

impl Default for RecordingChannel {
    /// One that takes replies of up to 1 MiB.
    fn default() -> RecordingChannel {
        RecordingChannel {
            descriptor: shm::link::pair().unwrap().0,
            max_send: Cell::new(1 << 20),
            sent: RefCell::default(),
            closed: Cell::new(false),
        }
    }
}

impl RecordingChannel {
    /// The messages sent since the last call, each in one piece.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let sent = self.sent.take();
        sent.into_iter().map(|one| one.pieces.concat()).collect()
    }
}

impl Channel for RecordingChannel {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn kind(&self) -> ConnectionKind {
        ConnectionKind::Tcp
    }

    fn transport(&self) -> Transport {
        Transport::Tcp
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1000))
    }

    fn local(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 445))
    }

    fn device(&self) -> Option<String> {
        None
    }

    fn gateway_connection(&self) -> Option<u64> {
        None
    }

    fn limits(&self) -> ChannelLimits {
        ChannelLimits {
            max_send: self.max_send.get(),
            max_receive: 1 << 20,
            max_rdma: 0,
        }
    }

    fn receive(&self, _deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        Ok(())
    }

    fn replay(&self, preface: &[u8], deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        deliver(preface.to_vec());
        Ok(())
    }

    fn read_on(&self, _reading: Reading) {}

    fn wants_read(&self) -> bool {
        true
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn preface(&self) -> Vec<u8> {
        Vec::new()
    }

    fn partial_since(&self) -> Option<Instant> {
        None
    }

    fn send(&self, reply: Outgoing) {
        self.sent.borrow_mut().push(reply);
    }

    fn flush(&self) -> Result<bool, ChannelError> {
        Ok(true)
    }

    fn authenticated(&self) {}

    fn has_rdma(&self) -> bool {
        false
    }

    fn payload(&self, _length: u32) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
        ready(Err(NtStatus::INVALID_PARAMETER)).boxed_local()
    }

    fn fetch(
        &self,
        _descriptors: Vec<Descriptor>,
        _length: u32,
    ) -> LocalBoxFuture<'static, Result<Payload, NtStatus>> {
        ready(Err(NtStatus::INVALID_PARAMETER)).boxed_local()
    }

    fn relax(&self) {}

    fn close(&self) {
        self.closed.set(true);
    }

    fn hang_up(&self) {
        self.closed.set(true);
    }

    fn is_drained(&self) -> bool {
        true
    }
}
