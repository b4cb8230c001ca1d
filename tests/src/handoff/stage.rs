//! The server at play, and the two ways to it.

use std::net::IpAddr;
use std::ops::Deref;

use fabric::rdma::Fabric;
use proto::smb2::Guid;
use tempfile::TempDir;

use super::stop_points::StopPoints;
use crate::client::simulated::{Behaviour, SmbDirect};
use crate::client::{ClientError, Connection, Offer, Tcp};
use crate::hazards::{ADDRESS, Ground, Scene};
use crate::server::Server;

pub use crate::hazards::guid;

/// How a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Direct TCP.
    Tcp,
    /// SMB Direct, on the simulated fabric.
    Rdma,
}

/// A running server and the fabric it is on.
pub struct Stage {
    scene: Scene,
    fabric: TempDir,
    pub(super) stop_points: StopPoints,
}

impl Stage {
    /// Starts it and waits until it listens. `None`, noted as a skip, where it cannot run.
    pub fn start() -> Option<Stage> {
        let fabric = tempfile::tempdir().expect("a temporary folder");
        let stop_points = StopPoints::new();
        let builder = Server::builder()
            .share("share", "    read only = no")
            .environment("SMBDIRECT_STOP_POINTS", stop_points.path());
        let scene = Scene::start_as(builder, Ground::Fabric(fabric.path().to_owned()))?;
        Some(Stage {
            scene,
            fabric,
            stop_points,
        })
    }

    /// A connection on which the usual things are negotiated under this ClientGuid.
    pub fn connect(&self, way: Way, client_guid: Guid) -> Result<Connection, ClientError> {
        let offer = Offer {
            client_guid,
            ..Offer::default()
        };
        let mut connection = self.open(way)?;
        connection.exchange_negotiate(offer)?;
        Ok(connection)
    }

    /// A connection on which nothing was said yet.
    pub fn open(&self, way: Way) -> Result<Connection, ClientError> {
        match way {
            Way::Tcp => {
                let server = (IpAddr::from([127, 0, 0, 1]), self.scene.port()).into();
                Ok(Connection::new(Tcp::connect(server)?))
            }
            Way::Rdma => {
                self.enter(1);
                let server = format!("{ADDRESS}:445").parse().expect("an address");
                Ok(Connection::new(SmbDirect::connect(
                    server,
                    Behaviour::default(),
                )?))
            }
        }
    }

    /// Ends it, with all it started.
    pub fn stop(self) {
        self.scene.stop();
    }

    /// From now on this thread's RDMA device is that host's.
    pub fn enter(&self, host: u8) {
        let address: IpAddr = [10, 9, 1, host].into();
        let device = format!("client{host}");
        Fabric::new(self.fabric.path(), &device, address).enter();
    }
}

impl Deref for Stage {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}
