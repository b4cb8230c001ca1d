//! A child: one event loop that serves one client over all its channels.
//!
//! Owns the epoll loop, the task executor and the services handlers reach through [`Child`].
//! The zygote calls [`run`] in the forked process; it returns when the last connection is gone.
//! A task is never dropped before its end, and a panic in one ends its connection only.

mod connections;
mod event_loop;
mod identity;
pub mod passes;
mod patience;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use futures::executor::LocalSpawner;
use futures::task::LocalSpawnExt;
use proto::control::child::NetworkInterface;
use proto::control::{ChildId, ConnectionKind};

use crate::channel::{Buffers, SharedRegion};
use crate::config::Config;
use crate::messaging::{Broker, Supervisor};
use crate::state::{Connection, Oplocks, Sessions};
use crate::stop_point;
use crate::sys::pool::Pool;
use crate::vfs::Transfers;

pub use identity::{ServerIdentity, now};
pub use timers::{Sleep, Timers};

/// What a forked child begins with.
#[derive(Debug)]
pub struct ChildStart {
    /// Its number, given by the supervisor.
    pub id: ChildId,
    /// What its first connection is.
    pub kind: ConnectionKind,
    /// Its first connection.
    pub connection: OwnedFd,
    /// What was already read of it, to be read as if it had just arrived; empty for a new one.
    pub preface: Vec<u8>,
    /// Control socket to the supervisor.
    pub supervisor: OwnedFd,
    /// Control socket to the broker.
    pub broker: OwnedFd,
    /// The configuration.
    pub config: Arc<Config>,
}

/// Services of the process, shared by all connections of its client.
pub struct Child {
    /// The configuration.
    pub config: Arc<Config>,
    /// Threads for blocking calls.
    pub pool: Pool,
    /// File calls that need no thread.
    pub transfers: Transfers,
    /// Share modes and the ClientGuid table.
    pub broker: Broker,
    /// The supervisor.
    pub supervisor: Supervisor,
    /// What FSCTL_QUERY_NETWORK_INTERFACE_INFO answers, as the supervisor pushed it last.
    pub interfaces: RefCell<Vec<NetworkInterface>>,
    /// The client's sessions.
    pub sessions: Sessions,
    /// Oplocks the client holds.
    pub oplocks: Oplocks,
    /// Sleeps of tasks.
    pub timers: Timers,
    /// The server's GUID and names.
    pub identity: ServerIdentity,
    /// Memory shared with smbdirectd, by all RDMA channels.
    pub region: Rc<SharedRegion>,
    /// Large buffers of messages.
    pub buffers: Buffers,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    spawner: LocalSpawner,
    tasks: Cell<usize>,
    /// The client was announced to the supervisor; its first session was.
    announced: Cell<(bool, bool)>,
}

/// Serves until the last connection is gone; the exit status of the process.
pub fn run(start: ChildStart) -> i32 {
    let id = start.id;
    stop_point::reach("child-started");
    match event_loop::EventLoop::start(start) {
        Ok(event_loop) => event_loop.run(),
        Err(error) => {
            tracing::error!(child = id.0, %error, "a child can't start");
            1
        }
    }
}

impl Child {
    /// Starts a task of a connection. Its panic ends the connection and nothing else.
    pub fn spawn(
        self: &Rc<Child>,
        connection: &Rc<Connection>,
        task: impl Future<Output = ()> + 'static,
    ) {
        let connection = Rc::clone(connection);
        self.spawn_counted(task, move || {
            connection.end("a request's task ended in a panic; the log has its place");
        });
    }

    /// Starts a task that belongs to no connection, such as closing what a lost one had open.
    pub fn spawn_detached(self: &Rc<Child>, task: impl Future<Output = ()> + 'static) {
        self.spawn_counted(task, || {
            tracing::error!("a background task ended in a panic");
        });
    }

    /// Combinators, because an async block would hold the task twice, as captured and as awaited:
    /// every request makes and moves one.
    fn spawn_counted(
        self: &Rc<Child>,
        task: impl Future<Output = ()> + 'static,
        panicked: impl FnOnce() + 'static,
    ) {
        self.tasks.set(self.tasks.get() + 1);
        let child = Rc::clone(self);
        let counted = AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
            if outcome.is_err() {
                panicked();
            }
            child.tasks.set(child.tasks.get() - 1);
        });
        // Fails only while the executor is being dropped: the process is at its end.
        let _ = self.spawner.spawn_local(counted);
    }

    /// Connections being served.
    pub fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }
}
