//! smbdirectd's connections as they are, without its loop: the sources of `smbdirectd::gateway`
//! compiled against the simulated device. `scenario` plays their world.

#[path = "../../../../smbdirectd/src/gateway/connection/mod.rs"]
mod connection;
#[path = "../../../../smbdirectd/src/gateway/ending.rs"]
mod ending;
#[path = "../../../../smbdirectd/src/gateway/operations.rs"]
mod operations;
#[path = "../../../../smbdirectd/src/gateway/pace.rs"]
mod pace;
#[path = "../../../../smbdirectd/src/gateway/send_queue.rs"]
mod send_queue;
#[path = "../../../../smbdirectd/src/gateway/sink.rs"]
mod sink;

pub(crate) use connection::{Connection, Shared};
pub(crate) use pace::Pace;

/// As in smbdirectd.
pub const SINK_MEMORY: u64 = sink::SLOT as u64 * sink::SLOTS as u64;
