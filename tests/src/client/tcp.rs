//! Direct TCP (MS-SMB2 2.1): each message behind a zero byte and its length in three.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::{ClientError, PATIENCE, Transport};

/// A TCP connection to the server.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
}

impl Tcp {
    /// Connects.
    pub fn connect(server: SocketAddr) -> Result<Tcp, ClientError> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Tcp { stream })
    }

    /// Connects from an address of this machine, such as any of 127.0.0.0/8.
    pub fn connect_from(local: Ipv4Addr, server: SocketAddr) -> Result<Tcp, ClientError> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(std::io::Error::from)?;
        bind(&socket, &SocketAddr::from((local, 0))).map_err(std::io::Error::from)?;
        connect(&socket, &server).map_err(std::io::Error::from)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Tcp { stream })
    }

    /// Sends bytes that need not be a frame.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Its local address.
    pub fn local(&self) -> Result<SocketAddr, ClientError> {
        Ok(self.stream.local_addr()?)
    }
}

impl Transport for Tcp {
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError> {
        let mut frame = (message.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(message);
        self.send_bytes(&frame)
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut prefix = [0u8; 4];
        self.stream.read_exact(&mut prefix)?;
        let length = u32::from_be_bytes(prefix);
        if length > 0x00ff_ffff {
            return Err(ClientError::protocol(format!("frame prefix {prefix:02x?}")));
        }
        let mut message = vec![0; length as usize];
        self.stream.read_exact(&mut message)?;
        Ok(message)
    }
}
