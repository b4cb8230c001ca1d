//! A control link: `proto::control` messages over a `shm::link::SocketLink`.
//!
//! Used by supervisor, zygote, broker and children alike. An error means the end of the link;
//! what that means for the process behind it is the caller's decision.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proto::control::{self, ControlError, ControlMessage};
use shm::link::{Datagram, Link, LinkError, SocketLink};

/// Datagrams taken in one call, so that one busy end does not starve the others.
const BATCH: usize = 64;

/// Why a control link is at its end.
#[derive(Debug, thiserror::Error)]
pub enum ControlLinkError {
    /// The socket failed or is closed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The other end sent what is no message.
    #[error(transparent)]
    Message(#[from] ControlError),
}

impl ControlLinkError {
    /// True when the other end just closed, which is no fault.
    pub fn is_closed(&self) -> bool {
        matches!(self, ControlLinkError::Link(LinkError::Closed))
    }
}

/// One end: receives `I`, sends `O`.
#[derive(Debug)]
pub struct ControlLink<I, O> {
    link: SocketLink,
    messages: PhantomData<fn(O) -> I>,
}

impl<I: ControlMessage, O: ControlMessage> ControlLink<I, O> {
    /// A link over this end of a `shm::link::pair`.
    pub fn new(socket: OwnedFd) -> ControlLink<I, O> {
        ControlLink {
            link: SocketLink::new(socket, control::BACKLOG),
            messages: PhantomData,
        }
    }

    /// Queues a message.
    pub fn send(&mut self, message: &O) {
        debug_assert_eq!(message.descriptors(), 0, "send_with carries descriptors");
        self.link.queue(&mut |out| control::encode(message, out));
    }

    /// Queues a message with the descriptors it carries.
    pub fn send_with(&mut self, message: &O, descriptors: Vec<OwnedFd>) {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        self.link
            .queue_with(&mut |out| control::encode(message, out), descriptors);
    }

    /// Pushes out what is queued; false when the rest waits for the socket to be writable.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        self.link.flush()
    }

    /// True while something queued has not been taken by the socket.
    pub fn is_behind(&self) -> bool {
        self.link.waiting() > 0
    }

    /// Hands out what has arrived, in order. `datagram` is scratch space. On an error, what came
    /// before it has been handed out.
    pub fn receive(
        &mut self,
        datagram: &mut Datagram,
        mut deliver: impl FnMut(I, Vec<OwnedFd>),
    ) -> Result<(), ControlLinkError> {
        // All of it: whoever decides to end must have read what was asked of it before.
        for _ in 0..BATCH {
            if !self.link.receive(datagram)? {
                break;
            }
            let mut descriptors = std::mem::take(&mut datagram.descriptors);
            for message in control::decode::<I>(datagram.bytes(), descriptors.len()) {
                // A message with descriptors is alone in its datagram, so the first takes all.
                deliver(message?, std::mem::take(&mut descriptors));
            }
        }
        Ok(())
    }
}

impl<I, O> AsFd for ControlLink<I, O> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.descriptor()
    }
}
