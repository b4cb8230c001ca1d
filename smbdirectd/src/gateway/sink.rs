//! RDMA READ sinks of one iWARP connection. There the peer needs write access to the sink, and
//! keeps it for as long as the memory is registered: so a sink is private memory in the
//! connection's own protection domain, and its bytes are copied into the region, once, when the
//! READ has ended. InfiniBand and RoCE read straight into the region and have none of this.

use std::rc::Rc;

use shm::SystemError;
use shm::region::Mapping;

use crate::rdma::{Access, LocalRange, ProtectionDomain, Slab};

/// Bytes of one READ at most.
pub const SLOT: u32 = 64 * 1024;
/// READs whose bytes are on their way or not copied yet.
pub const SLOTS: u16 = 8;

/// Which sink a READ goes to, and where in the region its bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkSlot {
    slot: u16,
    offset: u64,
}

/// The sinks of a connection.
#[derive(Debug)]
pub struct Sink {
    slab: Slab,
    free: Vec<u16>,
}

impl Sink {
    /// Allocates and registers them.
    pub fn new(domain: &Rc<ProtectionDomain>) -> Result<Sink, SystemError> {
        let length = SLOT as usize * usize::from(SLOTS);
        Ok(Sink {
            slab: Slab::new(domain, length, Access::RemoteWrite)?,
            free: (0..SLOTS).collect(),
        })
    }

    /// A sink is free.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a sink for `length` bytes that belong at `offset` of the region.
    pub fn take(&mut self, offset: u64, length: u32) -> Option<(SinkSlot, LocalRange)> {
        let slot = *self.free.last()?;
        let start = u64::from(slot) * u64::from(SLOT);
        let range = self.slab.region().range(start, length)?;
        self.free.pop();
        Some((SinkSlot { slot, offset }, range))
    }

    /// The READ has ended: copies its bytes to where they belong and frees the sink.
    pub fn settle(&mut self, taken: SinkSlot, length: u32, region: Option<&Mapping>) -> bool {
        let start = usize::from(taken.slot) * SLOT as usize;
        self.free.push(taken.slot);
        region.is_some_and(|region| {
            self.slab
                .copy_to_shared(start, length as usize, region, taken.offset)
        })
    }
}
