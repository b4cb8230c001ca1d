//! How one client, or a death, could harm others: the whole server, clients that misbehave, and
//! bystanders who compare every byte and tell how long they had to wait.
//!
//! It plays on either ground: the simulated fabric, natively, and soft-RoCE inside the lab's guest.
//! Every play ends with what the server held, in descriptors, memory and processes, before it.

mod abandoned;
mod channels;
mod client;
mod kernel_client;
mod load;
mod scenarios;
mod scene;
mod strace;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use fabric::rdma::Fabric;

use crate::client::{ClientError, RdmaTransport, Transport, simulated, verbs};

pub use client::{RdmaClient, Sending, guid, pattern};
pub use load::Load;
pub use scene::{ADDRESS, Held, PATIENCE, Process, Scene, family, results, signal};
pub use strace::Strace;

/// Where the server runs, and what its clients' devices are.
#[derive(Debug, Clone)]
pub enum Ground {
    /// The lab's guest, in which the caller is.
    Lab,
    /// A simulated fabric in this folder.
    Fabric(PathBuf),
}

/// The transport of a client that misbehaves.
pub trait Misbehaving: Transport + RdmaTransport {
    /// Queues a message without waiting until it has left.
    fn queue(&mut self, message: &[u8]);
    /// The same, in fragments of this size.
    fn queue_in_fragments(&mut self, message: &[u8], size: usize);
    /// Does what can be done now.
    fn drive(&mut self) -> Result<(), ClientError>;
    /// Messages, or pieces of them, that wait for the server's credits.
    fn queued(&self) -> usize;
    /// Sends bytes as one SMB Direct message, whatever they are.
    fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError>;
    /// Leaves in order.
    fn disconnect(&mut self) -> Result<(), ClientError>;
    /// Why the connection is over, once it is.
    fn over(&self) -> Option<&str>;
}

macro_rules! misbehaving {
    ($fabric:ident) => {
        impl Misbehaving for $fabric::SmbDirect {
            fn queue(&mut self, message: &[u8]) {
                self.queue(message);
            }

            fn queue_in_fragments(&mut self, message: &[u8], size: usize) {
                self.queue_in_fragments(message, size);
            }

            fn drive(&mut self) -> Result<(), ClientError> {
                self.drive()
            }

            fn queued(&self) -> usize {
                self.queued()
            }

            fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
                self.send_raw(bytes)
            }

            fn disconnect(&mut self) -> Result<(), ClientError> {
                self.disconnect()
            }

            fn over(&self) -> Option<&str> {
                self.over()
            }
        }
    };
}

misbehaving!(simulated);
misbehaving!(verbs);

impl Ground {
    /// Connects from a host of this number; a client that limits the server's credits grants no
    /// more at a time.
    fn connect(&self, host: u8, credits: Option<u16>) -> Result<Box<dyn Misbehaving>, ClientError> {
        let server = self.prepare(host);
        match self {
            Ground::Lab => {
                let behaviour = credits.map(verbs::Behaviour::granting).unwrap_or_default();
                Ok(Box::new(verbs::SmbDirect::connect(server, behaviour)?))
            }
            Ground::Fabric(_) => {
                let behaviour = credits
                    .map(simulated::Behaviour::granting)
                    .unwrap_or_default();
                Ok(Box::new(simulated::SmbDirect::connect(server, behaviour)?))
            }
        }
    }

    /// The same, and says nothing.
    fn connect_silently(&self, host: u8) -> Result<Box<dyn Misbehaving>, ClientError> {
        let server = self.prepare(host);
        match self {
            Ground::Lab => {
                let behaviour = verbs::Behaviour::silent();
                Ok(Box::new(verbs::SmbDirect::connect(server, behaviour)?))
            }
            Ground::Fabric(_) => {
                let behaviour = simulated::Behaviour::silent();
                Ok(Box::new(simulated::SmbDirect::connect(server, behaviour)?))
            }
        }
    }

    /// Asks for a connection, and is gone before there is an answer.
    fn ask(&self, host: u8) -> Result<(), ClientError> {
        let server = self.prepare(host);
        match self {
            Ground::Lab => verbs::SmbDirect::ask(server, verbs::Behaviour::silent()).map(drop),
            Ground::Fabric(_) => {
                simulated::SmbDirect::ask(server, simulated::Behaviour::silent()).map(drop)
            }
        }
    }

    /// Makes the calling thread that host; gives the server's address.
    fn prepare(&self, host: u8) -> SocketAddr {
        if let Ground::Fabric(folder) = self {
            let address: IpAddr = [10, 9, 1, host].into();
            Fabric::new(folder, &format!("client{host}"), address).enter();
        }
        format!("{ADDRESS}:445").parse().expect("an address")
    }
}

type Scenario = fn(&Scene);

const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "stalled-child",
        scenarios::a_stalled_child_stops_only_its_client,
    ),
    (
        "one-credit",
        scenarios::a_peer_that_grants_one_credit_is_served_whole,
    ),
    (
        "abandoned",
        abandoned::nothing_stays_of_connections_left_at_any_step,
    ),
    ("fragments", scenarios::fragments_of_one_byte_arrive_whole),
    ("three-channels", channels::three_channels_in_windows_order),
    (
        "lost-read",
        scenarios::a_connection_lost_during_a_file_call_costs_nobody_a_byte,
    ),
];

/// A scenario of this module by its name.
pub fn scenario(name: &str) -> Option<Scenario> {
    let mut known = SCENARIOS.iter();
    known
        .find(|(known, _)| *known == name)
        .map(|(_, found)| *found)
}

/// Starts a server, plays, and checks that nothing is left; false where it cannot run.
pub fn play(ground: Ground, name: &str, scenario: Scenario) -> bool {
    let Some(scene) = Scene::start(ground) else {
        return false;
    };
    // What is made once and kept, such as a log's descriptor, is there before anything is counted.
    scene.warm_up();
    let before = scene.held();
    let started = Instant::now();
    scenario(&scene);
    scene.wait_until_held(&before);
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: ok seconds={seconds:.1} {before:?}");
    scene.stop();
    true
}
