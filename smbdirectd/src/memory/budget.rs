//! Account of pinned bytes: a total, of which each client may have so much. Pure numbers; what is
//! taken is given back by whoever took it.

/// A number of bytes and how many of them are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    used: u64,
}

impl Budget {
    /// Nothing of `limit` bytes is taken.
    pub fn new(limit: u64) -> Budget {
        Budget { limit, used: 0 }
    }

    /// Bytes that can be taken.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Takes `bytes`, or nothing.
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        if bytes > self.left() {
            return false;
        }
        self.used += bytes;
        true
    }

    /// Of what is taken `bytes` could not be had after all, and no more can be: the limit becomes
    /// what is taken beside them.
    pub fn lower(&mut self, bytes: u64) {
        self.limit = self.limit.min(self.used.saturating_sub(bytes));
    }

    /// Gives `bytes` back.
    pub fn give_back(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.used, "more given back than taken");
        self.used = self.used.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_nothing_is_taken_half_way() {
        let mut budget = Budget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert_eq!(budget.left(), 40);
        assert!(budget.take(40));
        assert!(!budget.take(1));
        budget.give_back(60);
        assert!(budget.take(60) && !budget.take(u64::MAX));
    }

    #[test]
    fn what_could_not_be_had_is_not_taken_again() {
        let mut budget = Budget::new(100);
        assert!(budget.take(30) && budget.take(20));
        budget.lower(20);
        assert_eq!(budget.left(), 0);
        budget.give_back(20);
        assert!(!budget.take(1));
        budget.give_back(30);
        assert!(!budget.take(31) && budget.take(30));
    }
}
