//! The interface of `smbdirectd::rdma`, item for item, over unix sockets instead of a device.
//!
//! An address is a file in the fabric's folder, a connection one stream socket. Whatever hardware
//! does by itself (taking in SENDs, serving RDMA READ and WRITE, acknowledging) is done here
//! whenever the owning thread asks for events or completions: an end that stops asking is a machine
//! that has died, not one whose program is slow. Everything belongs to one thread, registrations
//! and counters too. No unsafe: payload is copied through checked ranges.

mod device;
mod endpoint;
mod event_channel;
mod frame;
mod identifier;
mod memory_region;
mod queue_pair;
mod receive_buffers;
mod settings;
mod work_queues;
mod work_request;

pub use device::{Device, DeviceKey, DeviceLimits, Port, ProtectionDomain, Transport};
pub use event_channel::{CmEvent, CmEventKind, EventChannel};
pub use identifier::Identifier;
pub use memory_region::{
    Access, KeptMapping, LiveObjects, LocalRange, MemoryRegion, Slab, live_objects,
};
pub use queue_pair::{Completion, PostError, QueuePair, QueuePairLimits, Status};
pub use receive_buffers::ReceiveBuffers;
pub use settings::{Fabric, SimulatedDevice};
pub use work_request::{Operation, WorkRequest};

use shm::SystemError;

/// Nothing is locked here but in a test that says so.
pub const LOCKS_MEMORY: bool = false;

fn refused(operation: &'static str, errno: i32) -> SystemError {
    SystemError {
        operation,
        source: std::io::Error::from_raw_os_error(errno),
    }
}

/// The numbers of `enum ibv_wc_status`, as far as the simulated device uses them.
mod status {
    use super::queue_pair::Status;

    pub const LOCAL_LENGTH: Status = Status::Failed(1, "local length error");
    pub const LOCAL_PROTECTION: Status = Status::Failed(4, "local protection error");
    pub const REMOTE_INVALID_REQUEST: Status = Status::Failed(9, "remote invalid request error");
    pub const REMOTE_ACCESS: Status = Status::Failed(10, "remote access error");
    pub const RETRY_EXCEEDED: Status = Status::Failed(12, "transport retry counter exceeded");
    pub const RECEIVER_NOT_READY: Status = Status::Failed(13, "RNR retry counter exceeded");

    /// What a peer's refusal means for the request it refuses.
    pub fn of_refusal(number: u8) -> Status {
        match number {
            9 => REMOTE_INVALID_REQUEST,
            10 => REMOTE_ACCESS,
            13 => RECEIVER_NOT_READY,
            _ => RETRY_EXCEEDED,
        }
    }
}
