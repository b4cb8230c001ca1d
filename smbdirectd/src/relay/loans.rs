//! What a child has lent for payloads that are fetched before it has seen their requests, and what it
//! expects those requests to look like. Pure; the connection posts the RDMA READs. Memory that is
//! lent lies in parts the child was granted, which the connection has checked.

use proto::relay::{Descriptor, MAX_LOANS, OperationId, Outline, RegionRange};

/// One connection's loans.
#[derive(Debug, Default)]
pub struct Loans {
    expected: Option<Outline>,
    lent: Vec<(OperationId, RegionRange)>,
}

/// A payload that may be fetched at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Ahead<'a> {
    /// The loan it uses up.
    pub operation: OperationId,
    /// Where it goes: as much of the loan as it takes.
    pub target: RegionRange,
    /// Where it is; they hold enough.
    pub descriptors: &'a [Descriptor],
}

impl Loans {
    /// Loans that are not used.
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Which messages' payload may be fetched, from now on.
    pub fn expect(&mut self, outline: Outline) {
        self.expected = Some(outline);
    }

    /// Takes a loan; false when there are too many.
    #[must_use]
    pub fn lend(&mut self, operation: OperationId, target: RegionRange) -> bool {
        if self.lent.len() >= MAX_LOANS {
            return false;
        }
        self.lent.push((operation, target));
        true
    }

    /// Expects nothing any more, and gives up what is not used.
    pub fn recall(&mut self) -> Vec<(OperationId, RegionRange)> {
        self.expected = None;
        std::mem::take(&mut self.lent)
    }

    /// What may be fetched for a message, into the newest loan: a client that waits for each answer
    /// always gets the same memory.
    pub fn take<'a>(&mut self, message: &'a [u8]) -> Option<Ahead<'a>> {
        let (operation, room) = *self.lent.last()?;
        let (length, descriptors) = self.expected.as_ref()?.payload_of(message)?;
        if length > room.length {
            return None;
        }
        self.lent.pop();
        Some(Ahead {
            operation,
            target: RegionRange { length, ..room },
            descriptors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::relay::Word;

    fn outline() -> Outline {
        Outline {
            words: vec![Word {
                at: 0,
                mask: u32::MAX,
                value: 9,
            }],
            length_at: 4,
            descriptors_at: 8,
            descriptors: 1,
        }
    }

    fn range(offset: u64) -> RegionRange {
        RegionRange {
            offset,
            length: 4096,
        }
    }

    fn message(kind: u32, length: u32) -> Vec<u8> {
        let words = [kind, length, 0, 0, 7, length];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn nothing_is_fetched_that_is_not_expected_or_has_no_room() {
        let mut loans = Loans::default();
        assert!(loans.lend(OperationId(1), range(0)));
        assert_eq!(loans.take(&message(9, 64)), None, "nothing is expected");
        loans.expect(outline());
        assert_eq!(loans.take(&message(8, 64)), None, "another request");
        assert_eq!(loans.take(&message(9, 4097)), None, "too long");
        let message = message(9, 4096);
        let ahead = loans.take(&message).unwrap();
        assert_eq!((ahead.operation, ahead.target), (OperationId(1), range(0)));
        assert_eq!(ahead.descriptors.len(), 1);
        assert_eq!(loans.take(&message), None, "it is used up");
    }

    #[test]
    fn what_is_recalled_is_fetched_no_more() {
        let mut loans = Loans::default();
        loans.expect(outline());
        assert!(loans.lend(OperationId(1), range(0)));
        assert!(loans.lend(OperationId(2), range(4096)));
        let message = message(9, 64);
        assert_eq!(loans.take(&message).unwrap().operation, OperationId(2));
        assert_eq!(loans.recall(), [(OperationId(1), range(0))]);
        assert!(loans.lend(OperationId(3), range(0)));
        assert_eq!(loans.take(&message), None);
    }

    #[test]
    fn loans_have_a_limit() {
        let mut loans = Loans::default();
        let more = |loans: &mut Loans| loans.lend(OperationId(1), range(0));
        assert!((0..MAX_LOANS).all(|_| more(&mut loans)));
        assert!(!more(&mut loans));
    }
}
