//! Registered memory: private slabs, and windows of a region shared with a child. A registration
//! keeps its memory alive and is undone before that memory goes. All objects are counted, so that
//! a leak shows in the daemon's status.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rdma_sys::{ibv_access_flags, ibv_dereg_mr, ibv_mr, ibv_reg_mr, ibv_sge};
use shm::SystemError;
use shm::region::Mapping;

use super::device::ProtectionDomain;
use super::last_error;

/// What the device may do with registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only what this side asks for.
    Local,
    /// The peer may write: an RDMA READ sink on iWARP.
    RemoteWrite,
    /// The peer may read and write: an active side's payload.
    RemoteReadWrite,
}

/// Objects that exist now, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveObjects {
    /// Queue pairs.
    pub queue_pairs: u64,
    /// Memory regions.
    pub memory_regions: u64,
    /// Bytes they pin.
    pub pinned_bytes: u64,
}

pub(super) static QUEUE_PAIRS: AtomicU64 = AtomicU64::new(0);
static MEMORY_REGIONS: AtomicU64 = AtomicU64::new(0);
static PINNED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts what exists now.
pub fn live_objects() -> LiveObjects {
    LiveObjects {
        queue_pairs: QUEUE_PAIRS.load(Ordering::Relaxed),
        memory_regions: MEMORY_REGIONS.load(Ordering::Relaxed),
        pinned_bytes: PINNED_BYTES.load(Ordering::Relaxed),
    }
}

/// Registered bytes a work request may name.
#[derive(Clone, Copy)]
pub struct LocalRange {
    pub(super) sge: ibv_sge,
}

impl std::fmt::Debug for LocalRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} registered bytes", self.sge.length)
    }
}

/// A registration of memory in one protection domain.
#[derive(Debug)]
pub struct MemoryRegion {
    raw: NonNull<ibv_mr>,
    base: usize,
    length: u64,
    /// Kept until the registration is undone; fields drop after `drop`.
    _memory: Memory,
    _domain: Rc<ProtectionDomain>,
}

/// Memory private to this process, registered for the NIC.
#[derive(Debug)]
pub struct Slab {
    region: MemoryRegion,
    bytes: Rc<PrivateMemory>,
}

#[derive(Debug)]
enum Memory {
    #[expect(dead_code, reason = "kept alive, never looked at")]
    Shared(Rc<dyn KeptMapping>),
    #[expect(dead_code, reason = "kept alive, never looked at")]
    Private(Rc<PrivateMemory>),
}

/// Whatever owns a mapping and is kept while the NIC may use it.
pub trait KeptMapping: std::fmt::Debug {
    /// The mapping.
    fn mapping(&self) -> &Mapping;
}

impl KeptMapping for shm::region::Region {
    fn mapping(&self) -> &Mapping {
        shm::region::Region::mapping(self)
    }
}

impl KeptMapping for Mapping {
    fn mapping(&self) -> &Mapping {
        self
    }
}

#[derive(Debug)]
struct PrivateMemory {
    start: NonNull<u8>,
    layout: Layout,
}

impl MemoryRegion {
    /// Registers `length` bytes at `offset` of a shared region.
    pub fn over_shared(
        domain: &Rc<ProtectionDomain>,
        shared: Rc<dyn KeptMapping>,
        offset: u64,
        length: u64,
        access: Access,
    ) -> Result<MemoryRegion, SystemError> {
        let start = shared
            .mapping()
            .address(offset, length)
            .map_err(|outside| SystemError {
                operation: "register a part of a region",
                source: std::io::Error::other(outside),
            })?;
        MemoryRegion::register(domain, start, length, access, Memory::Shared(shared))
    }

    fn register(
        domain: &Rc<ProtectionDomain>,
        start: *mut u8,
        length: u64,
        access: Access,
        memory: Memory,
    ) -> Result<MemoryRegion, SystemError> {
        let flags = match access {
            Access::Local => ibv_access_flags::IBV_ACCESS_LOCAL_WRITE,
            Access::RemoteWrite => {
                ibv_access_flags::IBV_ACCESS_LOCAL_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE
            }
            Access::RemoteReadWrite => {
                ibv_access_flags::IBV_ACCESS_LOCAL_WRITE
                    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE
                    | ibv_access_flags::IBV_ACCESS_REMOTE_READ
            }
        };
        // SAFETY: the range is mapped and writable, and stays so: `memory` is dropped only after
        // the registration, and no reference is made into memory the NIC may write.
        let raw =
            unsafe { ibv_reg_mr(domain.raw(), start.cast(), length as usize, flags.0 as i32) };
        let raw = NonNull::new(raw).ok_or_else(|| last_error("register memory"))?;
        MEMORY_REGIONS.fetch_add(1, Ordering::Relaxed);
        PINNED_BYTES.fetch_add(length, Ordering::Relaxed);
        Ok(MemoryRegion {
            raw,
            base: start as usize,
            length,
            _memory: memory,
            _domain: domain.clone(),
        })
    }

    /// `length` bytes at `offset` of this registration; `None` outside it.
    pub fn range(&self, offset: u64, length: u32) -> Option<LocalRange> {
        let end = offset.checked_add(u64::from(length))?;
        (end <= self.length).then(|| LocalRange {
            sge: ibv_sge {
                addr: self.base as u64 + offset,
                length,
                // SAFETY: the registration is live.
                lkey: unsafe { self.raw.as_ref().lkey },
            },
        })
    }

    /// What a peer needs to reach byte `offset` of it: address and token.
    pub fn remote(&self, offset: u64) -> (u64, u32) {
        // SAFETY: the registration is live.
        (self.base as u64 + offset, unsafe { self.raw.as_ref().rkey })
    }

    /// Bytes registered.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: undone exactly once. A work request still queued that names it fails in the
        // device; it can reach the memory no more.
        let answer = unsafe { ibv_dereg_mr(self.raw.as_ptr()) };
        debug_assert_eq!(answer, 0, "a memory region was still in use");
        MEMORY_REGIONS.fetch_sub(1, Ordering::Relaxed);
        PINNED_BYTES.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl LocalRange {
    /// Bytes.
    pub fn length(&self) -> u32 {
        self.sge.length
    }
}

impl Slab {
    /// Allocates and registers `length` zeroed bytes.
    pub fn new(
        domain: &Rc<ProtectionDomain>,
        length: usize,
        access: Access,
    ) -> Result<Slab, SystemError> {
        let bytes = Rc::new(PrivateMemory::new(length)?);
        let start = bytes.start.as_ptr();
        let memory = Memory::Private(bytes.clone());
        let region = MemoryRegion::register(domain, start, length as u64, access, memory)?;
        Ok(Slab { region, bytes })
    }

    /// Its registration.
    pub fn region(&self) -> &MemoryRegion {
        &self.region
    }

    /// Copies `source` to `offset`; false, and nothing copied, outside the slab.
    #[must_use]
    pub fn copy_in(&mut self, offset: usize, source: &[u8]) -> bool {
        let Some(target) = self.bytes.address(offset, source.len()) else {
            return false;
        };
        // SAFETY: the target lies inside the slab's memory, to which no reference exists.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
        true
    }

    /// Copies the bytes at `offset` into `target`; false outside the slab.
    #[must_use]
    pub fn copy_out(&self, offset: usize, target: &mut [u8]) -> bool {
        let Some(source) = self.bytes.address(offset, target.len()) else {
            return false;
        };
        // SAFETY: the source lies inside the slab's memory; `target` is the caller's own.
        unsafe { ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) };
        true
    }

    /// Copies `length` bytes at `offset` to `at` of a shared region; false outside either. The
    /// bytes may be changing while they are copied: only the copy may be trusted.
    #[must_use]
    pub fn copy_to_shared(&self, offset: usize, length: usize, to: &Mapping, at: u64) -> bool {
        let (Some(source), Ok(target)) = (
            self.bytes.address(offset, length),
            to.address(at, length as u64),
        ) else {
            return false;
        };
        // SAFETY: both ranges were checked, private and shared memory do not overlap, and no
        // reference exists to either.
        unsafe { ptr::copy_nonoverlapping(source, target, length) };
        true
    }

    /// The bytes themselves.
    ///
    /// # Safety
    /// No posted work request may let the NIC write to them while the answer lives.
    pub(super) unsafe fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        let start = self.bytes.address(offset, length)?;
        // SAFETY: inside initialized memory of ours that, by the caller's word, nobody writes.
        Some(unsafe { std::slice::from_raw_parts(start, length) })
    }
}

impl PrivateMemory {
    fn new(length: usize) -> Result<PrivateMemory, SystemError> {
        let failed = || SystemError {
            operation: "allocate buffers",
            source: std::io::Error::from_raw_os_error(libc::ENOMEM),
        };
        // Whole pages: fork and registration work in pages.
        let layout = Layout::from_size_align(length.max(1).next_multiple_of(4096), 4096)
            .map_err(|_| failed())?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(failed)?;
        Ok(PrivateMemory { start, layout })
    }

    fn address(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let end = offset.checked_add(length)?;
        (end <= self.layout.size()).then(|| self.start.as_ptr().wrapping_add(offset))
    }
}

impl Drop for PrivateMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once; registrations of it are gone, as each
        // holds a reference.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
