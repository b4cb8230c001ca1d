//! The interface of `smbdirectd::rdma` with a device that does nothing by itself: requests wait until
//! the simulation carries them out, completions until it lets them be seen. Memory, receive buffers and
//! work requests are the fabric's.

mod device;
#[path = "../../../../fabric/src/rdma/memory_region.rs"]
mod memory_region;
mod queue_pair;
#[path = "../../../../fabric/src/rdma/receive_buffers.rs"]
mod receive_buffers;
#[path = "../../../../fabric/src/rdma/work_request.rs"]
mod work_request;

pub use device::{Device, DeviceLimits, Identifier, ProtectionDomain, Transport};
pub use memory_region::{Access, LocalRange, MemoryRegion, Slab, live_objects};
pub use queue_pair::{Completion, Landing, PostError, QueuePair, QueuePairLimits, Queues, Status};
pub use receive_buffers::ReceiveBuffers;
pub use work_request::{Operation, WorkRequest};
