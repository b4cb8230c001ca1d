//! Links: `SOCK_SEQPACKET` socketpairs that carry records, many to a datagram, with descriptors.
//!
//! The relay between smbdirectd and a child and every control socket is one. Neither end ever
//! blocks: what the socket does not take now is kept, in order, up to the backlog the link was
//! made with; more than that means that the other end owes us its counts, and is an error.
//! A datagram is copied out of the kernel once and parsed from that private copy.
//! [`Link`] is the trait both ends of a relay stand behind, so that a shared-memory ring can
//! carry the same records; the socket stays, for end of file.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

use crate::SystemError;

/// The longest datagram a link carries. The kernel's default send buffer (208 KiB) takes it.
pub const MAX_DATAGRAM: usize = 128 * 1024;
/// The most descriptors one datagram carries.
pub const MAX_DESCRIPTORS: usize = 4;
/// Records are gathered into one datagram up to this size.
const BATCH: usize = 32 * 1024;

/// Why a link can't be used any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end is gone.
    #[error("the other end closed the socket")]
    Closed,
    /// The other end does not read, and more is owed to it than was agreed.
    #[error("the other end reads nothing: {waiting} bytes wait for it, {limit} were agreed")]
    Backlog {
        /// Bytes that wait.
        waiting: usize,
        /// Bytes the link was made for.
        limit: usize,
    },
    /// A datagram was longer than [`MAX_DATAGRAM`] or carried more than [`MAX_DESCRIPTORS`].
    #[error("the other end sent a datagram over the limit")]
    Oversized,
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// A received datagram: whole records, and the descriptors that came with them.
#[derive(Debug)]
pub struct Datagram {
    buffer: Box<[u8]>,
    length: usize,
    /// Its descriptors, close-on-exec, in the order sent.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a record stream.
pub trait Link {
    /// Readable when [`Link::receive`] has something, writable when a kept backlog can move.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// The next datagram, `None` when there is none now. `into` is cleared and filled.
    fn receive(&mut self, into: &mut Datagram) -> Result<bool, LinkError>;
    /// Adds a record to the current batch; `encode` appends its bytes.
    fn queue(&mut self, encode: &mut dyn FnMut(&mut Vec<u8>));
    /// Adds a record that carries descriptors; it starts a datagram of its own.
    fn queue_with(&mut self, encode: &mut dyn FnMut(&mut Vec<u8>), descriptors: Vec<OwnedFd>);
    /// Sends what is queued; true when all of it is gone, false when the rest waits for the socket.
    fn flush(&mut self) -> Result<bool, LinkError>;
}

impl Datagram {
    /// An empty one, to be filled again and again by [`Link::receive`]. It takes memory with the
    /// first datagram only.
    pub fn new() -> Datagram {
        Datagram {
            buffer: Box::default(),
            length: 0,
            descriptors: Vec::new(),
        }
    }

    /// Forgets what it holds and gives its memory back, until the next datagram.
    pub fn release(&mut self) {
        *self = Datagram::new();
    }

    /// Its bytes, private to this process.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Whether the sender may have had more to say than one datagram takes. After any other one there
    /// is most likely none, and to ask would cost as much as to be woken by it.
    pub fn is_full(&self) -> bool {
        self.length >= BATCH
    }
}

impl Default for Datagram {
    fn default() -> Self {
        Datagram::new()
    }
}

/// A connected pair of seqpacket sockets, non-blocking and close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SystemError> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(SystemError::of("make a socketpair"))
}

/// A link over a seqpacket socket.
#[derive(Debug)]
pub struct SocketLink {
    socket: OwnedFd,
    backlog: usize,
    waiting: usize,
    queue: VecDeque<Outgoing>,
    /// An emptied datagram kept for its capacity.
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl SocketLink {
    /// A link that keeps at most `backlog` bytes for an end that does not read.
    pub fn new(socket: OwnedFd, backlog: usize) -> SocketLink {
        SocketLink {
            socket,
            backlog,
            waiting: 0,
            queue: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Gives the socket back, to be passed on. What was queued and not sent is lost.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn append(&mut self, encode: &mut dyn FnMut(&mut Vec<u8>), descriptors: Vec<OwnedFd>) {
        let joins = descriptors.is_empty()
            && self
                .queue
                .back()
                .is_some_and(|last| last.descriptors.is_empty() && last.bytes.len() < BATCH);
        if !joins {
            self.queue.push_back(Outgoing {
                bytes: std::mem::take(&mut self.spare),
                descriptors,
            });
        }
        if let Some(last) = self.queue.back_mut() {
            let before = last.bytes.len();
            encode(&mut last.bytes);
            self.waiting += last.bytes.len() - before;
            // A long record behind short ones gets a datagram of its own.
            if last.bytes.len() > MAX_DATAGRAM && before > 0 {
                let bytes = last.bytes.split_off(before);
                self.queue.push_back(Outgoing {
                    bytes,
                    descriptors: Vec::new(),
                });
            }
        }
    }
}

impl Link for SocketLink {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&mut self, into: &mut Datagram) -> Result<bool, LinkError> {
        receive(self.socket.as_fd(), into)
    }

    fn queue(&mut self, encode: &mut dyn FnMut(&mut Vec<u8>)) {
        self.append(encode, Vec::new());
    }

    fn queue_with(&mut self, encode: &mut dyn FnMut(&mut Vec<u8>), descriptors: Vec<OwnedFd>) {
        self.append(encode, descriptors);
    }

    fn flush(&mut self) -> Result<bool, LinkError> {
        while let Some(first) = self.queue.front() {
            match send(self.socket.as_fd(), &first.bytes, &first.descriptors) {
                Ok(()) => {
                    self.waiting -= first.bytes.len();
                    if let Some(mut sent) = self.queue.pop_front() {
                        sent.bytes.clear();
                        self.spare = sent.bytes;
                    }
                }
                Err(Errno::AGAIN) if self.waiting <= self.backlog => return Ok(false),
                Err(Errno::AGAIN) => {
                    return Err(LinkError::Backlog {
                        waiting: self.waiting,
                        limit: self.backlog,
                    });
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(LinkError::Closed),
                Err(errno) => return Err(SystemError::of("send on a link")(errno).into()),
            }
        }
        Ok(true)
    }
}

/// Receives one datagram into `into`, which is cleared first; false when there is none now.
pub fn receive(socket: BorrowedFd<'_>, into: &mut Datagram) -> Result<bool, LinkError> {
    into.descriptors.clear();
    into.length = 0;
    if into.buffer.is_empty() {
        into.buffer = vec![0; MAX_DATAGRAM].into_boxed_slice();
    }
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut into.buffer)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut parts, &mut ancillary, flags) {
            Ok(received) => break received,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::CONNRESET) => return Err(LinkError::Closed),
            Err(errno) => return Err(SystemError::of("receive on a link")(errno).into()),
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.descriptors.extend(descriptors);
        }
    }
    into.length = received.bytes.min(MAX_DATAGRAM);
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(LinkError::Oversized);
    }
    // Records are never empty, so no bytes is end of file.
    if received.bytes == 0 {
        return Err(LinkError::Closed);
    }
    Ok(true)
}

/// Sends one datagram with its descriptors, now or not at all.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[OwnedFd]) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if descriptors.is_empty() {
        // Most have none, and without a message header there is less for the kernel to copy.
        return loop {
            match rustix::net::send(socket, bytes, flags) {
                Ok(_) => break Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => break Err(errno),
            }
        };
    }
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(backlog: usize) -> (SocketLink, SocketLink) {
        let (left, right) = pair().unwrap();
        (
            SocketLink::new(left, backlog),
            SocketLink::new(right, backlog),
        )
    }

    #[test]
    fn records_of_one_turn_share_a_datagram() {
        let (mut left, mut right) = links(1 << 20);
        left.queue(&mut |out| out.extend_from_slice(b"first"));
        left.queue(&mut |out| out.extend_from_slice(b"second"));
        assert!(left.flush().unwrap());
        let mut datagram = Datagram::new();
        assert!(right.receive(&mut datagram).unwrap());
        assert_eq!(datagram.bytes(), b"firstsecond");
        assert!(!right.receive(&mut datagram).unwrap());
    }

    #[test]
    fn a_long_record_behind_short_ones_gets_a_datagram_of_its_own() {
        let (mut left, mut right) = links(1 << 20);
        left.queue(&mut |out| out.extend_from_slice(&[1; BATCH - 1]));
        left.queue(&mut |out| out.extend_from_slice(&[2; MAX_DATAGRAM - BATCH + 100]));
        left.queue(&mut |out| out.push(3));
        assert!(left.flush().unwrap());
        let mut datagram = Datagram::new();
        right.receive(&mut datagram).unwrap();
        assert_eq!(datagram.bytes(), [1; BATCH - 1]);
        right.receive(&mut datagram).unwrap();
        assert_eq!(datagram.bytes().len(), MAX_DATAGRAM - BATCH + 100);
        assert_eq!(datagram.bytes().first(), Some(&2));
        right.receive(&mut datagram).unwrap();
        assert_eq!(datagram.bytes(), [3]);
        assert_eq!(left.waiting(), 0);
    }

    #[test]
    fn descriptors_travel_with_their_record_and_close_on_exec() {
        let (mut left, mut right) = links(1 << 20);
        let (passed, kept) = pair().unwrap();
        left.queue(&mut |out| out.push(1));
        left.queue_with(&mut |out| out.push(2), vec![passed]);
        left.queue(&mut |out| out.push(3));
        left.flush().unwrap();
        let mut datagram = Datagram::new();
        right.receive(&mut datagram).unwrap();
        assert_eq!(
            (datagram.bytes(), datagram.descriptors.len()),
            (&[1u8][..], 0)
        );
        right.receive(&mut datagram).unwrap();
        assert_eq!(
            (datagram.bytes(), datagram.descriptors.len()),
            (&[2u8][..], 1)
        );
        let flags = rustix::io::fcntl_getfd(&datagram.descriptors[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        send(datagram.descriptors[0].as_fd(), b"through", &[]).unwrap();
        let mut other = Datagram::new();
        assert!(receive(kept.as_fd(), &mut other).unwrap());
        assert_eq!(other.bytes(), b"through");
    }

    #[test]
    fn an_end_that_never_reads_is_an_error_at_the_backlog_not_before() {
        let (mut left, _right) = links(64 * 1024);
        let mut sent = 0usize;
        let error = loop {
            left.queue(&mut |out| out.extend_from_slice(&[7; 1024]));
            sent += 1024;
            match left.flush() {
                Ok(_) => assert!(sent < 16 << 20, "nothing bounds the backlog"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LinkError::Backlog { waiting, .. } if waiting > 64 * 1024));
    }

    #[test]
    fn a_closed_end_is_noticed_on_both_sides() {
        let (mut left, right) = links(1024);
        drop(right);
        let mut datagram = Datagram::new();
        assert!(matches!(
            left.receive(&mut datagram),
            Err(LinkError::Closed)
        ));
        left.queue(&mut |out| out.push(1));
        assert!(matches!(left.flush(), Err(LinkError::Closed)));
    }

    #[test]
    fn an_oversized_datagram_is_refused() {
        let (left, mut right) = links(1 << 20);
        send(left.descriptor(), &vec![0; MAX_DATAGRAM + 1], &[]).unwrap();
        assert!(matches!(
            right.receive(&mut Datagram::new()),
            Err(LinkError::Oversized)
        ));
    }
}
