//! A queue pair of the client's, below SMB Direct: what leaves and arrives as it is. One for each
//! fabric; the wire above is the same.

use std::net::SocketAddr;
use std::time::Duration;

use tests::client::{ClientError, RdmaTransport, Transport, simulated, verbs};

/// Cannot assign requested address.
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;

/// A connection on which only what a case says is said.
pub trait Endpoint: Sized + 'static {
    /// The client of the same fabric that keeps to the protocol.
    type Client: Transport + 'static;

    /// Connects and says nothing; a receive is posted.
    fn connect(server: SocketAddr) -> Result<Self, ClientError>;
    /// Connects and says nothing but this private data; and what was answered so.
    fn connect_saying(
        server: SocketAddr,
        private_data: &[u8],
    ) -> Result<(Self, Vec<u8>), ClientError>;
    /// Connects as a good client does.
    fn connect_client(server: SocketAddr) -> Result<Self::Client, ClientError>;
    /// Posts more receives; answers how many.
    fn post_receives(&mut self, count: u16) -> Result<u16, ClientError>;
    /// Sends bytes as one message.
    fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError>;
    /// The next message.
    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError>;
    /// Why it is over, once it is.
    fn over(&self) -> Option<&str>;
    /// Leaves in order.
    fn disconnect(&mut self) -> Result<(), ClientError>;
    /// Its memory.
    fn rdma(&mut self) -> &mut dyn RdmaTransport;
}

macro_rules! endpoint {
    ($fabric:ident) => {
        impl Endpoint for $fabric::SmbDirect {
            type Client = $fabric::SmbDirect;

            fn connect(server: SocketAddr) -> Result<Self, ClientError> {
                persistently(|| $fabric::SmbDirect::connect(server, $fabric::Behaviour::silent()))
            }

            fn connect_saying(
                server: SocketAddr,
                private_data: &[u8],
            ) -> Result<(Self, Vec<u8>), ClientError> {
                let behaviour = $fabric::Behaviour {
                    private_data: private_data.to_vec(),
                    ..$fabric::Behaviour::silent()
                };
                let connect = || $fabric::SmbDirect::connect(server, behaviour.clone());
                let endpoint = persistently(connect)?;
                let answered = endpoint.answered().to_vec();
                Ok((endpoint, answered))
            }

            fn connect_client(server: SocketAddr) -> Result<Self, ClientError> {
                persistently(|| $fabric::SmbDirect::connect(server, $fabric::Behaviour::default()))
            }

            fn post_receives(&mut self, count: u16) -> Result<u16, ClientError> {
                self.post_own_receives(count)
            }

            fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
                self.send_raw(bytes)
            }

            fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
                Transport::receive(self, patience)
            }

            fn over(&self) -> Option<&str> {
                $fabric::SmbDirect::over(self)
            }

            fn disconnect(&mut self) -> Result<(), ClientError> {
                $fabric::SmbDirect::disconnect(self)
            }

            fn rdma(&mut self) -> &mut dyn RdmaTransport {
                self
            }
        }
    };
}

endpoint!(simulated);
endpoint!(verbs);

/// The connection manager chooses a client's port at random, and over siw it may be that of a TCP
/// connection which is open, or was closed not long ago: then another is chosen.
fn persistently<T>(connect: impl Fn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let in_use = [EADDRINUSE, EADDRNOTAVAIL]
        .map(|errno| std::io::Error::from_raw_os_error(errno).to_string());
    let mut outcome = connect();
    for _ in 0..5 {
        match &outcome {
            Err(ClientError::Local(text)) if in_use.iter().any(|said| text.contains(said)) => {
                outcome = connect();
            }
            _ => break,
        }
    }
    outcome
}
