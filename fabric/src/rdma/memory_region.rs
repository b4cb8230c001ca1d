//! Registered memory: private slabs, and windows of a region shared with a child. Addresses are
//! invented, tokens count up and are never used again; a request finds the memory by its token in
//! the thread's table, which holds no registration alive.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use shm::SystemError;
use shm::region::Mapping;

use super::device::ProtectionDomain;

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

/// Objects that exist now, in this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveObjects {
    /// Queue pairs.
    pub queue_pairs: u64,
    /// Memory regions.
    pub memory_regions: u64,
    /// Bytes they would pin.
    pub pinned_bytes: u64,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::default());
    static QUEUE_PAIRS: Cell<u64> = const { Cell::new(0) };
    static LOCKABLE: Cell<u64> = const { Cell::new(u64::MAX) };
}

#[derive(Debug, Default)]
struct Table {
    registrations: HashMap<u32, Registration>,
    newest_token: u32,
    next_address: u64,
}

#[derive(Debug)]
struct Registration {
    domain: u64,
    base: u64,
    length: u64,
    access: Access,
    memory: Memory,
    invalidated: bool,
}

#[derive(Debug, Clone)]
enum Memory {
    Shared {
        owner: Rc<dyn KeptMapping>,
        offset: u64,
    },
    Private(Rc<RefCell<Vec<u8>>>),
}

/// Counts what exists now.
pub fn live_objects() -> LiveObjects {
    TABLE.with_borrow(|table| LiveObjects {
        queue_pairs: QUEUE_PAIRS.get(),
        memory_regions: table.registrations.len() as u64,
        pinned_bytes: table.registrations.values().map(|one| one.length).sum(),
    })
}

/// From now on this thread's registrations take no more bytes together.
pub(super) fn limit_locked(bytes: u64) {
    LOCKABLE.set(bytes);
}

pub(super) fn count_queue_pair(change: i64) {
    QUEUE_PAIRS.set(QUEUE_PAIRS.get().saturating_add_signed(change));
}

/// Registered bytes a work request may name.
#[derive(Clone, Copy)]
pub struct LocalRange {
    token: u32,
    offset: u64,
    length: u32,
}

impl std::fmt::Debug for LocalRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} registered bytes", self.length)
    }
}

/// A registration of memory in one protection domain.
#[derive(Debug)]
pub struct MemoryRegion {
    token: u32,
    base: u64,
    length: u64,
    _domain: Rc<ProtectionDomain>,
}

/// Memory private to this process, registered for the device.
#[derive(Debug)]
pub struct Slab {
    region: MemoryRegion,
    bytes: Rc<RefCell<Vec<u8>>>,
}

/// Whatever owns a mapping and is kept while the device may use it.
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

impl MemoryRegion {
    /// Registers `length` bytes at `offset` of a shared region.
    pub fn over_shared(
        domain: &Rc<ProtectionDomain>,
        shared: Rc<dyn KeptMapping>,
        offset: u64,
        length: u64,
        access: Access,
    ) -> Result<MemoryRegion, SystemError> {
        shared
            .mapping()
            .address(offset, length)
            .map_err(|outside| SystemError {
                operation: "register a part of a region",
                source: std::io::Error::other(outside),
            })?;
        let memory = Memory::Shared {
            owner: shared,
            offset,
        };
        MemoryRegion::register(domain, length, access, memory)
    }

    fn register(
        domain: &Rc<ProtectionDomain>,
        length: u64,
        access: Access,
        memory: Memory,
    ) -> Result<MemoryRegion, SystemError> {
        if live_objects().pinned_bytes + length > LOCKABLE.get() {
            return Err(SystemError {
                operation: "register memory",
                source: std::io::Error::from_raw_os_error(libc::ENOMEM),
            });
        }
        let (token, base) = TABLE.with_borrow_mut(|table| {
            table.newest_token += 1;
            // Far from zero, page aligned, a page apart.
            let base = table.next_address.max(0x7f00_0000_0000);
            table.next_address = base + length.next_multiple_of(4096) + 4096;
            let registration = Registration {
                domain: domain.number(),
                base,
                length,
                access,
                memory,
                invalidated: false,
            };
            table.registrations.insert(table.newest_token, registration);
            (table.newest_token, base)
        });
        Ok(MemoryRegion {
            token,
            base,
            length,
            _domain: domain.clone(),
        })
    }

    /// `length` bytes at `offset` of this registration; `None` outside it.
    pub fn range(&self, offset: u64, length: u32) -> Option<LocalRange> {
        let end = offset.checked_add(u64::from(length))?;
        (end <= self.length).then_some(LocalRange {
            token: self.token,
            offset,
            length,
        })
    }

    /// What a peer needs to reach byte `offset` of it: address and token.
    pub fn remote(&self, offset: u64) -> (u64, u32) {
        (self.base + offset, self.token)
    }

    /// Bytes registered.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The peer has put its token out of use; only here, verbs want a memory window for that.
    pub fn is_invalidated(&self) -> bool {
        TABLE.with_borrow(|table| {
            let registration = table.registrations.get(&self.token);
            registration.is_some_and(|one| one.invalidated)
        })
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // The thread's table is gone before this only when the thread itself ends.
        let _ = TABLE.try_with(|table| table.borrow_mut().registrations.remove(&self.token));
    }
}

impl LocalRange {
    /// Bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Appends its bytes to `out`; `None` if the registration is gone or of another domain.
    pub(super) fn read(&self, domain: u64, out: &mut Vec<u8>) -> Option<()> {
        let memory = self.memory(domain)?;
        memory.read(self.offset, self.length, out)
    }

    /// Writes `bytes` to its front.
    pub(super) fn write(&self, domain: u64, bytes: &[u8]) -> Option<()> {
        if bytes.len() > self.length as usize {
            return None;
        }
        self.memory(domain)?.write(self.offset, bytes)
    }

    /// The peer may write to it, as it must where an RDMA READ's answer is a WRITE of the peer's.
    pub(super) fn is_open_to_writes(&self) -> bool {
        TABLE.with_borrow(|table| {
            let registration = table.registrations.get(&self.token);
            registration.is_some_and(|one| one.access != Access::Local)
        })
    }

    fn memory(&self, domain: u64) -> Option<Memory> {
        TABLE.with_borrow(|table| {
            let registration = table.registrations.get(&self.token)?;
            (registration.domain == domain).then(|| registration.memory.clone())
        })
    }
}

impl Memory {
    fn read(&self, offset: u64, length: u32, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Memory::Shared {
                owner,
                offset: start,
            } => owner
                .mapping()
                .copy_out(start.checked_add(offset)?, length, out)
                .ok(),
            Memory::Private(bytes) => {
                let start = usize::try_from(offset).ok()?;
                let bytes = bytes.borrow();
                out.extend_from_slice(bytes.get(start..start.checked_add(length as usize)?)?);
                Some(())
            }
        }
    }

    fn write(&self, offset: u64, source: &[u8]) -> Option<()> {
        match self {
            Memory::Shared {
                owner,
                offset: start,
            } => owner
                .mapping()
                .copy_in(start.checked_add(offset)?, source)
                .ok(),
            Memory::Private(bytes) => {
                let start = usize::try_from(offset).ok()?;
                let mut bytes = bytes.borrow_mut();
                bytes
                    .get_mut(start..start.checked_add(source.len())?)?
                    .copy_from_slice(source);
                Some(())
            }
        }
    }
}

/// The peer reads `length` bytes at `address`; `None` where it may not.
pub(super) fn serve_read(domain: u64, token: u32, address: u64, length: u32) -> Option<Vec<u8>> {
    let reads = |access| access == Access::RemoteReadWrite;
    let (memory, offset) = remote(domain, token, address, u64::from(length), reads)?;
    let mut bytes = Vec::with_capacity(length as usize);
    memory.read(offset, length, &mut bytes)?;
    Some(bytes)
}

/// The peer writes `bytes` to `address`; `None`, and nothing written, where it may not.
pub(super) fn serve_write(domain: u64, token: u32, address: u64, bytes: &[u8]) -> Option<()> {
    let writes = |access| access != Access::Local;
    let (memory, offset) = remote(domain, token, address, bytes.len() as u64, writes)?;
    memory.write(offset, bytes)
}

/// The peer invalidates a token; false where there is none to invalidate.
pub(super) fn serve_invalidate(domain: u64, token: u32) -> bool {
    TABLE.with_borrow_mut(|table| match table.registrations.get_mut(&token) {
        Some(one) if one.domain == domain && one.access != Access::Local && !one.invalidated => {
            one.invalidated = true;
            true
        }
        _ => false,
    })
}

fn remote(
    domain: u64,
    token: u32,
    address: u64,
    length: u64,
    allows: impl Fn(Access) -> bool,
) -> Option<(Memory, u64)> {
    TABLE.with_borrow(|table| {
        let one = table.registrations.get(&token)?;
        let offset = address.checked_sub(one.base)?;
        let inside = offset.checked_add(length)? <= one.length;
        let allowed = one.domain == domain && !one.invalidated && allows(one.access);
        (inside && allowed).then(|| (one.memory.clone(), offset))
    })
}

impl Slab {
    /// Allocates and registers `length` zeroed bytes.
    pub fn new(
        domain: &Rc<ProtectionDomain>,
        length: usize,
        access: Access,
    ) -> Result<Slab, SystemError> {
        let bytes = Rc::new(RefCell::new(vec![0; length]));
        let memory = Memory::Private(bytes.clone());
        let region = MemoryRegion::register(domain, length as u64, access, memory)?;
        Ok(Slab { region, bytes })
    }

    /// Its registration.
    pub fn region(&self) -> &MemoryRegion {
        &self.region
    }

    /// Copies `source` to `offset`; false, and nothing copied, outside the slab.
    #[must_use]
    pub fn copy_in(&mut self, offset: usize, source: &[u8]) -> bool {
        let memory = Memory::Private(self.bytes.clone());
        memory.write(offset as u64, source).is_some()
    }

    /// Copies `length` bytes at `offset` to `at` of a shared region; false outside either.
    #[must_use]
    pub fn copy_to_shared(&self, offset: usize, length: usize, to: &Mapping, at: u64) -> bool {
        let bytes = self.bytes.borrow();
        let end = offset.checked_add(length);
        let source = end.and_then(|end| bytes.get(offset..end));
        source.is_some_and(|source| to.copy_in(at, source).is_ok())
    }

    /// Copies the bytes at `offset` into `target`; false outside the slab.
    #[must_use]
    pub fn copy_out(&self, offset: usize, target: &mut [u8]) -> bool {
        let bytes = self.bytes.borrow();
        let end = offset.checked_add(target.len());
        match end.and_then(|end| bytes.get(offset..end)) {
            Some(source) => {
                target.copy_from_slice(source);
                true
            }
            None => false,
        }
    }
}
