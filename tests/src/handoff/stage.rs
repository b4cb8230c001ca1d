//! The server at play, and the two ways to it.

use std::ops::Deref;

use proto::smb2::Guid;
use tempfile::TempDir;

use super::stop_points::StopPoints;
use crate::client::{ClientError, Connection, Offer};
use crate::hazards::{Ground, Scene};
use crate::server::{Server, ServerBuilder};

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
    _fabric: TempDir,
    pub(super) stop_points: StopPoints,
}

impl Stage {
    /// Starts it and waits until it listens. `None`, noted as a skip, where it cannot run.
    pub fn start() -> Option<Stage> {
        Stage::start_as(Server::builder())
    }

    /// As [`Stage::start`], with more in the configuration.
    pub fn start_as(builder: ServerBuilder) -> Option<Stage> {
        let fabric = tempfile::tempdir().expect("a temporary folder");
        let stop_points = StopPoints::new();
        let builder = builder
            .share("share", "    read only = no")
            .environment("SMBDIRECT_STOP_POINTS", stop_points.path());
        let scene = Scene::start_as(builder, Ground::Fabric(fabric.path().to_owned()))?;
        Some(Stage {
            scene,
            _fabric: fabric,
            stop_points,
        })
    }

    /// A connection on which the usual things are negotiated under this ClientGuid.
    pub fn connect(&self, way: Way, client_guid: Guid) -> Result<Connection, ClientError> {
        self.connect_from(way, 1, client_guid)
    }

    /// The same, from one of many hosts.
    pub fn connect_from(
        &self,
        way: Way,
        host: u8,
        client_guid: Guid,
    ) -> Result<Connection, ClientError> {
        let mut connection = match way {
            Way::Tcp => self.scene.connect_tcp_from([127, 0, 1, host].into())?,
            Way::Rdma => self.scene.connect_rdma(host)?,
        };
        connection.exchange_negotiate(Offer {
            client_guid,
            ..Offer::default()
        })?;
        Ok(connection)
    }

    /// A connection on which nothing was said yet.
    pub fn open(&self, way: Way) -> Result<Connection, ClientError> {
        match way {
            Way::Tcp => self.scene.connect_tcp(),
            Way::Rdma => self.scene.connect_rdma(1),
        }
    }

    /// Ends it, with all it started.
    pub fn stop(self) {
        self.scene.stop();
    }
}

impl Deref for Stage {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}
