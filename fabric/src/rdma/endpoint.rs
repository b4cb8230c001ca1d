//! One end of a simulated connection, or a listener: the socket, what of the connection manager's
//! protocol was said on it, and the work queues its frames are for.
//!
//! ```text
//! passive: New --Connect--> Requested --accept--> Accepted --Ready--> Established
//! active:  New --connect--> Connecting ----------Accept-------------> Established
//! Established --disconnect--> Closing --Disconnected--> Over,  --Disconnect--> Left --> Over
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::event::epoll::EventFlags;
use shm::SystemError;

use super::event_channel::{CmEvent, CmEventKind, EventChannel, watch};
use super::frame::{Frame, decode, encode};
use super::queue_pair::Completion;
use super::settings::Fabric;
use super::work_queues::WorkQueues;
use super::{refused, status};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Listening,
    Connecting,
    Requested,
    Accepted,
    Established,
    /// This end has asked for the end.
    Closing,
    /// The peer has.
    Left,
    Over,
}

/// See above.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) token: u64,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) fabric: Rc<Fabric>,
    channel: Weak<EventChannel>,
    stage: Stage,
    listener: Option<(UnixListener, PathBuf)>,
    /// Passive: the token of the listener it came to, until the request is taken.
    came_to: Option<u64>,
    socket: Option<UnixStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// RDMA READs: as many as we want to have outstanding, and as we serve.
    depths: (u8, u8),
    /// What came with the request, or the acceptance.
    private_data: Box<[u8]>,
    queues: Option<WorkQueues>,
    /// `Established` is kept back until a receive was handed out.
    established_held: bool,
}

/// Where ephemeral ports begin.
const FIRST_PORT: u16 = 49152;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

impl Endpoint {
    pub(super) fn new(channel: &Rc<EventChannel>, fabric: &Rc<Fabric>) -> Endpoint {
        Endpoint {
            token: 0,
            local: None,
            peer: None,
            fabric: fabric.clone(),
            channel: Rc::downgrade(channel),
            stage: Stage::New,
            listener: None,
            came_to: None,
            socket: None,
            input: Vec::new(),
            output: Vec::new(),
            depths: (0, 0),
            private_data: Box::default(),
            queues: None,
            established_held: false,
        }
    }

    pub(super) fn bind(&mut self, address: SocketAddr) -> Result<(), SystemError> {
        if self.fabric.device_at(address.ip()).is_none() {
            return Err(refused("bind an RDMA address", libc::ENODEV));
        }
        self.local = Some(address);
        Ok(())
    }

    pub(super) fn listen(&mut self) -> Result<(), SystemError> {
        const WHAT: &str = "listen on an RDMA address";
        let address = self.local.ok_or_else(|| refused(WHAT, libc::EINVAL))?;
        let path = self.fabric.socket_of(address);
        let listener = match UnixListener::bind(&path) {
            // Whoever listened there may have died.
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if UnixStream::connect(&path).is_ok() {
                    return Err(SystemError::of(WHAT)(error));
                }
                let _ = std::fs::remove_file(&path);
                UnixListener::bind(&path)
            }
            other => other,
        }
        .map_err(SystemError::of(WHAT))?;
        listener
            .set_nonblocking(true)
            .map_err(SystemError::of(WHAT))?;
        if let Some(channel) = self.channel.upgrade() {
            channel.watch(listener.as_fd(), EventFlags::IN)?;
        }
        self.listener = Some((listener, path));
        self.stage = Stage::Listening;
        Ok(())
    }

    /// A connection to this listener.
    pub(super) fn accept_socket(&mut self) -> Option<UnixStream> {
        let (listener, _) = self.listener.as_ref()?;
        let (socket, _) = listener.accept().ok()?;
        Some(socket)
    }

    pub(super) fn take_socket(
        &mut self,
        socket: UnixStream,
        listener: u64,
    ) -> Result<(), SystemError> {
        self.came_to = Some(listener);
        self.use_socket(socket)
    }

    /// The whole connection request, once.
    pub(super) fn take_request(&mut self) -> Option<(u64, u8, u8, Box<[u8]>)> {
        if self.stage != Stage::Requested {
            return None;
        }
        let listener = self.came_to.take()?;
        // What the peer serves is what we may have outstanding, and the other way round.
        let private_data = std::mem::take(&mut self.private_data);
        Some((listener, self.depths.0, self.depths.1, private_data))
    }

    pub(super) fn is_over(&self) -> bool {
        self.socket.is_none() && self.listener.is_none()
    }

    pub(super) fn resolve_address(&mut self, to: SocketAddr) {
        let device = self
            .fabric
            .devices
            .iter()
            .find(|device| device.address.is_ipv4() == to.is_ipv4());
        let kind = match device {
            Some(device) => {
                let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST_PORT);
                self.local = Some(SocketAddr::new(device.address, FIRST_PORT + port));
                self.peer = Some(to);
                CmEventKind::AddressResolved
            }
            None => CmEventKind::Failed("address not resolved"),
        };
        self.report(kind, 0);
    }

    pub(super) fn resolve_route(&mut self) {
        self.report(CmEventKind::RouteResolved, 0);
    }

    pub(super) fn connect(
        &mut self,
        initiator: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        let (Stage::New, Some(local), Some(peer)) = (self.stage, self.local, self.peer) else {
            return Err(refused("connect", libc::EINVAL));
        };
        self.stage = Stage::Connecting;
        self.depths = (initiator, resources);
        let Ok(socket) = UnixStream::connect(self.fabric.socket_of(peer)) else {
            self.stage = Stage::Over;
            // 8: invalid service id, what a port nobody listens on answers.
            self.report(CmEventKind::Failed("rejected"), 8);
            return Ok(());
        };
        self.use_socket(socket)?;
        let frame = Frame::Connect {
            address: local,
            initiator_depth: initiator,
            responder_resources: resources,
        };
        encode(&frame, private_data, &mut self.output);
        self.flush();
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        initiator: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        if self.stage != Stage::Requested {
            return Err(refused("accept a connection", libc::EINVAL));
        }
        self.stage = Stage::Accepted;
        self.queues()?.connect(initiator);
        let frame = Frame::Accept {
            initiator_depth: initiator,
            responder_resources: resources,
        };
        encode(&frame, private_data, &mut self.output);
        self.pump();
        Ok(())
    }

    pub(super) fn reject(&mut self) {
        self.say(&Frame::Reject);
        self.flush();
        self.stage = Stage::Over;
        self.socket = None;
    }

    pub(super) fn disconnect(&mut self) -> Result<(), SystemError> {
        match self.stage {
            Stage::Established | Stage::Accepted => {
                self.say(&Frame::Disconnect);
                self.stage = Stage::Closing;
            }
            Stage::Left => {
                self.say(&Frame::Disconnected);
                self.stage = Stage::Over;
            }
            _ => return Err(refused("disconnect", libc::EINVAL)),
        }
        if let Some(queues) = &mut self.queues {
            queues.fail();
        }
        self.flush();
        Ok(())
    }

    pub(super) fn give_queues(&mut self, queues: WorkQueues) -> Result<(), SystemError> {
        self.queues = Some(queues);
        self.watch_socket()
    }

    pub(super) fn queues(&mut self) -> Result<&mut WorkQueues, SystemError> {
        self.queues
            .as_mut()
            .ok_or_else(|| refused("use a queue pair", libc::EINVAL))
    }

    pub(super) fn drop_queues(&mut self) {
        self.queues = None;
    }

    pub(super) fn poll(&mut self, into: &mut Vec<Completion>) {
        self.pump();
        let received = self.queues.as_mut().is_some_and(|queues| queues.poll(into));
        if received && self.established_held {
            self.established_held = false;
            self.report_established();
        }
    }

    /// Does the device's work: takes in what has arrived, answers it, sends what may go.
    pub(super) fn pump(&mut self) {
        let open = self.read();
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut intact = true;
        while let Ok(next) = decode(rest).inspect_err(|_| intact = false) {
            let Some(received) = next else {
                break;
            };
            self.handle(received.frame, received.data);
            rest = rest.get(received.length..).unwrap_or_default();
        }
        // Moved only when something is left, and without shrinking the buffer.
        let left = rest.len();
        let mut input = input;
        input.drain(..input.len() - left);
        self.input = input;
        if let Some(queues) = &mut self.queues {
            queues.transmit(&mut self.output);
        }
        self.flush();
        if !open || !intact {
            self.lose_peer();
        }
    }

    /// Reads all there is; false at the end of the stream.
    fn read(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            return true;
        };
        let mut chunk = [0; 64 * 1024];
        loop {
            match socket.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => self
                    .input
                    .extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn handle(&mut self, frame: Frame, data: &[u8]) {
        match (frame, self.stage) {
            (
                Frame::Connect {
                    address,
                    initiator_depth,
                    responder_resources,
                },
                Stage::New,
            ) => {
                self.peer = Some(address);
                self.depths = (responder_resources, initiator_depth);
                self.private_data = data.into();
                self.stage = Stage::Requested;
            }
            (
                Frame::Accept {
                    initiator_depth,
                    responder_resources,
                },
                Stage::Connecting,
            ) => {
                let reads = self.depths.0.min(responder_resources);
                self.depths = (responder_resources, initiator_depth);
                self.private_data = data.into();
                self.stage = Stage::Established;
                if let Some(queues) = &mut self.queues {
                    queues.connect(reads);
                }
                self.say(&Frame::Ready);
                self.report_established();
            }
            (Frame::Reject, Stage::Connecting) => {
                self.stage = Stage::Over;
                // 28: rejected by the consumer.
                self.report(CmEventKind::Failed("rejected"), 28);
            }
            (Frame::Ready, Stage::Accepted) => {
                self.stage = Stage::Established;
                if self.fabric.receive_before_established {
                    self.established_held = true;
                } else {
                    self.report_established();
                }
            }
            (Frame::Disconnect, Stage::Established | Stage::Accepted) => {
                self.stage = Stage::Left;
                self.report(CmEventKind::Disconnected, 0);
            }
            (Frame::Disconnect | Frame::Disconnected, Stage::Closing) => {
                self.stage = Stage::Over;
                self.report(CmEventKind::Disconnected, 0);
            }
            (Frame::Done, _) => {
                if let Some(queues) = &mut self.queues {
                    queues.answered(data);
                }
            }
            (Frame::Refused { status: number }, _) => {
                if let Some(queues) = &mut self.queues {
                    queues.fail_head(status::of_refusal(number));
                }
            }
            (frame @ (Frame::Send { .. } | Frame::Write { .. } | Frame::Read { .. }), _) => {
                match &mut self.queues {
                    Some(queues) => queues.serve(&frame, data, &mut self.output),
                    None => encode(&Frame::Refused { status: 12 }, &[], &mut self.output),
                }
            }
            _ => {}
        }
    }

    /// The other end's machine is gone.
    fn lose_peer(&mut self) {
        self.socket = None;
        self.output.clear();
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match stage {
            Stage::Connecting => self.report(CmEventKind::Failed("rejected"), 28),
            Stage::Accepted => self.report(CmEventKind::Failed("connect error"), 0),
            Stage::Established | Stage::Closing => self.report(CmEventKind::Disconnected, 0),
            _ => {}
        }
        if let Some(queues) = &mut self.queues {
            queues.lose_peer();
        }
    }

    fn use_socket(&mut self, socket: UnixStream) -> Result<(), SystemError> {
        socket
            .set_nonblocking(true)
            .map_err(SystemError::of("make a connection non-blocking"))?;
        self.socket = Some(socket);
        self.watch_socket()
    }

    /// Both descriptors of this end tell of frames: whichever its owner waits for, work goes on.
    fn watch_socket(&self) -> Result<(), SystemError> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let flags = if self.output.is_empty() {
            EventFlags::IN
        } else {
            EventFlags::IN | EventFlags::OUT
        };
        if let Some(channel) = self.channel.upgrade() {
            channel.watch(socket.as_fd(), flags)?;
        }
        match &self.queues {
            Some(queues) => watch(queues.poller(), socket.as_fd(), flags),
            None => Ok(()),
        }
    }

    fn say(&mut self, frame: &Frame) {
        encode(frame, &[], &mut self.output);
    }

    fn flush(&mut self) {
        let waited = !self.output.is_empty();
        let mut sent = 0;
        while let Some(socket) = &mut self.socket
            && let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty())
        {
            match socket.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A broken pipe is noticed by the next read.
                Err(_) => break,
            }
        }
        self.output.drain(..sent);
        if waited {
            let _ = self.watch_socket();
        }
    }

    fn report_established(&self) {
        let (initiator_depth, responder_resources) = self.depths;
        self.report(
            CmEventKind::Established {
                initiator_depth,
                responder_resources,
                private_data: self.private_data.clone(),
            },
            0,
        );
    }

    fn report(&self, kind: CmEventKind, status: i32) {
        if let Some(channel) = self.channel.upgrade() {
            let token = self.token;
            channel.push(CmEvent {
                token,
                status,
                kind,
            });
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.flush();
        if let Some((_, path)) = &self.listener {
            let _ = std::fs::remove_file(path);
        }
    }
}
