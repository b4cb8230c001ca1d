//! The one source of chance: SplitMix64, whose numbers are the same on every machine and for ever, so
//! that a seed in a report still means the same run. Not for secrets.

/// Numbers that follow from a seed, or choices that are tried one after the other.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
    choices: Option<Choices>,
}

/// A path through all choices: which one was taken, of how many. Beyond `depth` each has its turn, so
/// that what can happen does.
#[derive(Debug, Clone)]
pub struct Choices {
    path: Vec<(u64, u64)>,
    at: usize,
    depth: usize,
    beyond: u64,
}

impl Choices {
    /// The first path.
    pub fn first(depth: usize) -> Choices {
        Choices {
            path: Vec::new(),
            at: 0,
            depth,
            beyond: 0,
        }
    }

    /// The path after this one, which was walked to its end; `None` behind the last.
    pub fn next(mut self) -> Option<Choices> {
        self.at = 0;
        self.beyond = 0;
        while let Some((choice, limit)) = self.path.pop() {
            if choice + 1 < limit {
                self.path.push((choice + 1, limit));
                return Some(self);
            }
        }
        None
    }

    fn take(&mut self, limit: u64) -> u64 {
        if self.at == self.path.len() {
            if self.at == self.depth {
                self.beyond += 1;
                return self.beyond % limit;
            }
            self.path.push((0, limit));
        }
        let (choice, _) = self.path[self.at];
        self.at += 1;
        choice
    }
}

impl Chance {
    pub const fn of_seed(seed: u64) -> Chance {
        Chance {
            state: seed,
            choices: None,
        }
    }

    /// No chance: every choice is the path's.
    pub fn of_choices(choices: Choices) -> Chance {
        Chance {
            state: 0,
            choices: Some(choices),
        }
    }

    /// The path that was walked.
    pub fn into_choices(self) -> Option<Choices> {
        self.choices
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..limit`; 0 where there is nothing to choose.
    pub fn below(&mut self, limit: u64) -> u64 {
        match (&mut self.choices, limit) {
            (_, 0 | 1) => 0,
            (Some(choices), _) => choices.take(limit),
            (None, _) => self.number() % limit,
        }
    }

    /// One of `first..=last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in `times`; where choices are tried, not and so.
    pub fn once_in(&mut self, times: u64) -> bool {
        match &mut self.choices {
            Some(choices) if times > 1 => choices.take(2) == 1,
            _ => self.below(times) == 0,
        }
    }

    /// An index into a list of `length`.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }
}
