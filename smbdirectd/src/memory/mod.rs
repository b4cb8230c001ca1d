//! Regions shared with children: made at a child's first `attach`, found again by identity,
//! registered part by part in the protection domain of each device its connections use, and
//! dropped with its last connection. Pinned bytes are counted against a total and per client.

mod budget;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use proto::relay::{Attached, RegionRange};
use shm::SystemError;
use shm::region::{Mapping, Region, RegionIdentity};

use crate::rdma::{Access, LocalRange, MemoryRegion, ProtectionDomain};
use budget::Budget;

/// Bytes of a part: no transfer is longer, and a registration costs a few milliseconds.
pub const PART_SIZE: u32 = 8 << 20;
/// Bytes of a connection's message ring: at least two of the longest messages.
pub const RING_SIZE: u32 = 4 << 20;
/// Connections that can share a region: as many channels as a client can bind to a session.
pub const RINGS: u32 = 32;
/// Where the payload area begins.
const PAYLOAD_OFFSET: u64 = RING_SIZE as u64 * RINGS as u64;

/// Every region, and the pinned bytes of all.
#[derive(Debug)]
pub struct Memory {
    total: Budget,
    client_limit: u64,
    regions: HashMap<RegionIdentity, Rc<ClientRegion>>,
}

/// One child's region.
#[derive(Debug)]
pub struct ClientRegion {
    region: Rc<Region>,
    sealed: Cell<bool>,
    parts: Cell<u32>,
    max_parts: u32,
    client: Cell<Budget>,
    /// Ring slots in use.
    rings: Cell<u32>,
    domains: RefCell<HashMap<u64, DomainUse>>,
}

/// What a region has in one protection domain.
#[derive(Debug)]
struct DomainUse {
    domain: Rc<ProtectionDomain>,
    connections: u32,
    /// Bytes counted for this domain, registered or about to be.
    counted: u64,
    parts: Vec<MemoryRegion>,
}

/// A connection's share of a region; given back with [`Memory::detach`].
#[derive(Debug)]
pub struct Attachment {
    region: Rc<ClientRegion>,
    domain: u64,
    ring: u32,
    fresh: bool,
}

/// Why a connection gets no region.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The child is served without RDMA payload.
    #[error("{wanted} bytes of pinned memory are wanted and {left} are left")]
    Budget {
        /// Bytes a first part takes.
        wanted: u64,
        /// Bytes there are.
        left: u64,
    },
    /// The child has more connections than a region has rings.
    #[error("the region's {RINGS} message rings are in use")]
    Rings,
    /// What came along is no memory of a fixed size.
    #[error("the descriptor that came with `attach` is no region: {0}")]
    NotARegion(SystemError),
    /// The kernel or the device refused.
    #[error(transparent)]
    System(#[from] SystemError),
}

impl Memory {
    /// Pins at most `total` bytes, for one client at most `client_limit`.
    pub fn new(total: u64, client_limit: u64) -> Memory {
        Memory {
            total: Budget::new(total),
            client_limit,
            regions: HashMap::new(),
        }
    }

    /// Gives a connection in `domain` its share of the region behind `memfd`, or of a new one: also
    /// where `memfd` is no region any more, as its last connection ended before this one attached.
    pub fn attach(
        &mut self,
        domain: &Rc<ProtectionDomain>,
        memfd: Option<&OwnedFd>,
    ) -> Result<Attachment, AttachError> {
        let known = match memfd {
            Some(memfd) => {
                let identity = RegionIdentity::of(memfd.as_fd());
                let identity = identity.map_err(AttachError::NotARegion)?;
                self.regions.get(&identity).cloned()
            }
            None => None,
        };
        let fresh = known.is_none();
        let region = match known {
            Some(region) => region,
            None => self.make()?,
        };
        let attached = self.join(&region, domain, fresh);
        if attached.is_err() {
            self.drop_if_unused(&region);
        }
        attached
    }

    fn make(&mut self) -> Result<Rc<ClientRegion>, AttachError> {
        let max_parts = u32::try_from(self.client_limit / u64::from(PART_SIZE))
            .unwrap_or(u32::MAX)
            .clamp(1, 4096);
        let region = Region::create(PAYLOAD_OFFSET + u64::from(max_parts) * u64::from(PART_SIZE))?;
        let region = Rc::new(ClientRegion {
            region: Rc::new(region),
            sealed: Cell::new(false),
            parts: Cell::new(0),
            max_parts,
            client: Cell::new(Budget::new(self.client_limit.max(u64::from(PART_SIZE)))),
            rings: Cell::new(0),
            domains: RefCell::new(HashMap::new()),
        });
        self.regions
            .insert(region.region.identity(), region.clone());
        Ok(region)
    }

    fn join(
        &mut self,
        region: &Rc<ClientRegion>,
        domain: &Rc<ProtectionDomain>,
        fresh: bool,
    ) -> Result<Attachment, AttachError> {
        let ring = region.free_ring().ok_or(AttachError::Rings)?;
        let mut domains = region.domains.borrow_mut();
        if let Some(used) = domains.get_mut(&domain.number()) {
            used.connections += 1;
        } else {
            // A first part where the region has none; what it has already, in a further domain.
            let parts = region.parts.get().max(1);
            let bytes = u64::from(parts) * u64::from(PART_SIZE);
            let left = self.take(region, bytes);
            if let Err(left) = left {
                return Err(AttachError::Budget {
                    wanted: bytes,
                    left,
                });
            }
            region.parts.set(parts);
            domains.insert(
                domain.number(),
                DomainUse {
                    domain: domain.clone(),
                    connections: 1,
                    counted: bytes,
                    parts: Vec::new(),
                },
            );
        }
        region.rings.set(region.rings.get() | 1 << ring);
        Ok(Attachment {
            region: region.clone(),
            domain: domain.number(),
            ring,
            fresh,
        })
    }

    /// Takes from the total and the client's share, or answers what is left of the smaller.
    fn take(&mut self, region: &ClientRegion, bytes: u64) -> Result<(), u64> {
        let mut client = region.client.get();
        let left = self.total.left().min(client.left());
        if bytes > left || !client.take(bytes) || !self.total.take(bytes) {
            return Err(left);
        }
        region.client.set(client);
        Ok(())
    }

    fn give_back(&mut self, region: &ClientRegion, bytes: u64) {
        let mut client = region.client.get();
        client.give_back(bytes);
        region.client.set(client);
        self.total.give_back(bytes);
    }

    /// The child has mapped the region: seals it and registers its parts for this connection. Where
    /// the kernel locks no more memory the budget is lowered to what it has locked.
    pub fn mapped(&mut self, attachment: &Attachment) -> Result<(), SystemError> {
        let region = &attachment.region;
        if !region.sealed.get() {
            region.region.seal()?;
            region.sealed.set(true);
        }
        let mut domains = region.domains.borrow_mut();
        let Some(used) = domains.get_mut(&attachment.domain) else {
            return Ok(());
        };
        let registered = used.register(&region.region, region.parts.get());
        if let Err(error) = &registered
            && is_out_of_memory(error)
        {
            let parts = used.parts.len() as u64;
            let missing = used.counted - parts * u64::from(PART_SIZE);
            self.total.lower(missing);
        }
        registered
    }

    /// Raises the parts in use towards `wanted` as far as both budgets go; answers how many there
    /// are now, and the error that stopped it if it was not a budget.
    pub fn grow(&mut self, attachment: &Attachment, wanted: u32) -> (u32, Option<SystemError>) {
        let region = attachment.region.clone();
        let wanted = wanted.min(region.max_parts);
        while region.parts.get() < wanted {
            let bytes = u64::from(PART_SIZE) * region.domains.borrow().len() as u64;
            if self.take(&region, bytes).is_err() {
                break;
            }
            let parts = region.parts.get() + 1;
            let mut failed = None;
            let mut domains = region.domains.borrow_mut();
            for used in domains.values_mut() {
                used.counted += u64::from(PART_SIZE);
                // A domain whose connection has not said `mapped` registers when it does.
                if !used.parts.is_empty()
                    && let Err(error) = used.register(&region.region, parts)
                {
                    failed = Some(error);
                }
            }
            if let Some(error) = failed {
                for used in domains.values_mut() {
                    used.counted -= u64::from(PART_SIZE);
                    used.parts.truncate(region.parts.get() as usize);
                }
                drop(domains);
                if is_out_of_memory(&error) {
                    self.total.lower(bytes);
                }
                self.give_back(&region, bytes);
                return (region.parts.get(), Some(error));
            }
            drop(domains);
            region.parts.set(parts);
        }
        (region.parts.get(), None)
    }

    /// A connection has ended and drained: the NIC touches nothing on its behalf any more.
    pub fn detach(&mut self, attachment: Attachment) {
        let region = &attachment.region;
        region
            .rings
            .set(region.rings.get() & !(1 << attachment.ring));
        let mut domains = region.domains.borrow_mut();
        if let Some(used) = domains.get_mut(&attachment.domain) {
            used.connections -= 1;
            if used.connections == 0 {
                let counted = used.counted;
                domains.remove(&attachment.domain);
                self.give_back(region, counted);
            }
        }
        drop(domains);
        self.drop_if_unused(region);
    }

    fn drop_if_unused(&mut self, region: &Rc<ClientRegion>) {
        if region.domains.borrow().is_empty() {
            self.regions.remove(&region.region.identity());
        }
    }
}

impl Attachment {
    /// What the child is told.
    pub fn attached(&self) -> Attached {
        Attached {
            region_size: self.region.region.mapping().size(),
            payload_offset: PAYLOAD_OFFSET,
            part_size: PART_SIZE,
            parts: self.region.parts.get(),
            max_parts: self.region.max_parts,
            ring_offset: self.ring_offset(),
            ring_size: RING_SIZE,
        }
    }

    /// The memfd, if the child does not have it yet.
    pub fn new_memfd(&self) -> Option<BorrowedFd<'_>> {
        self.fresh.then(|| self.region.region.descriptor())
    }

    /// Bytes of the region its child may use for payload.
    pub fn granted(&self) -> u64 {
        u64::from(self.region.parts.get()) * u64::from(PART_SIZE)
    }

    /// Where this connection's ring starts.
    pub fn ring_offset(&self) -> u64 {
        u64::from(self.ring) * u64::from(RING_SIZE)
    }

    /// smbdirectd's mapping.
    pub fn mapping(&self) -> &Mapping {
        self.region.region.mapping()
    }

    /// Checks that a range the child named lies in one granted part.
    pub fn holds(&self, range: RegionRange) -> bool {
        within_part(range, self.region.parts.get()).is_some()
    }

    /// The registered bytes of a range that `holds` accepted.
    pub fn local(&self, range: RegionRange) -> Option<LocalRange> {
        let (part, offset) = within_part(range, self.region.parts.get())?;
        let domains = self.region.domains.borrow();
        let registered = domains.get(&self.domain)?.parts.get(part as usize)?;
        registered.range(offset, range.length)
    }
}

impl ClientRegion {
    fn free_ring(&self) -> Option<u32> {
        let free = self.rings.get().trailing_ones();
        (free < RINGS).then_some(free)
    }
}

impl DomainUse {
    fn register(&mut self, region: &Rc<Region>, parts: u32) -> Result<(), SystemError> {
        while self.parts.len() < parts as usize {
            let offset = PAYLOAD_OFFSET + self.parts.len() as u64 * u64::from(PART_SIZE);
            self.parts.push(MemoryRegion::over_shared(
                &self.domain,
                region.clone(),
                offset,
                u64::from(PART_SIZE),
                Access::Local,
            )?);
        }
        Ok(())
    }
}

/// The kernel locks no more memory for this process, or has none.
pub fn is_out_of_memory(error: &SystemError) -> bool {
    error.source.raw_os_error() == Some(libc::ENOMEM)
}

/// The part a range lies in and its offset there; `None` outside the granted parts or across two.
fn within_part(range: RegionRange, parts: u32) -> Option<(u32, u64)> {
    let offset = range.offset.checked_sub(PAYLOAD_OFFSET)?;
    let part = u32::try_from(offset / u64::from(PART_SIZE)).ok()?;
    let within = offset % u64::from(PART_SIZE);
    let fits = within + u64::from(range.length) <= u64::from(PART_SIZE);
    (part < parts && fits && range.length > 0).then_some((part, within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u32) -> RegionRange {
        RegionRange { offset, length }
    }

    #[test]
    fn ranges_outside_the_granted_parts_are_refused() {
        let part = u64::from(PART_SIZE);
        assert_eq!(within_part(range(PAYLOAD_OFFSET, 1), 1), Some((0, 0)));
        assert_eq!(
            within_part(range(PAYLOAD_OFFSET + part, PART_SIZE), 2),
            Some((1, 0))
        );
        assert_eq!(within_part(range(0, 1), 2), None, "a ring");
        assert_eq!(within_part(range(PAYLOAD_OFFSET - 1, 2), 2), None);
        assert_eq!(
            within_part(range(PAYLOAD_OFFSET + part, 1), 1),
            None,
            "not granted"
        );
        assert_eq!(
            within_part(range(PAYLOAD_OFFSET + part - 1, 2), 2),
            None,
            "two parts"
        );
        assert_eq!(within_part(range(u64::MAX, u32::MAX), 4096), None);
        assert_eq!(within_part(range(PAYLOAD_OFFSET, u32::MAX), 4096), None);
    }
}
