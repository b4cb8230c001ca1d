//! Account of one send queue: which work requests are posted, in order, and what each was for.
//! Pure: it posts nothing. A request's number is its place in the order and is never used again,
//! so a completion retires each request exactly once: those before it, unsignaled, with it, and
//! one that was retired already is counted and ignored (CVE-2026-31536 was freeing such twice).
//! READs are retired by READs only: siw reports a SEND done while a READ posted before is not.

use std::collections::VecDeque;
use std::fmt;

use super::sink::SinkSlot;
use crate::relay::Segment;

/// The client's memory a work request is about; said when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// The client's address.
    pub address: u64,
    /// The client's token.
    pub token: u32,
    /// Bytes.
    pub length: u32,
}

impl From<Segment> for Remote {
    fn from(segment: Segment) -> Remote {
        Remote {
            address: segment.address,
            token: segment.token,
            length: segment.length,
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} bytes at {:#x}, token {:#010x}",
            self.length, self.address, self.token
        )
    }
}

/// What a posted work request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A SEND from a slot of the send slab, for the reply of this key if it has one.
    Send { slot: u16, reply: Option<usize> },
    /// An RDMA WRITE of the reply of this key.
    Write { reply: usize, remote: Remote },
    /// An RDMA READ of the operation of this key.
    Read {
        operation: usize,
        remote: Remote,
        /// On iWARP: where its bytes arrive before they are copied to the region.
        sink: Option<SinkSlot>,
    },
    /// The last request of a queue pair in error: when it completes, nothing is left.
    Marker,
}

impl Purpose {
    fn is_read(self) -> bool {
        matches!(self, Purpose::Read { .. })
    }

    /// It moves a payload.
    pub fn is_rdma(self) -> bool {
        matches!(self, Purpose::Read { .. } | Purpose::Write { .. })
    }
}

/// Work requests posted and not retired, oldest first; `None` was retired ahead of an older one.
#[derive(Debug)]
pub struct SendQueue {
    posted: VecDeque<Option<Purpose>>,
    /// Number of the oldest posted request.
    first: u64,
    rdma: u32,
    rdma_depth: u32,
    reads: u32,
    read_depth: u32,
    duplicates: u64,
}

impl SendQueue {
    /// At most `rdma_depth` WRITEs and READs are posted, of these at most `read_depth` READs.
    /// SENDs are bounded by the protocol machine, the marker is one.
    pub fn new(rdma_depth: u32, read_depth: u32) -> SendQueue {
        SendQueue {
            posted: VecDeque::new(),
            first: 0,
            rdma: 0,
            rdma_depth,
            reads: 0,
            read_depth,
            duplicates: 0,
        }
    }

    /// An RDMA WRITE may be posted.
    pub fn has_room_for_write(&self) -> bool {
        self.rdma < self.rdma_depth
    }

    /// An RDMA READ may be posted.
    pub fn has_room_for_read(&self) -> bool {
        self.rdma < self.rdma_depth && self.reads < self.read_depth
    }

    /// An RDMA READ is posted and not retired.
    pub fn has_read(&self) -> bool {
        self.reads > 0
    }

    /// The oldest WRITE or READ that is not retired.
    pub fn oldest_rdma(&self) -> Option<Purpose> {
        let mut posted = self.posted.iter().flatten();
        posted.find(|purpose| purpose.is_rdma()).copied()
    }

    /// WRITEs and READs posted at most.
    pub fn rdma_depth(&self) -> u32 {
        self.rdma_depth
    }

    /// READs posted at most.
    pub fn read_depth(&self) -> u32 {
        self.read_depth
    }

    /// Notes a request that is about to be posted; answers its number.
    pub fn add(&mut self, purpose: Purpose) -> u64 {
        let number = self.first + self.posted.len() as u64;
        self.count(purpose, 1);
        self.posted.push_back(Some(purpose));
        number
    }

    /// All but the oldest `keep` requests were refused by the device and are not in the queue.
    pub fn withdraw_all_but(&mut self, keep: usize) -> Vec<Purpose> {
        let at = self.posted.len().min(keep);
        let withdrawn: Vec<Purpose> = self.posted.drain(at..).flatten().collect();
        for purpose in &withdrawn {
            self.count(*purpose, -1);
        }
        withdrawn
    }

    /// Request `number` completed: retires it and every older one of its kind, oldest first, one
    /// a call. `None` when there is nothing (more) to retire.
    pub fn retire(&mut self, number: u64) -> Option<(u64, Purpose)> {
        let end = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let named = self.posted.get(end).copied().flatten()?;
        let same_kind = |purpose: &Purpose| purpose.is_read() == named.is_read();
        let at = self
            .posted
            .iter()
            .position(|posted| posted.as_ref().is_some_and(same_kind))?;
        let purpose = self.posted.get_mut(at)?.take()?;
        let retired = self.first + at as u64;
        self.count(purpose, -1);
        while let Some(None) = self.posted.front() {
            self.posted.pop_front();
            self.first += 1;
        }
        Some((retired, purpose))
    }

    /// Notes a completion that names a request retired before, or one never posted.
    pub fn note_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// The request is posted and not retired.
    pub fn holds(&self, number: u64) -> bool {
        let place = number
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        place.is_some_and(|place| matches!(self.posted.get(place), Some(Some(_))))
    }

    /// Requests posted and not retired.
    pub fn len(&self) -> usize {
        self.posted.len()
    }

    /// Nothing is posted.
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }

    /// Completions that named nothing posted.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn count(&mut self, purpose: Purpose, change: i32) {
        match purpose {
            Purpose::Write { .. } => self.rdma = self.rdma.saturating_add_signed(change),
            Purpose::Read { .. } => {
                self.rdma = self.rdma.saturating_add_signed(change);
                self.reads = self.reads.saturating_add_signed(change);
            }
            Purpose::Send { .. } | Purpose::Marker => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: Remote = Remote {
        address: 0x1000,
        token: 7,
        length: 8,
    };

    const SEND: Purpose = Purpose::Send {
        slot: 0,
        reply: None,
    };
    const READ: Purpose = Purpose::Read {
        operation: 1,
        remote: REMOTE,
        sink: None,
    };
    const WRITE: Purpose = Purpose::Write {
        reply: 2,
        remote: REMOTE,
    };

    fn retire_all(queue: &mut SendQueue, number: u64) -> Vec<Purpose> {
        std::iter::from_fn(|| queue.retire(number).map(|(_, purpose)| purpose)).collect()
    }

    #[test]
    fn a_completion_retires_the_unsignaled_requests_before_it() {
        let mut queue = SendQueue::new(8, 8);
        queue.add(WRITE);
        queue.add(WRITE);
        let last = queue.add(SEND);
        let behind = queue.add(READ);
        assert_eq!(retire_all(&mut queue, last), [WRITE, WRITE, SEND]);
        assert!(!queue.is_empty());
        assert_eq!(retire_all(&mut queue, behind), [READ]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_send_that_overtakes_a_read_does_not_end_it() {
        let mut queue = SendQueue::new(8, 8);
        let read = queue.add(READ);
        let send = queue.add(SEND);
        assert_eq!(retire_all(&mut queue, send), [SEND]);
        assert!(!queue.holds(send) && queue.holds(read) && !queue.is_empty());
        assert_eq!(retire_all(&mut queue, send), [], "once");
        let later = queue.add(WRITE);
        assert_eq!(retire_all(&mut queue, read), [READ]);
        assert_eq!(retire_all(&mut queue, later), [WRITE]);
        assert!(queue.is_empty());
    }

    #[test]
    fn flushed_requests_that_were_retired_before_free_nothing_twice() {
        let mut queue = SendQueue::new(8, 8);
        let first = queue.add(SEND);
        let second = queue.add(SEND);
        assert_eq!(retire_all(&mut queue, second).len(), 2);
        assert!(!queue.holds(first));
        assert_eq!(retire_all(&mut queue, first), []);
        assert_eq!(retire_all(&mut queue, second), []);
        assert_eq!(retire_all(&mut queue, 77), [], "never posted");
    }

    #[test]
    fn reads_are_held_to_what_the_peer_serves_and_come_back() {
        let mut queue = SendQueue::new(4, 2);
        queue.add(READ);
        let second = queue.add(READ);
        assert!(!queue.has_room_for_read());
        assert!(queue.has_room_for_write(), "a write passes waiting reads");
        queue.add(WRITE);
        queue.add(WRITE);
        assert!(!queue.has_room_for_write());
        retire_all(&mut queue, second);
        assert!(queue.has_room_for_read() && queue.has_room_for_write());
    }

    #[test]
    fn what_the_device_refused_is_not_posted() {
        let mut queue = SendQueue::new(2, 2);
        let first = queue.add(SEND);
        queue.add(READ);
        queue.add(WRITE);
        assert_eq!(queue.withdraw_all_but(1), [READ, WRITE]);
        assert!(queue.has_room_for_read());
        assert_eq!(retire_all(&mut queue, first), [SEND]);
        assert_eq!(queue.add(SEND), 1, "numbers of refused requests go on");
    }
}
