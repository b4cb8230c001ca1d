//! Random bytes: challenges, salts, identifiers. Straight from the kernel.
//!
//! A library's generator would gather entropy of its own first, in each child anew: a child draws
//! a few dozen bytes in its life.

use proto::smb2::NtStatus;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// `N` random bytes, at most 256: so few come whole.
pub fn bytes<const N: usize>() -> Result<[u8; N], NtStatus> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(count) if count == N => return Ok(bytes),
            Err(Errno::INTR) => {}
            _ => return Err(NtStatus::INSUFFICIENT_RESOURCES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
    }
}
