//! Payload extents of the child's region, freed when dropped unless they are given up.
//!
//! The allocator belongs to the loop's thread: a [`Payload`] never leaves it. A pool thread gets a
//! [`PayloadSlice`], an address range that stays mapped as long as the slice lives; the request's
//! task keeps the `Payload` until the job is back, so the range is not handed out meanwhile.

use std::rc::Rc;
use std::sync::Arc;

use proto::relay::RegionRange;
use shm::extents::Extent;
use shm::region::{Mapping, OutOfRegion};

use super::Piece;
use super::region::Area;

/// An extent in use.
pub struct Payload {
    area: Rc<Area>,
    extent: Extent,
    is_given_up: bool,
}

/// The bytes of an extent, for a file call on a pool thread.
#[derive(Debug, Clone)]
pub struct PayloadSlice {
    mapping: Arc<Mapping>,
    offset: u64,
    length: u32,
}

impl Payload {
    /// Takes an extent; `None` while there is no room.
    pub(super) fn take(area: &Rc<Area>, length: u32) -> Option<Payload> {
        let extent = area.extents.borrow_mut().take(length)?;
        Some(Payload {
            area: Rc::clone(area),
            extent,
            is_given_up: false,
        })
    }

    /// Nobody uses it again while its region is mapped: a NIC may still do.
    pub(super) fn give_up(mut self) {
        self.is_given_up = true;
    }

    /// Where it lies.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Its first `length` bytes, for a record.
    pub(super) fn range(&self, length: u32) -> RegionRange {
        RegionRange {
            offset: self.extent.offset,
            length: length.min(self.extent.length),
        }
    }

    /// Copies `pieces` to its start, one behind the other.
    pub(super) fn copy_in(&self, pieces: &[Piece]) -> Result<(), OutOfRegion> {
        let mut offset = self.extent.offset;
        for piece in pieces {
            self.area.mapping.copy_in(offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// The bytes, for a pool thread.
    pub fn slice(&self) -> PayloadSlice {
        PayloadSlice {
            mapping: Arc::clone(&self.area.mapping),
            offset: self.extent.offset,
            length: self.extent.length,
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Payload").field(&self.extent).finish()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if !self.is_given_up {
            self.area.extents.borrow_mut().give_back(self.extent);
            self.area.freed();
        }
    }
}

impl PayloadSlice {
    /// Bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Copies its first `length` bytes to the end of `out`: what is to be checked must not be where
    /// others can still change it.
    pub fn copy_out(&self, length: u32, out: &mut Vec<u8>) -> Result<(), OutOfRegion> {
        let length = length.min(self.length);
        self.mapping.copy_out(self.offset, length, out)
    }

    /// Copies `bytes` to its start; they must fit.
    pub fn copy_in(&self, bytes: &[u8]) -> Result<(), OutOfRegion> {
        if bytes.len() > self.length as usize {
            return Err(OutOfRegion {
                offset: self.offset,
                length: bytes.len() as u64,
                size: self.length.into(),
            });
        }
        self.mapping.copy_in(self.offset, bytes)
    }

    /// The range's address, for a raw iovec; see [`Mapping::address`].
    pub fn address(&self) -> Result<*mut u8, OutOfRegion> {
        self.mapping.address(self.offset, u64::from(self.length))
    }
}
