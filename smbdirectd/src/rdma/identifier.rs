//! A connection manager identifier: a listener, or one end of a connection before and beside its
//! queue pair. Destroyed on drop; a queue pair made on it owns it and goes first.

use std::ffi::{c_int, c_void};
use std::mem;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use rdma_sys::{
    rdma_accept, rdma_bind_addr, rdma_cm_id, rdma_conn_param, rdma_connect, rdma_create_id,
    rdma_destroy_id, rdma_disconnect, rdma_listen, rdma_port_space::RDMA_PS_TCP, rdma_reject,
    rdma_resolve_addr, rdma_resolve_route,
};
use shm::SystemError;

use super::cm_result;
use super::event_channel::EventChannel;

/// An identifier and the channel its events come from.
#[derive(Debug)]
pub struct Identifier {
    raw: NonNull<rdma_cm_id>,
    /// Outlives the identifier, as librdmacm demands.
    _channel: Rc<EventChannel>,
}

/// Transport retries before a peer counts as gone, MS-SMBD names none; seven is the field's end.
const RETRY_COUNT: u8 = 6;

impl Identifier {
    /// A new one, for listening or connecting.
    pub fn new(channel: &Rc<EventChannel>) -> Result<Identifier, SystemError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the channel is open and outlives the identifier by the reference kept below.
        let answer =
            unsafe { rdma_create_id(channel.raw(), &mut raw, ptr::null_mut(), RDMA_PS_TCP) };
        cm_result("create an identifier", answer)?;
        NonNull::new(raw)
            .map(|raw| Identifier {
                raw,
                _channel: channel.clone(),
            })
            .ok_or_else(|| super::last_error("create an identifier"))
    }

    /// The identifier a connection request brought along.
    ///
    /// # Safety
    /// `raw` is a live identifier on `channel` that nobody else destroys.
    pub(super) unsafe fn received(channel: &Rc<EventChannel>, raw: *mut rdma_cm_id) -> Identifier {
        Identifier {
            // SAFETY: live, so not null.
            raw: unsafe { NonNull::new_unchecked(raw) },
            _channel: channel.clone(),
        }
    }

    pub(super) fn raw(&self) -> *mut rdma_cm_id {
        self.raw.as_ptr()
    }

    /// The number its events carry.
    pub fn set_token(&self, token: u64) {
        // SAFETY: the identifier is live; librdmacm never reads its `context`.
        unsafe { (*self.raw()).context = token as usize as *mut c_void };
    }

    /// Takes a local address: afterwards the identifier belongs to the device of that address,
    /// or the error says that it belongs to none (ENODEV).
    pub fn bind(&self, address: SocketAddr) -> Result<(), SystemError> {
        let mut storage = to_storage(address);
        // SAFETY: the storage holds a whole socket address of its family, and is only read.
        let answer = unsafe { rdma_bind_addr(self.raw(), ptr::from_mut(&mut storage).cast()) };
        cm_result("bind an RDMA address", answer)
    }

    /// Starts to listen on the bound address.
    pub fn listen(&self, backlog: u16) -> Result<(), SystemError> {
        // SAFETY: the identifier is live.
        let answer = unsafe { rdma_listen(self.raw(), c_int::from(backlog)) };
        cm_result("listen on an RDMA address", answer)
    }

    /// Active: asks which device reaches `to`; `AddressResolved` or `Failed` follows.
    pub fn resolve_address(&self, to: SocketAddr, timeout_ms: u16) -> Result<(), SystemError> {
        let mut storage = to_storage(to);
        // SAFETY: as in `bind`; a null source lets the routing table choose.
        let answer = unsafe {
            rdma_resolve_addr(
                self.raw(),
                ptr::null_mut(),
                ptr::from_mut(&mut storage).cast(),
                c_int::from(timeout_ms),
            )
        };
        cm_result("resolve an RDMA address", answer)
    }

    /// Active: asks for the way there; `RouteResolved` or `Failed` follows.
    pub fn resolve_route(&self, timeout_ms: u16) -> Result<(), SystemError> {
        // SAFETY: the identifier is live.
        let answer = unsafe { rdma_resolve_route(self.raw(), c_int::from(timeout_ms)) };
        cm_result("resolve an RDMA route", answer)
    }

    /// Active: connects the queue pair made on this identifier.
    pub(super) fn connect(
        &self,
        initiator_depth: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        let mut parameters = connection_parameters(initiator_depth, resources, private_data);
        // SAFETY: the parameters and the private data they name are copied by the call.
        let answer = unsafe { rdma_connect(self.raw(), &mut parameters) };
        cm_result("connect", answer)
    }

    /// Passive: accepts, with the queue pair made on this identifier.
    pub(super) fn accept(
        &self,
        initiator_depth: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        let mut parameters = connection_parameters(initiator_depth, resources, private_data);
        // SAFETY: as in `connect`.
        let answer = unsafe { rdma_accept(self.raw(), &mut parameters) };
        cm_result("accept a connection", answer)
    }

    /// Passive: refuses the request this identifier came with.
    pub fn reject(self) -> Result<(), SystemError> {
        // SAFETY: the identifier is live, there is no private data.
        let answer = unsafe { rdma_reject(self.raw(), ptr::null(), 0) };
        cm_result("reject a connection", answer)
    }

    /// Ends the connection; its queue pair goes to error.
    pub fn disconnect(&self) -> Result<(), SystemError> {
        // SAFETY: the identifier is live.
        let answer = unsafe { rdma_disconnect(self.raw()) };
        cm_result("disconnect", answer)
    }

    /// The address of this end.
    pub fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: the identifier is live; its source address is a `sockaddr_storage`, large
        // enough for every family, and read by value.
        let storage = unsafe { (*self.raw()).route.addr.src_addr_union.src_storage };
        from_storage(&storage)
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: as for the local one.
        let storage = unsafe { (*self.raw()).route.addr.dst_addr_union.dst_storage };
        from_storage(&storage)
    }
}

impl Drop for Identifier {
    fn drop(&mut self) {
        // SAFETY: destroyed exactly once; events are acknowledged as they are taken, and a queue
        // pair made on it was destroyed by its owner before.
        unsafe { rdma_destroy_id(self.raw()) };
    }
}

/// Valid as long as the private data, which is cut to what a connection manager carries at most.
fn connection_parameters(
    initiator_depth: u8,
    responder_resources: u8,
    private_data: &[u8],
) -> rdma_conn_param {
    let (data, length) = match u8::try_from(private_data.len()) {
        Ok(0) => (ptr::null(), 0),
        length => (private_data.as_ptr().cast(), length.unwrap_or(u8::MAX)),
    };
    rdma_conn_param {
        private_data: data,
        private_data_len: length,
        responder_resources,
        initiator_depth,
        flow_control: 0,
        retry_count: RETRY_COUNT,
        // Credits make a receiver that is not ready impossible: retrying would hide a fault.
        rnr_retry_count: 0,
        srq: 0,
        qp_num: 0,
    }
}

fn to_storage(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: all zeroes is a valid value of this plain C structure.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let target = ptr::from_mut(&mut storage);
    match address.ip() {
        IpAddr::V4(ip) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is aligned and large enough for every socket address.
            unsafe { target.cast::<libc::sockaddr_in>().write(value) };
        }
        IpAddr::V6(ip) => {
            let scope = match address {
                SocketAddr::V6(v6) => v6.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                sin6_scope_id: scope,
            };
            // SAFETY: as above.
            unsafe { target.cast::<libc::sockaddr_in6>().write(value) };
        }
    }
    storage
}

fn from_storage(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let source = ptr::from_ref(storage);
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: aligned and large enough, and any bytes are a valid value.
            let value = unsafe { source.cast::<libc::sockaddr_in>().read() };
            let ip = value.sin_addr.s_addr.to_ne_bytes().into();
            Some(SocketAddrV4::new(ip, u16::from_be(value.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let value = unsafe { source.cast::<libc::sockaddr_in6>().read() };
            Some(
                SocketAddrV6::new(
                    value.sin6_addr.s6_addr.into(),
                    u16::from_be(value.sin6_port),
                    0,
                    value.sin6_scope_id,
                )
                .into(),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_trip_through_the_kernels_form() {
        for text in ["10.9.0.1:445", "[fd00::9]:5445", "[fe80::1%7]:445"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_storage(&to_storage(address)), Some(address));
        }
    }

    #[test]
    fn an_unknown_family_is_no_address() {
        let mut storage = to_storage("10.0.0.1:1".parse().unwrap());
        storage.ss_family = libc::AF_UNIX as libc::sa_family_t;
        assert_eq!(from_storage(&storage), None);
    }
}
