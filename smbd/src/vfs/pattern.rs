//! Search patterns of QUERY_DIRECTORY (MS-FSA 2.1.4.4): `*` and `?`, and the forms Windows turns
//! DOS wildcards into: `<` (DOS_STAR), `>` (DOS_QM) and `"` (DOS_DOT). Pure; time and memory are
//! bounded by the product of both lengths, whatever the pattern.

use proto::smb2::{NtStatus, utf16};

use super::name;

/// A search pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The text, in the letter case names are compared in.
    characters: Vec<char>,
    case_sensitive: bool,
}

impl Pattern {
    /// From the UTF-16LE of a request; an empty one matches everything (MS-SMB2 3.3.5.18).
    pub fn from_wire(pattern: &[u8], case_sensitive: bool) -> Result<Pattern, NtStatus> {
        let text = utf16::decode(pattern, "FileName").map_err(|_| NtStatus::OBJECT_NAME_INVALID)?;
        if text.contains(['\\', '/', ':']) {
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        Ok(Pattern::from_text(&text, case_sensitive))
    }

    /// From text.
    pub fn from_text(text: &str, case_sensitive: bool) -> Pattern {
        // DOS meant every file by "*.*", those without a dot too.
        let text = if text.is_empty() || text == "*.*" {
            "*"
        } else {
            text
        };
        let fold = |character| {
            if case_sensitive {
                character
            } else {
                name::fold(character)
            }
        };
        Pattern {
            text: text.to_owned(),
            characters: text.chars().map(fold).collect(),
            case_sensitive,
        }
    }

    /// True if it names one file only.
    pub fn is_literal(&self) -> bool {
        !self
            .characters
            .iter()
            .any(|character| "*?<>\"".contains(*character))
    }

    /// The one name it matches, if it has no wildcards.
    pub fn literal(&self) -> Option<&str> {
        self.is_literal().then_some(self.text.as_str())
    }

    /// Whether it matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        if self.characters == ['*'] {
            return true;
        }
        let fold = |character| {
            if self.case_sensitive {
                character
            } else {
                name::fold(character)
            }
        };
        let name: Vec<char> = name.chars().map(fold).collect();
        let last_dot = name.iter().rposition(|character| *character == '.');
        // `rest[n]`: whether the pattern behind the current character matches the name from n on.
        let mut rest = vec![false; name.len() + 1];
        rest[name.len()] = true;
        for wanted in self.characters.iter().rev() {
            let mut here = vec![false; name.len() + 1];
            for n in (0..=name.len()).rev() {
                let character = name.get(n).copied();
                let one_further = character.is_some() && rest[n + 1];
                here[n] = match wanted {
                    '*' => rest[n] || (character.is_some() && here[n + 1]),
                    '?' => one_further,
                    '<' => rest[n] || (character.is_some() && last_dot != Some(n) && here[n + 1]),
                    '>' => match character {
                        None => rest[n],
                        Some('.') => rest[n] || (n + 1 == name.len() && rest[n + 1]),
                        Some(_) => one_further,
                    },
                    '"' => match character {
                        None => rest[n],
                        Some('.') => one_further,
                        Some(_) => false,
                    },
                    literal => character == Some(*literal) && one_further,
                };
            }
            rest = here;
        }
        rest[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wildcard_matches_as_the_table_says() {
        for (pattern, yes, no) in [
            ("*", &["a", "a.b", ".hidden", "."][..], &[][..]),
            ("*.*", &["a", "a.b"], &[]),
            ("", &["a"], &[]),
            ("a", &["a", "A"], &["ab", "b", ""]),
            ("a*", &["a", "abc", "a.b.c"], &["ba"]),
            ("*.c", &["x.c", ".c", "a.b.c"], &["x.cc", "c", "x.h"]),
            ("a?c", &["abc", "a.c"], &["ac", "abbc"]),
            ("????", &["abcd"], &["abc", "abcde"]),
            // DOS_STAR stops at the last dot.
            ("<.c", &["x.c", "a.b.c"], &["x.c.d", "xc"]),
            ("<", &["abc", "a"], &["a.b"]),
            ("a<b", &["ab", "axb"], &["a.b", "a.x.b.b"]),
            ("a<.b", &["a.b", "a.x.b"], &["a.b.c"]),
            // DOS_QM matches nothing in front of a dot and at the end.
            (">>>.txt", &["abc.txt", "a.txt", ".txt"], &["abcd.txt"]),
            ("ab>>", &["ab", "abc", "abcd"], &["abcde", "a"]),
            // DOS_DOT matches a dot, or nothing at the end.
            ("a\"", &["a", "a."], &["ab", "a.b"]),
            ("a\"b", &["a.b"], &["ab", "a"]),
            ("<\"*", &["a", "a.b", "a.b.c"], &[]),
        ] {
            let compiled = Pattern::from_text(pattern, false);
            for name in yes {
                assert!(compiled.matches(name), "{pattern} should match {name}");
            }
            for name in no {
                assert!(!compiled.matches(name), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn letter_case_counts_only_where_the_share_says_so() {
        assert!(Pattern::from_text("ÄB*", false).matches("äbc"));
        assert!(!Pattern::from_text("AB*", true).matches("abc"));
    }

    #[test]
    fn a_hostile_pattern_ends_in_bounded_time() {
        let pattern = Pattern::from_text(&"*a".repeat(200), false);
        assert!(!pattern.matches(&"a".repeat(199)));
    }

    #[test]
    fn a_pattern_with_a_separator_is_no_name() {
        for text in ["a\\*", "../*", "a:b"] {
            assert_eq!(
                Pattern::from_wire(&utf16::encode(text), false),
                Err(NtStatus::OBJECT_NAME_INVALID)
            );
        }
        assert!(Pattern::from_text("a.b", false).is_literal());
        assert!(!Pattern::from_text("a\"b", false).is_literal());
    }
}
