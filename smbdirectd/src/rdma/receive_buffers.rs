//! Receive buffers of one connection: equal pieces of registered slabs, each free, posted, or
//! held by its owner after its completion. Only a held one can be read, so nobody looks at memory
//! the NIC may be writing.

use std::rc::Rc;

use shm::SystemError;

use super::device::ProtectionDomain;
use super::memory_region::{Access, LocalRange, Slab};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Posted,
    /// Holds this many received bytes.
    Held(u32),
}

/// All buffers of a connection.
#[derive(Debug)]
pub struct ReceiveBuffers {
    size: u32,
    slabs: Vec<(u32, Slab)>,
    states: Vec<State>,
    free: Vec<u32>,
    posted: u32,
}

impl ReceiveBuffers {
    /// None yet; each will be of `size` bytes.
    pub fn new(size: u32) -> ReceiveBuffers {
        ReceiveBuffers {
            size: size.next_multiple_of(8),
            slabs: Vec::new(),
            states: Vec::new(),
            free: Vec::new(),
            posted: 0,
        }
    }

    /// Adds `count` buffers.
    pub fn grow(&mut self, domain: &Rc<ProtectionDomain>, count: u32) -> Result<(), SystemError> {
        if count == 0 {
            return Ok(());
        }
        let length = self.size as usize * count as usize;
        let slab = Slab::new(domain, length, Access::Local)?;
        let first = self.states.len() as u32;
        self.slabs.push((first, slab));
        self.states
            .resize(self.states.len() + count as usize, State::Free);
        self.free.extend((first..first + count).rev());
        Ok(())
    }

    /// Buffers there are.
    pub fn count(&self) -> u32 {
        self.states.len() as u32
    }

    /// Buffers that can be posted now.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Buffers the NIC holds.
    pub fn posted(&self) -> u32 {
        self.posted
    }

    pub(super) fn take(&mut self) -> Option<(u32, LocalRange)> {
        let index = self.free.pop()?;
        let range = self
            .slab_of(index)
            .and_then(|(slab, offset)| slab.region().range(offset as u64, self.size))?;
        *self.states.get_mut(index as usize)? = State::Posted;
        self.posted += 1;
        Some((index, range))
    }

    /// A taken one that could not be posted after all.
    pub(super) fn put_back(&mut self, index: u32) {
        if let Some(state) = self.states.get_mut(index as usize)
            && *state == State::Posted
        {
            *state = State::Free;
            self.posted -= 1;
            self.free.push(index);
        }
    }

    /// A receive of `length` bytes completed into buffer `index`; false if it was not posted.
    #[must_use]
    pub fn complete(&mut self, index: u64, length: u32) -> bool {
        let state = usize::try_from(index)
            .ok()
            .and_then(|index| self.states.get_mut(index));
        match state {
            Some(state @ State::Posted) => {
                *state = State::Held(length.min(self.size));
                self.posted -= 1;
                true
            }
            _ => false,
        }
    }

    /// The received bytes of a held buffer; empty for any other.
    pub fn bytes(&self, index: u32) -> &[u8] {
        let Some(State::Held(length)) = self.states.get(index as usize) else {
            return &[];
        };
        self.slab_of(index)
            // SAFETY: a held buffer is not posted, and `take`, the only way to post it, needs
            // this object mutably.
            .and_then(|(slab, offset)| unsafe { slab.bytes(offset, *length as usize) })
            .unwrap_or_default()
    }

    /// Frees a held buffer.
    pub fn release(&mut self, index: u32) {
        if let Some(state @ State::Held(_)) = self.states.get_mut(index as usize) {
            *state = State::Free;
            self.free.push(index);
        }
    }

    fn slab_of(&self, index: u32) -> Option<(&Slab, usize)> {
        let (first, slab) = self.slabs.iter().rev().find(|(first, _)| *first <= index)?;
        Some((slab, (index - first) as usize * self.size as usize))
    }
}
