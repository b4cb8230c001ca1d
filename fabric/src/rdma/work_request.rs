//! Work requests as the gateway writes them.

use super::memory_region::LocalRange;

/// What a work request of the send queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// SEND, or SEND_WITH_INV of a token.
    Send {
        /// The peer's token to invalidate.
        invalidate: Option<u32>,
    },
    /// RDMA WRITE to the peer's memory.
    Write {
        /// Where.
        address: u64,
        /// By which token.
        token: u32,
    },
    /// RDMA READ from the peer's memory.
    Read {
        /// Where.
        address: u64,
        /// By which token.
        token: u32,
    },
}

/// One work request. Its memory is kept by the registrations its ranges came from.
#[derive(Debug, Clone, Copy)]
pub struct WorkRequest {
    /// Comes back with its completion; below 2^63.
    pub id: u64,
    /// What it does.
    pub operation: Operation,
    /// Its bytes, first part.
    pub first: LocalRange,
    /// Its bytes, second part.
    pub second: Option<LocalRange>,
    /// A completion is wanted even if it succeeds.
    pub signaled: bool,
}

impl WorkRequest {
    /// Bytes it moves.
    pub(super) fn length(&self) -> u32 {
        self.first.length() + self.second.map_or(0, |second| second.length())
    }

    /// The bytes of its ranges; `None` if a registration is gone.
    pub(super) fn gather(&self, domain: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.length() as usize);
        self.first.read(domain, &mut bytes)?;
        if let Some(second) = self.second {
            second.read(domain, &mut bytes)?;
        }
        Some(bytes)
    }

    /// The peer may write to all of its ranges.
    pub(super) fn is_open_to_writes(&self) -> bool {
        let second = self.second.as_ref();
        self.first.is_open_to_writes() && second.is_none_or(LocalRange::is_open_to_writes)
    }

    /// Writes what was read from the peer to its ranges.
    pub(super) fn scatter(&self, domain: u64, bytes: &[u8]) -> Option<()> {
        let (first, second) = bytes.split_at_checked(self.first.length() as usize)?;
        self.first.write(domain, first)?;
        match self.second {
            Some(range) => range.write(domain, second),
            None => Some(()),
        }
    }
}
