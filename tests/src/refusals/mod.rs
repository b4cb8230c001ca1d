//! What a server refuses a client over SMB Direct: scenarios that run on the simulated fabric and,
//! in the lab, on a real device. A bystander moves verified bytes all the while.

mod scenarios;
mod stage;

use crate::client::{ClientError, Transport, simulated, verbs};

pub use scenarios::{SCENARIOS, play};
pub use stage::Enter;

/// Where smbdirectd listens, in the lab and on the simulated fabric.
pub const SERVER: &str = "10.9.0.1:445";

/// A client over SMB Direct that can send what is no message.
pub trait RdmaClient: Transport + Sized + 'static {
    /// Connects to [`SERVER`]; one that does not negotiate says nothing by itself.
    fn connect(negotiates: bool) -> Result<Self, ClientError>;
    /// Sends bytes as one SMB Direct message, whatever they are.
    fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError>;
    /// Waits until the server has ended the connection.
    fn wait_closed(&mut self) -> Result<(), ClientError>;
}

macro_rules! rdma_client {
    ($fabric:ident) => {
        impl RdmaClient for $fabric::SmbDirect {
            fn connect(negotiates: bool) -> Result<Self, ClientError> {
                let behaviour = match negotiates {
                    true => $fabric::Behaviour::default(),
                    false => $fabric::Behaviour::silent(),
                };
                let server = SERVER.parse().expect("an address");
                $fabric::SmbDirect::connect(server, behaviour)
            }

            fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
                $fabric::SmbDirect::send_raw(self, bytes)
            }

            fn wait_closed(&mut self) -> Result<(), ClientError> {
                match self.drive_until(crate::client::PATIENCE, |client| client.over().is_some()) {
                    Err(ClientError::Closed) => Ok(()),
                    outcome => outcome,
                }
            }
        }
    };
}

rdma_client!(simulated);
rdma_client!(verbs);
