//! A TCP connection: Direct TCP framing (MS-SMB2 2.1), a 4-byte big-endian length before each
//! message. Reads large messages straight into their own buffer, writes replies from theirs.
//!
//! While it is not known which process serves the client, exactly one message is read and not a
//! byte more: the rest belongs to whoever gets the socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use proto::control::ConnectionKind;
use proto::relay::Descriptor;
use proto::smb2::NtStatus;
use shm::SystemError;

use super::{
    Buffers, Channel, ChannelError, ChannelLimits, Outgoing, Payload, Piece, Reading, Transport,
};
use crate::sys::file;

/// StreamProtocolLength has 24 bits.
const MAX_FRAME: u32 = 0x00FF_FFFF;
const PREFIX: usize = 4;
/// A longest SESSION_SETUP: nothing else is allowed before a session is authenticated.
const MAX_UNAUTHENTICATED: u32 = 68 * 1024;
/// Read at once where the size of what comes is not known.
const READ_AHEAD: usize = 64 * 1024;
/// Read at once behind a long message: what follows is likely as long, and best read to where it
/// stays.
const READ_AHEAD_OF_LONG: usize = 256;
/// A message of this length is long, and the last of its turn: where its request ends at once, the
/// next is read into the same buffer, which is still in the processor's cache.
const LONG: usize = 128 * 1024;
/// More than this owed to a client that does not read, and nothing more is read from it.
const MAX_QUEUED: usize = 32 << 20;
/// Pieces written by one system call.
const MAX_PIECES: usize = 64;
/// Messages taken in one turn, so that other channels get theirs.
const MAX_MESSAGES: usize = 64;

/// One TCP connection.
#[derive(Debug)]
pub struct TcpChannel {
    socket: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    max_message: u32,
    buffers: Buffers,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    reading: Reading,
    authenticated: bool,
    /// Bytes read and not parsed: `ahead[start..]`.
    ahead: Vec<u8>,
    start: usize,
    partial: Option<Partial>,
    /// The message before was long.
    after_long: bool,
    /// The socket gave less than there was room for: nothing is left until the loop is woken again.
    is_dry: bool,
    /// Since when a message has been arriving; from a client that is logged on, since when nothing
    /// more of it has.
    partial_since: Option<Instant>,
    /// The message read last, kept until it is known who serves the client.
    preface: Vec<u8>,
    output: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    queued: usize,
}

/// A message whose length is known.
#[derive(Debug)]
struct Partial {
    buffer: Vec<u8>,
    length: usize,
}

impl TcpChannel {
    /// Takes a connected socket. `max_message` bounds what an authenticated client may send.
    pub fn new(
        socket: OwnedFd,
        max_message: u32,
        buffers: Buffers,
    ) -> Result<TcpChannel, SystemError> {
        let socket = TcpStream::from(socket);
        socket
            .set_nonblocking(true)
            .map_err(SystemError::of("make a socket non-blocking"))?;
        // Both only tune: a socket that is no TCP socket in a test works without.
        let _ = socket.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
        let peer = socket
            .peer_addr()
            .map_err(SystemError::of("ask a socket for its peer"))?;
        let local = socket
            .local_addr()
            .map_err(SystemError::of("ask a socket for its address"))?;
        Ok(TcpChannel {
            socket,
            peer,
            local,
            max_message: max_message.min(MAX_FRAME),
            buffers,
            state: RefCell::new(State {
                reading: Reading::OneMessage,
                authenticated: false,
                ahead: Vec::new(),
                start: 0,
                partial: None,
                after_long: false,
                is_dry: false,
                partial_since: None,
                preface: Vec::new(),
                output: VecDeque::new(),
                sent: 0,
                queued: 0,
            }),
        })
    }
}

impl State {
    /// The next whole message, `None` when more must arrive first.
    fn next_message(
        &mut self,
        socket: &TcpStream,
        limit: u32,
        buffers: &Buffers,
    ) -> Result<Option<Vec<u8>>, ChannelError> {
        loop {
            if let Some(partial) = &mut self.partial {
                let missing = partial.length - partial.buffer.len();
                let buffered = self.ahead.get(self.start..).unwrap_or_default();
                let taken = buffered.get(..missing).unwrap_or(buffered);
                partial.buffer.extend_from_slice(taken);
                self.start += taken.len();
                let missing = partial.length - partial.buffer.len();
                if missing > 0 {
                    if self.is_dry {
                        return Ok(None);
                    }
                    match file::append(socket.as_fd(), &mut partial.buffer, missing) {
                        Ok(0) => return Err(ChannelError::Closed),
                        Ok(read) if read < missing => {
                            // A long WRITE may take its time over a slow line, as long as it
                            // goes on. Who has not logged on sends nothing long.
                            if self.authenticated {
                                self.partial_since = Some(Instant::now());
                            }
                            continue;
                        }
                        Ok(_) => {}
                        Err(error) => return nothing_yet(error.into()),
                    }
                }
                self.partial_since = None;
                return Ok(self.partial.take().map(|partial| partial.buffer));
            }
            let buffered = self.ahead.get(self.start..).unwrap_or_default();
            if let Some((prefix, _)) = buffered.split_first_chunk::<PREFIX>() {
                let length = u32::from_be_bytes(*prefix);
                self.start += PREFIX;
                if length == 0 || length > limit {
                    return Err(ChannelError::Violation(format!(
                        "a frame of {length:#x}, allowed are 1 to {limit} bytes now (MS-SMB2 2.1)"
                    )));
                }
                self.partial_since.get_or_insert_with(Instant::now);
                self.after_long = length as usize >= LONG;
                let mut buffer = buffers.spare(length as usize);
                buffer.reserve_exact(length as usize);
                self.partial = Some(Partial {
                    buffer,
                    length: length as usize,
                });
                continue;
            }
            if self.is_dry {
                return Ok(None);
            }
            self.read_ahead(socket)?;
            if self.ahead.len() - self.start < PREFIX {
                return Ok(None);
            }
        }
    }

    fn read_ahead(&mut self, socket: &TcpStream) -> Result<(), ChannelError> {
        self.ahead.drain(..self.start);
        self.start = 0;
        let limit = match self.reading {
            Reading::Freely if self.after_long => READ_AHEAD_OF_LONG,
            Reading::Freely => READ_AHEAD,
            Reading::OneMessage | Reading::Nothing => PREFIX,
        };
        let room = limit.saturating_sub(self.ahead.len());
        match file::append(socket.as_fd(), &mut self.ahead, room) {
            Ok(0) => Err(ChannelError::Closed),
            Ok(read) => {
                self.is_dry = read < room;
                self.partial_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Err(error) => nothing_yet(error.into()).map(|_: Option<()>| ()),
        }
    }

    /// Drops what the socket has taken.
    fn written(&mut self, mut count: usize, buffers: &Buffers) {
        self.queued -= count;
        while let Some(first) = self.output.front() {
            let left = first.len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            if let Some(piece) = self.output.pop_front() {
                buffers.put(piece.into_buffer());
            }
        }
    }
}

impl Channel for TcpChannel {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn kind(&self) -> ConnectionKind {
        ConnectionKind::Tcp
    }

    fn transport(&self) -> Transport {
        Transport::Tcp
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn device(&self) -> Option<String> {
        None
    }

    fn gateway_connection(&self) -> Option<u64> {
        None
    }

    fn limits(&self) -> ChannelLimits {
        ChannelLimits {
            max_send: MAX_FRAME,
            max_receive: self.max_message,
            max_rdma: 0,
        }
    }

    fn receive(&self, deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        let mut messages = Vec::new();
        let mut outcome = Ok(());
        {
            let state = &mut *self.state.borrow_mut();
            state.is_dry = false;
            let limit = match state.authenticated {
                true => self.max_message,
                false => MAX_UNAUTHENTICATED,
            };
            let mut is_long = false;
            while messages.len() < MAX_MESSAGES && !is_long && state.reading != Reading::Nothing {
                match state.next_message(&self.socket, limit, &self.buffers) {
                    Ok(None) => break,
                    Ok(Some(message)) => {
                        if state.reading == Reading::OneMessage {
                            state.reading = Reading::Nothing;
                            state.preface.clone_from(&message);
                        }
                        is_long = message.len() >= LONG;
                        messages.push(message);
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        }
        // Delivered without the borrow: a message may end this channel.
        messages.into_iter().for_each(deliver);
        outcome
    }

    fn replay(&self, preface: &[u8], deliver: &mut dyn FnMut(Vec<u8>)) -> Result<(), ChannelError> {
        {
            let state = &mut *self.state.borrow_mut();
            state.reading = Reading::Nothing;
            state.preface = preface.to_vec();
        }
        deliver(preface.to_vec());
        Ok(())
    }

    fn read_on(&self, reading: Reading) {
        let state = &mut *self.state.borrow_mut();
        state.reading = reading;
        state.preface = Vec::new();
    }

    fn wants_read(&self) -> bool {
        let state = self.state.borrow();
        state.reading != Reading::Nothing && state.queued <= MAX_QUEUED
    }

    fn has_unread(&self) -> bool {
        let state = self.state.borrow();
        state.reading != Reading::Nothing && state.ahead.len() - state.start >= PREFIX
    }

    fn preface(&self) -> Vec<u8> {
        self.state.borrow().preface.clone()
    }

    fn is_between_messages(&self) -> bool {
        let state = self.state.borrow();
        state.ahead.len() == state.start && state.partial.is_none() && state.output.is_empty()
    }

    fn partial_since(&self) -> Option<Instant> {
        self.state.borrow().partial_since
    }

    fn send(&self, reply: Outgoing) {
        let state = &mut *self.state.borrow_mut();
        let length: usize = reply.pieces.iter().map(|piece| piece.len()).sum();
        let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        state.queued += length + PREFIX;
        let mut pieces = reply.pieces.into_iter();
        if let Some(mut first) = pieces.next() {
            if !first.prepend(&prefix) {
                state.output.push_back(prefix.to_vec().into());
            }
            state.output.push_back(first);
        }
        state.output.extend(pieces);
    }

    fn flush(&self) -> Result<bool, ChannelError> {
        let state = &mut *self.state.borrow_mut();
        while !state.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES];
            let mut skip = state.sent;
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(&state.output) {
                *slot = IoSlice::new(piece.get(skip..).unwrap_or_default());
                skip = 0;
                count += 1;
            }
            match (&self.socket).write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(written) => state.written(written, &self.buffers),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(true)
    }

    fn authenticated(&self) {
        self.state.borrow_mut().authenticated = true;
    }

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

    fn relax(&self) {
        let state = &mut *self.state.borrow_mut();
        state.ahead.drain(..state.start);
        state.start = 0;
        state.ahead.shrink_to_fit();
        state.output.shrink_to_fit();
    }

    fn close(&self) {
        self.state.borrow_mut().reading = Reading::Nothing;
    }

    fn hang_up(&self) {
        // An error means that it is down already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn is_drained(&self) -> bool {
        true
    }
}

/// Not an error where the socket only has nothing now.
fn nothing_yet<T>(error: io::Error) -> Result<Option<T>, ChannelError> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(lost(error)),
    }
}

fn lost(error: io::Error) -> ChannelError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ChannelError::Closed,
        _ => ChannelError::System(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
