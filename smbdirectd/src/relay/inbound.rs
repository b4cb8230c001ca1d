//! Messages on their way to the child: fragments are copied, once, into a private buffer or into
//! the connection's ring, until a message is whole. At the bound of unreleased messages, or
//! without room in the ring, a fragment is not taken: its receive buffer waits, is not posted
//! again, and so the client's credits run out.

use proto::relay::{
    Body, INLINE_PREFERRED, MAX_INLINE, MAX_MESSAGES, MessageSequence, RegionRange,
};
use shm::region::Mapping;
use shm::ring::Ring;

/// A fragment as the protocol machine reported it, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of the whole message.
    pub message_length: u32,
    /// Where this one belongs in it.
    pub offset: u32,
    /// It completes the message.
    pub last: bool,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Copied; the message goes on.
    More,
    /// Nothing was taken: offer it again after a release.
    NoRoom,
    /// The message is longer than may arrive before a region is mapped.
    TooLong,
    /// The memory all unattached connections share is used up.
    PoolEmpty,
    /// The message is whole.
    Complete {
        /// Its number.
        sequence: MessageSequence,
        /// Its bytes.
        body: Body<'a>,
    },
}

/// Reassembly memory that all connections without a region share, in bytes.
#[derive(Debug)]
pub struct Pool {
    limit: u64,
    used: u64,
}

/// One connection's way to its child.
#[derive(Debug)]
pub struct Inbound {
    announced: u64,
    released: u64,
    ring: Option<(Ring, u64)>,
    /// A ring is on its way: what is too long without one waits for it.
    ring_awaited: bool,
    partial: Option<Place>,
    private: Vec<u8>,
    /// Bytes of `private` that the pool lent.
    lent: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Private,
    /// Offset in the region.
    Ring(u64),
}

impl Pool {
    /// A pool of `limit` bytes.
    pub fn new(limit: u64) -> Pool {
        Pool { limit, used: 0 }
    }

    fn lend(&mut self, bytes: u64) -> bool {
        if self.used.saturating_add(bytes) > self.limit {
            return false;
        }
        self.used += bytes;
        true
    }

    fn take_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl Inbound {
    /// Nothing has arrived.
    pub fn new() -> Inbound {
        Inbound {
            announced: 0,
            released: 0,
            ring: None,
            ring_awaited: false,
            partial: None,
            private: Vec::new(),
            lent: 0,
        }
    }

    /// The child was given a region and will map it.
    pub fn await_ring(&mut self) {
        self.ring_awaited = true;
    }

    /// The region is mapped: longer messages go to the ring of `size` bytes at `offset` from now on.
    pub fn use_ring(&mut self, offset: u64, size: u32) {
        self.ring = Some((Ring::new(size), offset));
    }

    /// Messages announced and not released.
    pub fn unreleased(&self) -> u64 {
        self.announced - self.released
    }

    /// The child consumed every message up to `through`; false if that was never announced.
    #[must_use]
    pub fn release(&mut self, through: MessageSequence) -> bool {
        if through.0 > self.announced || through.0 < self.released {
            return false;
        }
        self.released = through.0;
        if let Some((ring, _)) = &mut self.ring {
            ring.release(through.0);
        }
        true
    }

    /// Takes a fragment's bytes.
    pub fn accept<'a>(
        &'a mut self,
        fragment: Fragment,
        bytes: &'a [u8],
        region: Option<&Mapping>,
        pool: &mut Pool,
    ) -> Step<'a> {
        let sequence = self.announced + 1;
        let place = match self.partial {
            Some(place) => place,
            None => match self.begin(sequence, fragment.message_length, pool) {
                Ok(place) => place,
                Err(step) => return step,
            },
        };
        let alone = fragment.last && fragment.offset == 0;
        match place {
            Place::Private if alone => {}
            Place::Private => self.private.extend_from_slice(bytes),
            Place::Ring(start) => {
                let at = start + u64::from(fragment.offset);
                let copied = region.map(|region| region.copy_in(at, bytes));
                debug_assert_eq!(copied, Some(Ok(())), "the ring lies inside the region");
            }
        }
        if !fragment.last {
            self.partial = Some(place);
            return Step::More;
        }
        self.partial = None;
        self.announced = sequence;
        pool.take_back(std::mem::take(&mut self.lent));
        let body = match place {
            Place::Private if alone => Body::Inline(bytes),
            Place::Private => Body::Inline(&self.private),
            Place::Ring(offset) => Body::InRegion(RegionRange {
                offset,
                length: fragment.message_length,
            }),
        };
        Step::Complete {
            sequence: MessageSequence(sequence),
            body,
        }
    }

    /// Gives back what the pool lent, at the connection's end.
    pub fn abandon(&mut self, pool: &mut Pool) {
        pool.take_back(std::mem::take(&mut self.lent));
        self.private = Vec::new();
    }

    fn begin(
        &mut self,
        sequence: u64,
        length: u32,
        pool: &mut Pool,
    ) -> Result<Place, Step<'static>> {
        if self.unreleased() >= u64::from(MAX_MESSAGES) {
            return Err(Step::NoRoom);
        }
        match &mut self.ring {
            Some((ring, offset)) if length > INLINE_PREFERRED => {
                match ring.take(sequence, length) {
                    Some(at) => Ok(Place::Ring(*offset + u64::from(at))),
                    None => Err(Step::NoRoom),
                }
            }
            Some(_) => {
                self.private.clear();
                Ok(Place::Private)
            }
            None if length > MAX_INLINE && self.ring_awaited => Err(Step::NoRoom),
            None if length > MAX_INLINE => Err(Step::TooLong),
            None => {
                if !pool.lend(u64::from(length)) {
                    return Err(Step::PoolEmpty);
                }
                self.lent = u64::from(length);
                self.private.clear();
                Ok(Place::Private)
            }
        }
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Inbound::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm::region::Region;

    fn fragment(message_length: u32, offset: u32, last: bool) -> Fragment {
        Fragment {
            message_length,
            offset,
            last,
        }
    }

    fn inline(step: Step<'_>) -> (u64, Vec<u8>) {
        match step {
            Step::Complete {
                sequence,
                body: Body::Inline(bytes),
            } => (sequence.0, bytes.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fragments_become_one_message_and_messages_are_numbered_from_one() {
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(1 << 20));
        assert_eq!(
            inbound.accept(fragment(6, 0, false), b"abc", None, &mut pool),
            Step::More
        );
        assert_eq!(pool.used, 6);
        let step = inbound.accept(fragment(6, 3, true), b"def", None, &mut pool);
        assert_eq!(inline(step), (1, b"abcdef".to_vec()));
        assert_eq!(pool.used, 0);
        let step = inbound.accept(fragment(2, 0, true), b"gh", None, &mut pool);
        assert_eq!(inline(step), (2, b"gh".to_vec()));
    }

    #[test]
    fn a_child_that_releases_nothing_stops_its_own_client_only() {
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(1 << 20));
        for _ in 0..MAX_MESSAGES {
            inline(inbound.accept(fragment(1, 0, true), b"x", None, &mut pool));
        }
        let again = |inbound: &mut Inbound, pool: &mut Pool| {
            inbound.accept(fragment(1, 0, true), b"x", None, pool) == Step::NoRoom
        };
        assert!(again(&mut inbound, &mut pool));
        assert!(inbound.release(MessageSequence(1)));
        assert!(!again(&mut inbound, &mut pool));
        assert!(again(&mut inbound, &mut pool));
    }

    #[test]
    fn releasing_what_was_never_announced_or_twice_back_is_refused() {
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(64));
        assert!(!inbound.release(MessageSequence(1)));
        inline(inbound.accept(fragment(1, 0, true), b"x", None, &mut pool));
        assert!(inbound.release(MessageSequence(1)));
        assert!(inbound.release(MessageSequence(1)), "again is harmless");
        assert!(!inbound.release(MessageSequence(0)), "back is not");
    }

    #[test]
    fn before_a_region_is_mapped_long_messages_are_refused_and_memory_is_bounded() {
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(100_000));
        let long = fragment(MAX_INLINE + 1, 0, false);
        assert_eq!(inbound.accept(long, b"x", None, &mut pool), Step::TooLong);
        let mut others: Vec<Inbound> = (0..2).map(|_| Inbound::new()).collect();
        let part = fragment(MAX_INLINE, 0, false);
        assert_eq!(others[0].accept(part, b"x", None, &mut pool), Step::More);
        assert_eq!(
            others[1].accept(part, b"x", None, &mut pool),
            Step::PoolEmpty
        );
        others[0].abandon(&mut pool);
        assert_eq!(others[1].accept(part, b"x", None, &mut pool), Step::More);
    }

    #[test]
    fn a_long_message_waits_for_a_region_that_is_on_its_way() {
        let region = Region::create(1 << 18).unwrap();
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(1 << 20));
        inbound.await_ring();
        let bytes = vec![1; 70_000];
        let whole = fragment(70_000, 0, true);
        assert_eq!(inbound.accept(whole, &bytes, None, &mut pool), Step::NoRoom);
        inbound.use_ring(0, 1 << 17);
        let step = inbound.accept(whole, &bytes, Some(region.mapping()), &mut pool);
        assert!(matches!(step, Step::Complete { .. }), "{step:?}");
    }

    #[test]
    fn with_a_ring_long_messages_land_in_the_region_and_a_full_ring_waits() {
        let region = Region::create(1 << 16).unwrap();
        let (mut inbound, mut pool) = (Inbound::new(), Pool::new(0));
        inbound.use_ring(8192, 16384);
        let mut send = |inbound: &mut Inbound, length: u32| {
            let bytes = vec![7u8; length as usize];
            match inbound.accept(
                fragment(length, 0, true),
                &bytes,
                Some(region.mapping()),
                &mut pool,
            ) {
                Step::Complete {
                    body: Body::InRegion(range),
                    ..
                } => Some(range),
                Step::NoRoom => None,
                other => panic!("{other:?}"),
            }
        };
        let first = send(&mut inbound, 10_000).unwrap();
        assert_eq!((first.offset, first.length), (8192, 10_000));
        assert_eq!(send(&mut inbound, 10_000), None);
        assert!(inbound.release(MessageSequence(1)));
        assert!(send(&mut inbound, 10_000).is_some());
        let mut copy = Vec::new();
        region.mapping().copy_out(8192, 10_000, &mut copy).unwrap();
        assert!(copy.iter().all(|byte| *byte == 7));
        inline(inbound.accept(
            fragment(3, 0, true),
            b"abc",
            Some(region.mapping()),
            &mut pool,
        ));
    }
}
