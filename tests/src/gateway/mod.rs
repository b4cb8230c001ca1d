//! smbdirectd from outside: a supervisor that starts it, a child at the other end of a relay, and
//! a client over real verbs. Scenarios play all three on one thread; nothing here is an SMB server.

mod child;
mod peer;
mod status;
mod supervisor;

use std::time::{Duration, Instant};

pub use child::Child;
pub use peer::Peer;
pub use supervisor::{Announced, Supervisor, settings};

/// How long a scenario waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// All players of a scenario.
#[derive(Debug)]
pub struct Stage {
    /// Who started smbdirectd.
    pub supervisor: Supervisor,
    /// Ends of relays, in the order announced.
    pub children: Vec<Child>,
    /// Clients.
    pub peers: Vec<Peer>,
}

impl Stage {
    /// A stage with smbdirectd on it.
    pub fn new(supervisor: Supervisor) -> Stage {
        Stage {
            supervisor,
            children: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// Lets everyone do what they can now.
    pub fn turn(&mut self) {
        self.supervisor.turn();
        while let Some(announced) = self.supervisor.announced.pop_front() {
            self.children.push(Child::new(announced.socket));
        }
        for child in &mut self.children {
            child.turn();
        }
        for peer in &mut self.peers {
            peer.turn();
        }
    }

    /// Plays until `done`; panics with `what` when that takes too long.
    #[track_caller]
    pub fn until(&mut self, what: &str, done: impl FnMut(&mut Stage) -> bool) {
        self.until_within(PATIENCE, what, done);
    }

    /// As [`Stage::until`], with its own patience.
    #[track_caller]
    pub fn until_within(
        &mut self,
        patience: Duration,
        what: &str,
        mut done: impl FnMut(&mut Stage) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited {patience:?} for {what}; children {:?}, peers {:?}",
                self.children,
                self.peers
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Connects a client and plays until its connection is established; answers its index.
    pub fn connect(&mut self, server: std::net::SocketAddr) -> usize {
        self.peers.push(Peer::connect(server));
        let index = self.peers.len() - 1;
        self.until("the connection", |stage| {
            stage.peers[index].is_established()
        });
        index
    }

    /// A client whose first message brought forth a child that has attached and mapped.
    pub fn connect_attached(&mut self, server: std::net::SocketAddr) -> (usize, usize) {
        let (peer, child) = (self.connect(server), self.children.len());
        self.peers[peer].send(b"the first message");
        self.until("the child", |stage| stage.children.len() > child);
        self.children[child].attach();
        self.until("the region", |stage| stage.children[child].is_mapped());
        self.until("the first message", |stage| {
            stage.children[child].take_message().as_deref() == Some(b"the first message")
        });
        (peer, child)
    }
}
