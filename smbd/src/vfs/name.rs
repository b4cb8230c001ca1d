//! Names and paths as clients write them, and what they are on disk.
//!
//! A [`SharePath`] is relative to a share's directory, with `/` between components, none of which
//! is empty, `.` or `..`. Nothing else is ever handed to the kernel as a client's path, and the
//! kernel is told to stay beneath the share all the same ([`super::share`]). Pure.

use std::fmt;

use proto::smb2::{NtStatus, utf16};

/// A checked path below a share; empty for the share's own directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SharePath(String);

impl SharePath {
    /// From the UTF-16LE of a CREATE, rename or link (MS-SMB2 2.2.13; MS-FSCC 2.1.5).
    pub fn from_wire(name: &[u8]) -> Result<SharePath, NtStatus> {
        let text = utf16::decode(name, "Name").map_err(|_| NtStatus::OBJECT_NAME_INVALID)?;
        SharePath::from_text(&text)
    }

    /// From text with backslashes.
    pub fn from_text(text: &str) -> Result<SharePath, NtStatus> {
        if text.is_empty() {
            return Ok(SharePath::default());
        }
        if text.starts_with('\\') {
            // MS-SMB2 3.3.5.9: a path never starts with a separator.
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let text = text.strip_suffix('\\').unwrap_or(text);
        let text = without_default_stream(text)?;
        for component in text.split('\\') {
            check_component(component)?;
        }
        Ok(SharePath(text.replace('\\', "/")))
    }

    /// With `/` between components; empty for the share's directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the share's own directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it is in and its last component; `None` for the share's directory.
    pub fn split(&self) -> Option<(SharePath, &str)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.rsplit_once('/') {
            Some((parent, name)) => (SharePath(parent.to_owned()), name),
            None => (SharePath::default(), &self.0),
        })
    }

    /// The last component; empty for the share's directory.
    pub fn name(&self) -> &str {
        self.split().map_or("", |(_, name)| name)
    }

    /// Its components, from the share's directory down.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// What `name`, a name found on disk, is called in this directory.
    pub fn join(&self, name: &str) -> SharePath {
        if self.is_root() {
            SharePath(name.to_owned())
        } else {
            SharePath(format!("{}/{name}", self.0))
        }
    }

    /// From a path the kernel reported, relative to the share's directory.
    pub fn from_disk(path: &str) -> SharePath {
        SharePath(path.trim_matches('/').to_owned())
    }

    /// As a client writes it: backslashes, one in front (MS-FSCC 2.1.7).
    pub fn to_wire(&self) -> Vec<u8> {
        utf16::encode(&format!("\\{}", self.0.replace('/', "\\")))
    }
}

impl fmt::Display for SharePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", self.0)
    }
}

/// `file::$DATA` is the file itself (MS-FSCC 2.1.5.3); there are no other streams here.
fn without_default_stream(text: &str) -> Result<&str, NtStatus> {
    match text.split_once(':') {
        None => Ok(text),
        Some((file, stream)) if stream.eq_ignore_ascii_case(":$DATA") => Ok(file),
        Some(_) => Err(NtStatus::OBJECT_NAME_INVALID),
    }
}

fn check_component(component: &str) -> Result<(), NtStatus> {
    match component {
        ".." => Err(NtStatus::OBJECT_PATH_SYNTAX_BAD),
        "" | "." => Err(NtStatus::OBJECT_NAME_INVALID),
        _ if is_valid(component) => Ok(()),
        _ => Err(NtStatus::OBJECT_NAME_INVALID),
    }
}

/// Whether a client can write this name of one component (MS-FSCC 2.1.5). What is on disk under
/// other names is not listed either.
pub fn is_valid(component: &str) -> bool {
    !component
        .chars()
        .any(|character| character < ' ' || "\"*/:<>?\\|".contains(character))
}

/// Whether a name has the form of DOS: eight characters, a dot, three (MS-FSCC 2.1.5.2.1).
pub fn is_short(name: &str) -> bool {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let is_plain = |part: &str| {
        part.chars()
            .all(|character| character.is_ascii_graphic() && !".+,;=[]".contains(character))
    };
    (1..=8).contains(&base.len()) && extension.len() <= 3 && is_plain(base) && is_plain(extension)
}

/// Whether two names are the same but for letter case.
pub fn equal_ignoring_case(one: &str, two: &str) -> bool {
    one.chars().map(fold).eq(two.chars().map(fold))
}

/// The upper-case letter, where that is one character: names keep their length, as in the
/// upper-case table of Windows file systems.
pub fn fold(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_uppercase();
    }
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => single,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_client_becomes_one_beneath_the_share() {
        let path = SharePath::from_wire(&utf16::encode("Ordner\\Datei ä.txt")).unwrap();
        assert_eq!(path.as_str(), "Ordner/Datei ä.txt");
        assert_eq!(path.name(), "Datei ä.txt");
        assert_eq!(path.split().unwrap().0.as_str(), "Ordner");
        assert_eq!(path.to_wire(), utf16::encode("\\Ordner\\Datei ä.txt"));
        assert!(SharePath::from_text("").unwrap().is_root());
        assert_eq!(SharePath::from_text("dir\\").unwrap().as_str(), "dir");
    }

    #[test]
    fn no_spelling_leads_out_of_the_share() {
        for (text, status) in [
            ("..", NtStatus::OBJECT_PATH_SYNTAX_BAD),
            ("..\\..\\..", NtStatus::OBJECT_PATH_SYNTAX_BAD),
            ("a\\..\\b", NtStatus::OBJECT_PATH_SYNTAX_BAD),
            ("a\\..", NtStatus::OBJECT_PATH_SYNTAX_BAD),
            (".", NtStatus::OBJECT_NAME_INVALID),
            ("a\\.\\b", NtStatus::OBJECT_NAME_INVALID),
            ("a\\\\b", NtStatus::OBJECT_NAME_INVALID),
            ("\\etc\\passwd", NtStatus::INVALID_PARAMETER),
            ("/etc/passwd", NtStatus::OBJECT_NAME_INVALID),
            ("a/../../b", NtStatus::OBJECT_NAME_INVALID),
            ("..::$DATA", NtStatus::OBJECT_PATH_SYNTAX_BAD),
        ] {
            assert_eq!(SharePath::from_text(text), Err(status), "{text}");
        }
    }

    #[test]
    fn forbidden_characters_and_streams_are_invalid_names() {
        for text in [
            "a*b",
            "a?",
            "a<",
            "a>",
            "a\"",
            "a|",
            "a\u{1}b",
            "a:stream",
            "a:b:$DATA",
            "a\\b:c\\d",
        ] {
            assert_eq!(
                SharePath::from_text(text),
                Err(NtStatus::OBJECT_NAME_INVALID),
                "{text}"
            );
        }
        assert_eq!(SharePath::from_text("a::$data").unwrap().as_str(), "a");
    }

    #[test]
    fn text_that_is_not_utf_16_is_an_invalid_name() {
        for bytes in [&b"a"[..], b"a\0\0\0", b"\x00\xD8"] {
            assert_eq!(
                SharePath::from_wire(bytes),
                Err(NtStatus::OBJECT_NAME_INVALID)
            );
        }
    }

    #[test]
    fn names_of_dos_form_are_recognised() {
        for name in ["a", "README.TXT", "12345678.123", "b."] {
            assert!(is_short(name), "{name}");
        }
        for name in [
            "",
            ".dot",
            "123456789",
            "a.long",
            "a.b.c",
            "a b",
            "ä",
            "a+b",
        ] {
            assert!(!is_short(name), "{name}");
        }
    }

    #[test]
    fn letter_case_is_compared_beyond_ascii() {
        assert!(equal_ignoring_case("Straße Ä", "sTRAßE ä"));
        assert!(!equal_ignoring_case("strasse", "straße"));
    }
}
