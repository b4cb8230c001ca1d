//! Account of a byte ring whose pieces are freed in the order they were taken.
//!
//! `smbdirectd` keeps one per attached connection over the message ring of the child's region:
//! a message is reassembled into a piece, announced, and freed by the child's `release`. The
//! child's word is hostile: releasing what was never taken is an error, not a wrap-around.

use std::collections::VecDeque;

/// Pieces start on this boundary.
pub const PIECE_ALIGNMENT: u32 = 64;

/// Offsets within one ring; it owns no memory.
#[derive(Debug)]
pub struct Ring {
    capacity: u32,
    /// Where the next piece begins.
    head: u32,
    /// Pieces taken and not yet freed, oldest first.
    pieces: VecDeque<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    sequence: u64,
    offset: u32,
    length: u32,
}

impl Ring {
    /// An empty ring of `capacity` bytes.
    pub fn new(capacity: u32) -> Ring {
        Ring {
            capacity: capacity - capacity % PIECE_ALIGNMENT,
            head: 0,
            pieces: VecDeque::new(),
        }
    }

    /// Takes `length` contiguous bytes for message `sequence`; `None` while there is no room.
    /// Sequences must rise.
    pub fn take(&mut self, sequence: u64, length: u32) -> Option<u32> {
        let length = length
            .max(1)
            .checked_next_multiple_of(PIECE_ALIGNMENT)
            .filter(|length| *length <= self.capacity)?;
        let offset = match self.pieces.front() {
            // An empty ring starts over, so that little traffic touches few pages.
            None => 0,
            Some(oldest) if self.head > oldest.offset => {
                if self.capacity - self.head >= length {
                    self.head
                } else if oldest.offset >= length {
                    0
                } else {
                    return None;
                }
            }
            Some(oldest) => {
                if oldest.offset - self.head >= length {
                    self.head
                } else {
                    return None;
                }
            }
        };
        self.head = offset + length;
        self.pieces.push_back(Piece {
            sequence,
            offset,
            length,
        });
        Some(offset)
    }

    /// Frees every piece up to and including `sequence`; pieces of other sequences stay.
    pub fn release(&mut self, sequence: u64) {
        while let Some(piece) = self.pieces.front() {
            if piece.sequence > sequence {
                break;
            }
            self.pieces.pop_front();
        }
    }

    /// Gives back the newest piece, which was never announced.
    pub fn give_back(&mut self, sequence: u64) {
        if let Some(newest) = self.pieces.back()
            && newest.sequence == sequence
        {
            self.head = newest.offset;
            self.pieces.pop_back();
        }
    }

    /// Bytes in pieces that are not free.
    pub fn in_use(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| u64::from(piece.length))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_never_overlap_and_come_back() {
        let mut ring = Ring::new(1024);
        assert_eq!(ring.take(1, 300), Some(0));
        assert_eq!(ring.take(2, 600), Some(320));
        assert_eq!(ring.take(3, 300), None, "only 64 bytes are left");
        ring.release(1);
        assert_eq!(ring.take(3, 300), Some(0), "wraps to the freed start");
        assert_eq!(ring.take(4, 1), None, "full to the last byte");
        ring.release(3);
        assert_eq!(ring.in_use(), 0);
        assert_eq!(ring.take(5, 1024), Some(0));
    }

    #[test]
    fn a_piece_larger_than_the_ring_is_refused() {
        let mut ring = Ring::new(1024);
        assert_eq!(ring.take(1, 1025), None);
        assert_eq!(ring.take(1, u32::MAX), None);
    }

    #[test]
    fn an_unannounced_piece_can_be_given_back() {
        let mut ring = Ring::new(256);
        ring.take(1, 64).unwrap();
        ring.take(2, 128).unwrap();
        ring.give_back(2);
        assert_eq!(ring.take(3, 128), Some(64));
    }

    #[test]
    fn random_traffic_keeps_pieces_apart() {
        // A fixed generator: the same walk every time.
        let mut state = 0x9e37_79b9_u32;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let mut ring = Ring::new(4096);
        let mut live: VecDeque<(u64, u32, u32)> = VecDeque::new();
        for sequence in 1..20_000u64 {
            let length = next() % 900 + 1;
            if let Some(offset) = ring.take(sequence, length) {
                assert!(offset + length <= 4096);
                for (_, start, size) in &live {
                    assert!(offset + length <= *start || start + size <= offset);
                }
                live.push_back((sequence, offset, length));
            }
            if next() % 3 == 0
                && let Some((oldest, _, _)) = live.pop_front()
            {
                ring.release(oldest);
            }
        }
    }
}
