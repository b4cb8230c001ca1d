//! The connection manager's event channel: one descriptor that reports what happened to every
//! identifier made on it. An event is copied whole, private data included, and acknowledged
//! before it is handed out, so that destroying an identifier never waits for one.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use rdma_sys::{
    rdma_ack_cm_event, rdma_cm_event_type as kind, rdma_create_event_channel,
    rdma_destroy_event_channel, rdma_event_channel, rdma_get_cm_event,
};
use rustix::io::ioctl_fionbio;
use shm::SystemError;

use super::identifier::Identifier;
use super::{cm_result, last_error};

/// Where connection manager events come from.
#[derive(Debug)]
pub struct EventChannel {
    raw: NonNull<rdma_event_channel>,
}

/// What happened.
#[derive(Debug)]
pub enum CmEventKind {
    /// A peer wants to connect to the listener the event names; dropping `identifier` is no
    /// answer, reject it first.
    ConnectRequest {
        /// The new connection's identifier; its token is 0 until set.
        identifier: Identifier,
        /// RDMA READs this side may have outstanding; 0 if the peer did not say.
        initiator_depth: u8,
        /// RDMA READs the peer wants to have outstanding; 0 if it did not say.
        responder_resources: u8,
        /// What came with the request.
        private_data: Box<[u8]>,
    },
    /// Active: the peer's address belongs to this device now.
    AddressResolved,
    /// Active: there is a route to it.
    RouteResolved,
    /// The connection is up. Active side: with the peer's limits.
    Established {
        /// As in a request.
        initiator_depth: u8,
        /// As in a request.
        responder_resources: u8,
        /// What came with the acceptance.
        private_data: Box<[u8]>,
    },
    /// The connection is over.
    Disconnected,
    /// The connection could not be made; the text is the connection manager's name for why.
    Failed(&'static str),
    /// The device is being removed: everything on it must go.
    DeviceRemoval,
    /// The listener's or connection's address moved to another device.
    AddressChanged,
    /// The connection's identifiers may be used again. Nothing to do.
    TimewaitExit,
    /// Nothing this program waits for.
    Other(u32),
}

/// An event, and the token of the identifier it is about (a listener's for a request).
#[derive(Debug)]
pub struct CmEvent {
    /// As set by [`Identifier::set_token`].
    pub token: u64,
    /// The kernel's status: 0, a negative errno, or a reject reason.
    pub status: i32,
    /// What happened.
    pub kind: CmEventKind,
}

impl EventChannel {
    /// A channel that never blocks.
    pub fn new() -> Result<Rc<EventChannel>, SystemError> {
        // SAFETY: takes nothing, answers a channel or null.
        let raw = unsafe { rdma_create_event_channel() };
        let raw = NonNull::new(raw)
            .ok_or_else(|| last_error("open /dev/infiniband/rdma_cm (is rdma_ucm loaded?)"))?;
        let channel = EventChannel { raw };
        ioctl_fionbio(channel.as_fd(), true)
            .map_err(SystemError::of("make the event channel non-blocking"))?;
        Ok(Rc::new(channel))
    }

    pub(super) fn raw(&self) -> *mut rdma_event_channel {
        self.raw.as_ptr()
    }

    /// The next event, `None` when there is none now.
    pub fn next(self: &Rc<Self>) -> Result<Option<CmEvent>, SystemError> {
        let mut event = ptr::null_mut();
        // SAFETY: the channel is open; on success `event` points to an event of the library's.
        let answer = unsafe { rdma_get_cm_event(self.raw(), &mut event) };
        if let Err(error) = cm_result("take a connection manager event", answer) {
            return match error.source.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the event stays valid until acknowledged, below, after everything was copied.
        // `conn` is the member of the union that reliable connections fill, its private data is
        // readable for the length beside it.
        let copied = unsafe {
            let raw = &*event;
            let conn = raw.param.conn;
            let token = |id: *mut rdma_sys::rdma_cm_id| match NonNull::new(id) {
                Some(id) => (*id.as_ptr()).context as u64,
                None => 0,
            };
            let private_data = || match NonNull::new(conn.private_data.cast_mut()) {
                Some(data) => std::slice::from_raw_parts(
                    data.as_ptr().cast::<u8>(),
                    usize::from(conn.private_data_len),
                )
                .into(),
                None => Box::default(),
            };
            let mut subject = token(raw.id);
            let kind = match raw.event {
                kind::RDMA_CM_EVENT_CONNECT_REQUEST => {
                    subject = token(raw.listen_id);
                    let identifier = Identifier::received(self, raw.id);
                    identifier.set_token(0);
                    CmEventKind::ConnectRequest {
                        identifier,
                        initiator_depth: conn.initiator_depth,
                        responder_resources: conn.responder_resources,
                        private_data: private_data(),
                    }
                }
                kind::RDMA_CM_EVENT_ADDR_RESOLVED => CmEventKind::AddressResolved,
                kind::RDMA_CM_EVENT_ROUTE_RESOLVED => CmEventKind::RouteResolved,
                kind::RDMA_CM_EVENT_ESTABLISHED => CmEventKind::Established {
                    initiator_depth: conn.initiator_depth,
                    responder_resources: conn.responder_resources,
                    private_data: private_data(),
                },
                kind::RDMA_CM_EVENT_DISCONNECTED => CmEventKind::Disconnected,
                kind::RDMA_CM_EVENT_ADDR_ERROR => CmEventKind::Failed("address not resolved"),
                kind::RDMA_CM_EVENT_ROUTE_ERROR => CmEventKind::Failed("no route"),
                kind::RDMA_CM_EVENT_CONNECT_ERROR => CmEventKind::Failed("connect error"),
                kind::RDMA_CM_EVENT_UNREACHABLE => CmEventKind::Failed("unreachable"),
                kind::RDMA_CM_EVENT_REJECTED => CmEventKind::Failed("rejected"),
                kind::RDMA_CM_EVENT_DEVICE_REMOVAL => CmEventKind::DeviceRemoval,
                kind::RDMA_CM_EVENT_ADDR_CHANGE => CmEventKind::AddressChanged,
                kind::RDMA_CM_EVENT_TIMEWAIT_EXIT => CmEventKind::TimewaitExit,
                other => CmEventKind::Other(other),
            };
            CmEvent {
                token: subject,
                status: raw.status,
                kind,
            }
        };
        // SAFETY: acknowledged exactly once, nothing points into the event any more.
        unsafe { rdma_ack_cm_event(event) };
        Ok(Some(copied))
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel's descriptor stays open as long as the channel, which is borrowed.
        unsafe { BorrowedFd::borrow_raw((*self.raw()).fd) }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: every identifier holds a reference to its channel, so none is left.
        unsafe { rdma_destroy_event_channel(self.raw()) };
    }
}
