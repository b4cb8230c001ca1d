//! Verbs and the connection manager behind a safe interface; the only `unsafe` of this crate.
//!
//! What the NIC may touch is owned here until it may touch it no more: a memory region keeps its
//! memory, a queue pair its queues and identifier, and a receive buffer can be read only while it
//! is not posted. The gateway drives the passive side, the project's test client the active one.
//! Everything belongs to one thread; nothing here blocks, logs or knows SMB Direct. What is public
//! here exists in `fabric/src/rdma` too, where the gateway runs without a device: change both.

mod device;
mod event_channel;
mod identifier;
mod memory_region;
mod queue_pair;
mod receive_buffers;
mod work_request;

pub use device::{Device, DeviceKey, DeviceLimits, Port, ProtectionDomain, Transport};
pub use event_channel::{CmEvent, CmEventKind, EventChannel};
pub use identifier::Identifier;
pub use memory_region::{
    Access, KeptMapping, LiveObjects, LocalRange, MemoryRegion, Slab, live_objects,
};
pub use queue_pair::{Completion, PostError, QueuePair, QueuePairLimits, Status};
pub use receive_buffers::ReceiveBuffers;
pub use work_request::{Operation, WorkRequest};

use std::ffi::c_int;
use std::io;

use shm::SystemError;

/// What is registered is locked, within the process's limit.
pub const LOCKS_MEMORY: bool = true;

/// `rdma_*` calls answer -1 and set errno.
fn cm_result(operation: &'static str, answer: c_int) -> Result<(), SystemError> {
    if answer == 0 {
        Ok(())
    } else {
        Err(last_error(operation))
    }
}

/// `ibv_*` calls answer a positive errno; some answer -1 and set errno.
fn verbs_result(operation: &'static str, answer: c_int) -> Result<(), SystemError> {
    match answer {
        0 => Ok(()),
        errno if errno > 0 => Err(SystemError {
            operation,
            source: io::Error::from_raw_os_error(errno),
        }),
        _ => Err(last_error(operation)),
    }
}

/// For calls that answer a null pointer and set errno.
fn last_error(operation: &'static str) -> SystemError {
    SystemError {
        operation,
        source: io::Error::last_os_error(),
    }
}
