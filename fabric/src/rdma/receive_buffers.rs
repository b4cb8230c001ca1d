//! Receive buffers of one connection: each free, posted, or held by its owner after its
//! completion. The bytes arrive in a cell that the posted request and its buffer share.

use std::cell::OnceCell;
use std::rc::Rc;

use shm::SystemError;

use super::device::ProtectionDomain;
use super::memory_region::{Access, Slab};

/// What a posted buffer will hold.
pub(super) type Arrival = Rc<OnceCell<Vec<u8>>>;

#[derive(Debug)]
enum State {
    Free,
    Posted(Arrival),
    /// Holds this many received bytes.
    Held(Arrival, u32),
}

/// All buffers of a connection.
#[derive(Debug)]
pub struct ReceiveBuffers {
    size: u32,
    /// Registered so that counts and budgets are those of a device; the bytes stay unused.
    slabs: Vec<Slab>,
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
        self.slabs.push(Slab::new(domain, length, Access::Local)?);
        let first = self.states.len() as u32;
        self.states.extend((0..count).map(|_| State::Free));
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

    /// Buffers the device holds.
    pub fn posted(&self) -> u32 {
        self.posted
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn take(&mut self) -> Option<(u32, Arrival)> {
        let index = self.free.pop()?;
        let arrival = Arrival::default();
        *self.states.get_mut(index as usize)? = State::Posted(arrival.clone());
        self.posted += 1;
        Some((index, arrival))
    }

    /// A taken one that could not be posted after all.
    pub(super) fn put_back(&mut self, index: u32) {
        if let Some(state @ State::Posted(_)) = self.states.get_mut(index as usize) {
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
            Some(state @ State::Posted(_)) => {
                if let State::Posted(arrival) = std::mem::replace(state, State::Free) {
                    *state = State::Held(arrival, length.min(self.size));
                }
                self.posted -= 1;
                true
            }
            _ => false,
        }
    }

    /// The received bytes of a held buffer; empty for any other.
    pub fn bytes(&self, index: u32) -> &[u8] {
        let Some(State::Held(arrival, length)) = self.states.get(index as usize) else {
            return &[];
        };
        arrival
            .get()
            .and_then(|bytes| bytes.get(..*length as usize))
            .unwrap_or_default()
    }

    /// Frees a held buffer.
    pub fn release(&mut self, index: u32) {
        if let Some(state @ State::Held(..)) = self.states.get_mut(index as usize) {
            *state = State::Free;
            self.free.push(index);
        }
    }
}
