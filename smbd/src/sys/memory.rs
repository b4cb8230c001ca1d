//! What a process keeps in memory while it has nothing to do: as little as possible, since a server
//! has as many children as clients.
//!
//! The zygote starts with [`TUNABLES`], which its children inherit; a child's loop calls [`trim`] and
//! [`forget_program`] once it has had nothing to do for a while.

use std::ffi::{c_int, c_void};

/// glibc's settings (`GLIBC_TUNABLES`) for a process with few threads: one arena of the allocator for
/// all of them, and nothing kept of a thread that has ended.
pub const TUNABLES: &str = "glibc.malloc.arena_max=1:glibc.pthread.stack_cache_size=0";

/// Gives the allocator's free memory back to the kernel, wherever in the heap it is.
pub fn trim() {
    // SAFETY: malloc_trim takes an integer, may be called at any time by any thread, and touches no
    // memory that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes the pages of the program and its libraries that are never written to out of this process.
/// They stay in the page cache; those that are needed again come back by minor faults, sixteen at
/// a time.
pub fn forget_program() {
    // SAFETY: the callback is sound to call for each loaded object with any data pointer.
    unsafe { libc::dl_iterate_phdr(Some(forget_object), std::ptr::null_mut()) };
}

/// # Safety
/// `object` describes an object that is loaded, as dl_iterate_phdr does.
unsafe extern "C" fn forget_object(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the caller answers for it.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the dynamic linker keeps this many headers there as long as the object is loaded.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    let page = rustix::param::page_size() as u64;
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        if let Some((start, end)) =
            whole_pages(object.dlpi_addr, header.p_vaddr, header.p_filesz, page)
        {
            // SAFETY: these pages are mapped from a file, privately, and were never writable, so
            // what the next access finds there is what was there. The kernel's own object (the vDSO)
            // refuses, which changes nothing.
            unsafe {
                libc::madvise(
                    start as *mut c_void,
                    (end - start) as usize,
                    libc::MADV_DONTNEED,
                )
            };
        }
    }
    0
}

/// The pages that are a segment's alone: the linker lets no two segments share one that differ in
/// their rights. `base` is a difference, so it is added modulo 2^64: the vDSO of some kernels is linked
/// at an address above where it is.
fn whole_pages(base: u64, address: u64, size: u64, page: u64) -> Option<(u64, u64)> {
    let address = base.wrapping_add(address);
    let start = address.checked_next_multiple_of(page)?;
    let end = address.checked_add(size)? / page * page;
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_may_be_linked_above_where_it_lies() {
        let page = 4096;
        assert_eq!(
            whole_pages(0x10_0000, 0x800, 0x3000, page),
            Some((0x10_1000, 0x10_3000))
        );
        let base = 0x7000_0000u64.wrapping_sub(0xFFFF_FFFF_FF70_0000);
        assert_eq!(
            whole_pages(base, 0xFFFF_FFFF_FF70_0000, 0x1800, page),
            Some((0x7000_0000, 0x7000_1000))
        );
        for (address, size) in [(0, 4095), (u64::MAX - 10, 5), (u64::MAX - 9000, 9001)] {
            assert_eq!(whole_pages(0, address, size, page), None);
        }
    }

    /// KiB of this program's code that the process has mapped now.
    fn mapped_code() -> u64 {
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let mut is_code = false;
        let mut sum = 0;
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            if line.ends_with(program) {
                is_code = line.contains("r-xp");
            } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| is_code) {
                sum += rest
                    .split_whitespace()
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap();
            }
        }
        sum
    }

    #[test]
    fn a_forgotten_program_runs_on_and_takes_less() {
        let before = mapped_code();
        forget_program();
        let after = mapped_code();
        assert!(after < before, "{after} KiB of {before} KiB");
        trim();
        assert_eq!("it runs".to_owned() + " on", "it runs on");
    }
}
