//! TCP listeners: made, compared with what should be listened on, and accepted from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, listen,
    socket_with, sockopt,
};
use shm::SystemError;

/// Connections the kernel completes while the supervisor does something else.
const QUEUE: i32 = 1024;
/// A client that vanished without a word is noticed after this and nine probes, 75 s apart.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    pub address: SocketAddr,
}

/// What an accept gave.
#[derive(Debug)]
pub enum Accepted {
    Connection(OwnedFd, SocketAddr),
    /// Nobody waits.
    Nothing,
    /// The kernel has no room for another connection now; try later.
    Exhausted(Errno),
}

/// Where to listen: everywhere, unless only some addresses are meant.
pub fn wanted(ports: &[u16], only: Option<&[IpAddr]>) -> Vec<SocketAddr> {
    let everywhere = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let addresses = only.unwrap_or(&everywhere);
    ports
        .iter()
        .flat_map(|port| addresses.iter().map(|address| (*address, *port).into()))
        .collect()
}

impl Listener {
    /// Listens on `address`.
    pub fn bind(address: SocketAddr) -> Result<Listener, SystemError> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)
            .map_err(SystemError::of("make a TCP socket"))?;
        sockopt::set_socket_reuseaddr(&socket, true)
            .map_err(SystemError::of("set SO_REUSEADDR"))?;
        if address.is_ipv6() {
            // IPv4 has a socket of its own, so that peers have one form of address.
            sockopt::set_ipv6_v6only(&socket, true).map_err(SystemError::of("set IPV6_V6ONLY"))?;
        }
        bind(&socket, &address).map_err(SystemError::of("bind"))?;
        listen(&socket, QUEUE).map_err(SystemError::of("listen"))?;
        let address = getsockname(&socket)
            .ok()
            .and_then(|bound| SocketAddr::try_from(bound).ok())
            .unwrap_or(address);
        Ok(Listener { socket, address })
    }

    /// The next connection, non-blocking.
    pub fn accept(&self) -> Accepted {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            match acceptfrom_with(&self.socket, flags) {
                Ok((connection, peer)) => {
                    let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else {
                        continue;
                    };
                    let _ = sockopt::set_tcp_nodelay(&connection, true);
                    let _ = sockopt::set_socket_keepalive(&connection, true);
                    let _ = sockopt::set_tcp_keepidle(&connection, KEEPALIVE);
                    return Accepted::Connection(connection, peer);
                }
                Err(Errno::AGAIN) => return Accepted::Nothing,
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return Accepted::Exhausted(errno);
                }
                // The others are about the one connection, which is gone (accept(2)).
                Err(_) => continue,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a person can do about a port that can't be listened on.
pub fn advice(error: &SystemError) -> &'static str {
    match error.source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another server has this port, perhaps Samba: stop it, or choose another port with \
             server smb transports = tcp:PORT"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 are root's: start smbd as root, or choose another port with server \
             smb transports = tcp:PORT"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address (yet); it is tried again when addresses change"
        }
        _ => "see the error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_accepted_with_its_peer_and_a_taken_port_says_so() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(matches!(listener.accept(), Accepted::Nothing));
        let client = std::net::TcpStream::connect(listener.address).unwrap();
        let Accepted::Connection(_, peer) = listener.accept() else {
            panic!("nothing accepted");
        };
        assert_eq!(peer, client.local_addr().unwrap());
        let error = Listener::bind(listener.address).unwrap_err();
        assert!(advice(&error).contains("another server"));
    }

    #[test]
    fn every_port_is_listened_on_at_every_address() {
        assert_eq!(wanted(&[445, 4455], None).len(), 4);
        let only = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        assert_eq!(
            wanted(&[445], Some(&only)),
            [(Ipv4Addr::LOCALHOST, 445).into()]
        );
        assert!(wanted(&[], None).is_empty());
    }
}
