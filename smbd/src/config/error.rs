//! What is wrong with a configuration: every problem with its file and line, collected.
//!
//! Filled by the parser, printed by whoever loads the file.

use std::fmt;
use std::path::{Path, PathBuf};

/// More than this nobody reads; the rest is counted.
const MAX_PROBLEMS: usize = 100;

/// One line that is wrong, what was read and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    pub file: PathBuf,
    pub line: Option<usize>,
    pub problem: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

/// All problems of a file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    pub problems: Vec<ConfigProblem>,
    /// How many more there were.
    pub omitted: usize,
}

impl ConfigErrors {
    pub(super) fn single(file: &Path, line: Option<usize>, problem: String) -> ConfigErrors {
        let problem = ConfigProblem {
            file: file.to_owned(),
            line,
            problem,
        };
        ConfigErrors {
            problems: vec![problem],
            omitted: 0,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{problem}")?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(formatter, "\nand {omitted} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Problems while they are being found.
pub(super) struct Problems {
    file: PathBuf,
    found: Vec<ConfigProblem>,
}

impl Problems {
    pub(super) fn new(file: &Path) -> Problems {
        Problems {
            file: file.to_owned(),
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, line: Option<usize>, problem: String) {
        self.found.push(ConfigProblem {
            file: self.file.clone(),
            line,
            problem,
        });
    }

    /// `value`, if nothing was wrong.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigErrors> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|problem| problem.line);
        let omitted = self.found.len().saturating_sub(MAX_PROBLEMS);
        self.found.truncate(MAX_PROBLEMS);
        Err(ConfigErrors {
            problems: self.found,
            omitted,
        })
    }
}
