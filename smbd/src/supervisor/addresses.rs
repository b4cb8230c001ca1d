//! This machine's addresses: what is listened on, and what clients are told.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use proto::control::child::ToChild;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, netlink, socket_with};
use shm::SystemError;

use super::listeners::{self, Listener, advice};
use super::{Supervisor, interfaces};
use crate::sys::poll::Interest;

/// Address changes come in bursts; the list is read when they have settled.
const SETTLE: Duration = Duration::from_millis(100);

impl Supervisor {
    pub(super) fn on_addresses(&mut self) {
        if let Some(socket) = &self.addresses {
            let mut ignored = [0u8; 4096];
            while rustix::io::read(socket, &mut ignored).is_ok_and(|count| count > 0) {}
        }
        self.refresh_at.get_or_insert(Instant::now() + SETTLE);
    }

    /// An RDMA device came or went. While smbdirectd runs it notices by itself.
    pub(super) fn on_devices(&mut self) {
        let Some(socket) = &self.devices else {
            return;
        };
        let mut event = [0u8; 8192];
        let mut rdma = false;
        while let Ok(length @ 1..) = rustix::io::read(socket, &mut event) {
            let mut words = event
                .get(..length)
                .unwrap_or_default()
                .split(|byte| *byte == 0);
            rdma |= words.any(|word| word == b"SUBSYSTEM=infiniband");
        }
        if rdma {
            self.refresh_at.get_or_insert(Instant::now() + SETTLE);
        }
    }

    /// Reads the machine's addresses: what is listened on, what clients are told, whether there
    /// is an RDMA device. At the start a port that can't be had is an error.
    pub(super) fn refresh(&mut self, first: bool) -> Result<(), SystemError> {
        let local = interfaces::local_addresses()?;
        if self.stopping.is_none() {
            let global = &self.config.global;
            let only = global
                .bind_interfaces_only
                .then(|| interfaces::bound(&local, &global.interfaces));
            let ports = global.server_smb_transports.tcp_ports();
            self.listen(listeners::wanted(&ports, only.as_deref()), first)?;
            self.want_gateway(Instant::now());
        }
        self.offer_from(&local);
        Ok(())
    }

    pub(super) fn listen(
        &mut self,
        wanted: Vec<SocketAddr>,
        first: bool,
    ) -> Result<(), SystemError> {
        self.listeners
            .retain(|_, listener| wanted.contains(&listener.address));
        for address in wanted {
            if self
                .listeners
                .values()
                .any(|listener| listener.address == address)
            {
                continue;
            }
            match Listener::bind(address) {
                Ok(listener) => {
                    self.last_listener += 1;
                    self.poll
                        .add(&listener, self.last_listener, Interest::Read)?;
                    tracing::info!("listening for TCP on {}", listener.address);
                    self.listeners.insert(self.last_listener, listener);
                }
                // A machine without IPv6 has no such address.
                Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {}
                Err(error) => {
                    let advice = advice(&error);
                    tracing::error!(%error, "can't listen on {address}: {advice}");
                    if first {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn offer(&mut self) {
        match interfaces::local_addresses() {
            Ok(local) => self.offer_from(&local),
            Err(error) => tracing::warn!(%error, "can't read this machine's addresses"),
        }
    }

    /// Tells every child the list, if it changed.
    pub(super) fn offer_from(&mut self, local: &[interfaces::LocalAddress]) {
        let offered = interfaces::offered(local, &self.config.global.interfaces, &self.rdma);
        if offered == self.offered {
            return;
        }
        self.offered = offered;
        let message = ToChild::Interfaces(self.offered.clone());
        for (child, record) in self.children.all() {
            record.link.send(&message);
            self.unsent.insert(child);
        }
    }
}

/// A netlink socket that becomes readable when links or addresses change; without one the list of
/// the start stays.
pub(super) fn watch_addresses() -> Option<OwnedFd> {
    // RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (rtnetlink(7)); without a protocol it is
    // NETLINK_ROUTE's.
    match watch(None, 0x1 | 0x10 | 0x100) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "changes of this machine's addresses are not noticed; restart smbd after one");
            None
        }
    }
}

/// A netlink socket that tells of devices that come and go.
pub(super) fn watch_devices() -> Option<OwnedFd> {
    watch(Some(netlink::KOBJECT_UEVENT), 0x1)
        .inspect_err(|error| tracing::warn!(%error, "an RDMA device that comes later is noticed when addresses change"))
        .ok()
}

fn watch(protocol: Option<Protocol>, groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}
