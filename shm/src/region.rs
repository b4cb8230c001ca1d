//! A region: one memfd that `smbdirectd` makes for a child and both map.
//!
//! Layout and ownership stand in ARCHITECTURE.md ("Memory"). The order of making one is fixed,
//! because each step closes a door: created at its final, sparse size → sealed against shrinking
//! and growing → mapped by smbdirectd → sent to the child, which maps it → sealed against new
//! writers and hole punching ([`Region::seal`]) → registered with a device.
//!
//! Trust: the other side writes at any time. There is no `&[u8]` into a mapping; bytes leave by
//! [`Mapping::copy_out`] and enter by [`Mapping::copy_in`], and file calls take the raw pointer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};

use crate::SystemError;

/// Bytes this process has copied into or out of regions; see [`bytes_copied`].
static COPIED: AtomicU64 = AtomicU64::new(0);

/// Bytes this process has copied into or out of regions since it started. There is no other way
/// for it to touch one, so this is the proof that payload is not copied: it counts messages only.
pub fn bytes_copied() -> u64 {
    COPIED.load(Ordering::Relaxed)
}

/// A range outside the mapping: whoever named it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes {offset}+{length} lie outside the region of {size} bytes")]
pub struct OutOfRegion {
    /// First byte asked for.
    pub offset: u64,
    /// Bytes asked for.
    pub length: u64,
    /// Bytes there are.
    pub size: u64,
}

/// One process's writable mapping of a region.
#[derive(Debug)]
pub struct Mapping {
    memory: MmapRaw,
}

// SAFETY: a mapping is an address range valid until drop; every access goes through raw pointers
// to memory that other processes change anyway, so no thread may rely on its contents.
unsafe impl Send for Mapping {}
// SAFETY: as above; `copy_in` and `copy_out` make no reference into the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(memfd: &OwnedFd, size: u64) -> Result<Mapping, SystemError> {
        let memory = MmapOptions::new()
            .len(size as usize)
            .no_reserve_swap()
            .map_raw(memfd)
            .map_err(SystemError::of("map the region"))?;
        Ok(Mapping { memory })
    }

    /// Bytes mapped.
    pub fn size(&self) -> u64 {
        self.memory.len() as u64
    }

    /// The address of `length` bytes at `offset`, checked to lie inside. What is behind it
    /// changes at any time: pass it to the kernel or a NIC, never make a reference of it.
    pub fn address(&self, offset: u64, length: u64) -> Result<*mut u8, OutOfRegion> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.size()) {
            return Err(OutOfRegion {
                offset,
                length,
                size: self.size(),
            });
        }
        Ok(self.memory.as_mut_ptr().wrapping_add(offset as usize))
    }

    /// Copies `bytes` to `offset`.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) -> Result<(), OutOfRegion> {
        let target = self.address(offset, bytes.len() as u64)?;
        // SAFETY: the target range was checked to lie inside the mapping, `bytes` is private
        // memory of this process, so the two cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        COPIED.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Copies `length` bytes at `offset` to the end of `out`: the snapshot that may be parsed.
    pub fn copy_out(&self, offset: u64, length: u32, out: &mut Vec<u8>) -> Result<(), OutOfRegion> {
        let source = self.address(offset, u64::from(length))?;
        let length = length as usize;
        out.reserve(length);
        // SAFETY: the source range lies inside the mapping, the reserved tail of `out` is private
        // and writable for `length` bytes, and any byte value is a valid `u8`.
        unsafe {
            std::ptr::copy_nonoverlapping(source, out.as_mut_ptr().add(out.len()), length);
            out.set_len(out.len() + length);
        }
        COPIED.fetch_add(length as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Which memfd a region is, however often its descriptor was passed on: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionIdentity {
    device: u64,
    inode: u64,
}

impl RegionIdentity {
    /// The identity of the memfd behind `descriptor`; of anything else than memory whose size is
    /// fixed it is an error. The seals are asked for first, which no file system has a part in: a
    /// descriptor of one that hangs cannot hold up who asks.
    pub fn of(descriptor: BorrowedFd<'_>) -> Result<RegionIdentity, SystemError> {
        let seals =
            fcntl_get_seals(descriptor).map_err(SystemError::of("read a region's seals"))?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(SystemError {
                operation: "identify a region",
                source: std::io::Error::other("its size is not fixed"),
            });
        }
        let stat = fstat(descriptor).map_err(SystemError::of("stat a region"))?;
        Ok(RegionIdentity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// The maker's side: the memfd and its mapping.
#[derive(Debug)]
pub struct Region {
    memfd: OwnedFd,
    identity: RegionIdentity,
    mapping: Mapping,
}

impl Region {
    /// Makes and maps a region of `size` bytes. Sparse: pages cost memory when first touched.
    pub fn create(size: u64) -> Result<Region, SystemError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"smbdirect-region", flags | MemfdFlags::NOEXEC_SEAL)
            // Kernels before 6.3 know no NOEXEC_SEAL.
            .or_else(|_| memfd_create(c"smbdirect-region", flags))
            .map_err(SystemError::of("create a memfd"))?;
        ftruncate(&memfd, size).map_err(SystemError::of("size a memfd"))?;
        fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW)
            .map_err(SystemError::of("seal a memfd's size"))?;
        let identity = RegionIdentity::of(memfd.as_fd())?;
        let mapping = Mapping::of(&memfd, size)?;
        Ok(Region {
            memfd,
            identity,
            mapping,
        })
    }

    /// After the child has mapped it: no new writer, no hole punching, no further seal.
    pub fn seal(&self) -> Result<(), SystemError> {
        fcntl_add_seals(&self.memfd, SealFlags::FUTURE_WRITE | SealFlags::SEAL)
            .map_err(SystemError::of("seal a region against new writers"))
    }

    /// The descriptor to pass to the child.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Which memfd this is.
    pub fn identity(&self) -> RegionIdentity {
        self.identity
    }

    /// This process's mapping.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// Maps a region received from its maker, checking that its size is `size` and fixed.
pub fn map_received(memfd: &OwnedFd, size: u64) -> Result<Mapping, SystemError> {
    let stat = fstat(memfd).map_err(SystemError::of("stat a received region"))?;
    let seals = fcntl_get_seals(memfd).map_err(SystemError::of("read a region's seals"))?;
    if stat.st_size as u64 != size || !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
        return Err(SystemError {
            operation: "map a received region",
            source: std::io::Error::other(
                "it is not of the size announced, or can still change it",
            ),
        });
    }
    Mapping::of(memfd, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FallocateFlags, fallocate};

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let region = Region::create(1 << 20).unwrap();
        let received = region.descriptor().try_clone_to_owned().unwrap();
        let other = map_received(&received, 1 << 20).unwrap();
        region.mapping().copy_in(4096, b"payload").unwrap();
        let before = bytes_copied();
        let mut copy = Vec::new();
        other.copy_out(4096, 7, &mut copy).unwrap();
        assert_eq!(copy, b"payload");
        assert!(bytes_copied() >= before + 7);
        assert_eq!(
            RegionIdentity::of(received.as_fd()).unwrap(),
            region.identity()
        );
    }

    #[test]
    fn a_sealed_region_takes_no_new_writer_and_no_hole() {
        let region = Region::create(1 << 16).unwrap();
        let memfd = region.descriptor().try_clone_to_owned().unwrap();
        region.seal().unwrap();
        assert!(map_received(&memfd, 1 << 16).is_err(), "a new writable map");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert!(fallocate(&memfd, punch, 0, 4096).is_err());
        assert!(ftruncate(&memfd, 4096).is_err());
        assert!(fcntl_add_seals(&memfd, SealFlags::WRITE).is_err());
    }

    #[test]
    fn ranges_outside_are_refused_without_wrapping() {
        let region = Region::create(8192).unwrap();
        for (offset, length) in [(8192, 1), (0, 8193), (u64::MAX, 2), (4096, u64::MAX)] {
            assert!(region.mapping().address(offset, length).is_err());
        }
        assert!(region.mapping().address(8192, 0).is_ok());
        let mut out = Vec::new();
        assert!(region.mapping().copy_out(8190, 4, &mut out).is_err());
        assert!(region.mapping().copy_in(8190, b"abcd").is_err());
    }

    #[test]
    fn what_is_no_memory_of_fixed_size_is_no_region() {
        let file = std::fs::File::open("/").unwrap();
        assert!(RegionIdentity::of(file.as_fd()).is_err());
        let memfd = memfd_create(c"loose", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(RegionIdentity::of(memfd.as_fd()).is_err());
        fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert!(RegionIdentity::of(memfd.as_fd()).is_ok());
    }

    #[test]
    fn a_sealed_region_gives_no_page_back_through_a_mapping_either() {
        let region = Region::create(1 << 16).unwrap();
        let memfd = region.descriptor().try_clone_to_owned().unwrap();
        let child = map_received(&memfd, 1 << 16).unwrap();
        child.copy_in(0, b"bytes").unwrap();
        region.seal().unwrap();
        let address = child.address(0, 4096).unwrap();
        // SAFETY: the range is a mapping of this test's own, to which nothing refers.
        let removed =
            unsafe { rustix::mm::madvise(address.cast(), 4096, rustix::mm::Advice::LinuxRemove) };
        assert!(removed.is_err());
        let mut copy = Vec::new();
        region.mapping().copy_out(0, 5, &mut copy).unwrap();
        assert_eq!(copy, b"bytes");
    }

    #[test]
    fn a_region_of_another_size_is_not_mapped() {
        let region = Region::create(8192).unwrap();
        let memfd = region.descriptor().try_clone_to_owned().unwrap();
        assert!(map_received(&memfd, 4096).is_err());
    }
}
