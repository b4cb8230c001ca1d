//! Account of a child's payload area: which byte ranges of which parts are free.
//!
//! The child is the only allocator of its payload area; `smbdirectd` only checks that a record
//! stays inside the parts it granted. Each part is a buddy system: blocks are powers of two from
//! a page to a part, so that every transfer lies in one part (one memory region of the NIC) and
//! is page aligned (`O_DIRECT` works).

/// Smallest block, and the alignment of each.
pub const PAGE: u32 = 4096;

/// A block of the payload area: `offset` counts from the start of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the region, in bytes.
    pub offset: u64,
    /// Bytes asked for; the block behind it is the next power of two.
    pub length: u32,
}

/// Free blocks of all granted parts.
#[derive(Debug)]
pub struct Extents {
    start: u64,
    part_size: u32,
    parts: u32,
    /// `free[order]`: offsets from `start` of free blocks of `PAGE << order` bytes.
    free: Vec<Vec<u64>>,
    in_use: u64,
}

impl Extents {
    /// An area that begins `start` bytes into the region, with no part granted yet.
    /// `part_size` is a power of two, at least a page.
    pub fn new(start: u64, part_size: u32) -> Extents {
        assert!(part_size.is_power_of_two() && part_size >= PAGE);
        let orders = (part_size / PAGE).trailing_zeros() as usize + 1;
        Extents {
            start,
            part_size,
            parts: 0,
            free: vec![Vec::new(); orders],
            in_use: 0,
        }
    }

    /// Raises the number of granted parts to `parts`; never lowers it.
    pub fn grow(&mut self, parts: u32) {
        let whole = self.free.len() - 1;
        for part in self.parts..parts {
            self.free[whole].push(u64::from(part) * u64::from(self.part_size));
        }
        self.parts = self.parts.max(parts);
    }

    /// Parts granted so far.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// The largest extent there can be.
    pub fn largest(&self) -> u32 {
        self.part_size
    }

    /// Bytes of all blocks handed out.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Takes `length` bytes; `None` if no granted part has room for them.
    pub fn take(&mut self, length: u32) -> Option<Extent> {
        if length > self.part_size {
            return None;
        }
        let wanted = Self::order_of(length);
        let found = (wanted..self.free.len()).find(|order| !self.free[*order].is_empty())?;
        let block = self.free[found].pop()?;
        for order in (wanted..found).rev() {
            self.free[order].push(block + Self::size_of(order));
        }
        self.in_use += Self::size_of(wanted);
        Some(Extent {
            offset: self.start + block,
            length,
        })
    }

    /// Gives an extent back, merging it with its free buddies.
    pub fn give_back(&mut self, extent: Extent) {
        let mut order = Self::order_of(extent.length);
        let mut block = extent.offset - self.start;
        self.in_use -= Self::size_of(order);
        while order + 1 < self.free.len() {
            let buddy = block ^ Self::size_of(order);
            let Some(position) = self.free[order].iter().position(|free| *free == buddy) else {
                break;
            };
            self.free[order].swap_remove(position);
            block = block.min(buddy);
            order += 1;
        }
        self.free[order].push(block);
    }

    fn order_of(length: u32) -> usize {
        let pages = length.div_ceil(PAGE).max(1);
        pages.next_power_of_two().trailing_zeros() as usize
    }

    fn size_of(order: usize) -> u64 {
        u64::from(PAGE) << order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_free_before_a_part_is_granted() {
        let mut extents = Extents::new(4096, 65536);
        assert_eq!(extents.take(1), None);
        extents.grow(1);
        let extent = extents.take(1).unwrap();
        assert_eq!((extent.offset, extent.length), (4096, 1));
    }

    #[test]
    fn an_extent_never_crosses_a_part() {
        let mut extents = Extents::new(0, 65536);
        extents.grow(3);
        let mut taken = Vec::new();
        while let Some(extent) = extents.take(40_000) {
            assert_eq!(extent.offset / 65536, (extent.offset + 39_999) / 65536);
            taken.push(extent);
        }
        assert_eq!(taken.len(), 3);
        assert_eq!(extents.take(65_537), None, "larger than a part");
    }

    #[test]
    fn everything_given_back_merges_to_whole_parts() {
        let mut extents = Extents::new(8192, 1 << 20);
        extents.grow(2);
        let mut state = 12345u32;
        let mut taken: Vec<Extent> = Vec::new();
        for _ in 0..5000 {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
            if state >> 31 == 0 {
                if let Some(extent) = extents.take((state >> 8) % 200_000 + 1) {
                    for other in &taken {
                        let apart = extent.offset + u64::from(extent.length) <= other.offset
                            || other.offset + u64::from(other.length) <= extent.offset;
                        assert!(apart);
                    }
                    taken.push(extent);
                }
            } else if !taken.is_empty() {
                let index = (state >> 8) as usize % taken.len();
                extents.give_back(taken.swap_remove(index));
            }
        }
        for extent in taken.drain(..) {
            extents.give_back(extent);
        }
        assert_eq!(extents.in_use(), 0);
        assert!(extents.take(1 << 20).is_some() && extents.take(1 << 20).is_some());
    }
}
