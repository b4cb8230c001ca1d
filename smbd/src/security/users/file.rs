//! The user file: `name:uid:nthash:flags`, one user a line, `#` before a comment.
//!
//! `uid` is empty (the Unix account of the same name) or a number; `nthash` is 32 hexadecimal
//! digits; `flags` is empty or `D` for disabled. Names differ in more than letter case. An NT hash
//! is as good as a password to NTLM, so a file others can read is refused. Writers hold a lock
//! beside the file and replace it whole, by rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::security::ntlm::{Account, NtHash};

/// More than a million users.
const MAX_FILE_LENGTH: u64 = 64 << 20;
const MAX_NAME_LENGTH: usize = 256;
const HEADING: &str = "# Users of smbd: name:uid:nthash:flags. Change it with `smbd passwd`.\n";

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    pub name: String,
    /// The Unix account, when it is not the one of this name.
    pub uid: Option<u32>,
    pub hash: NtHash,
    pub disabled: bool,
}

/// All users, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFile {
    entries: Vec<UserEntry>,
}

#[derive(Debug, Error)]
pub enum UserFileError {
    #[error("user file {path}: {source}{}", hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("user file {path} can be read by others (mode {mode:04o}); run `chmod 600 {path}`")]
    ReadableByOthers { path: PathBuf, mode: u32 },
    #[error(
        "user file {path} belongs to uid {owner}, not to root or to uid {expected} that runs this; change its owner"
    )]
    ForeignOwner {
        path: PathBuf,
        owner: u32,
        expected: u32,
    },
    #[error("user file {path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error(
        "user file {path}, line {line}: {problem}; a line is name:uid:nthash:flags, written by `smbd passwd`"
    )]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error("user name {name:?} can't be used: {problem}")]
    BadName { name: String, problem: &'static str },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; add a first user with `smbd passwd add NAME`",
        io::ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
    }
}

impl UserFile {
    /// Reads the file. Refuses one that others can read, or that another user could have written.
    pub fn load(path: &Path) -> Result<UserFile, UserFileError> {
        let io = |source| UserFileError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(UserFileError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(UserFileError::ReadableByOthers {
                path: path.to_owned(),
                mode,
            });
        }
        let expected = nix::unistd::geteuid().as_raw();
        if metadata.uid() != expected && metadata.uid() != 0 {
            let owner = metadata.uid();
            return Err(UserFileError::ForeignOwner {
                path: path.to_owned(),
                owner,
                expected,
            });
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file)
            .take(MAX_FILE_LENGTH)
            .read_to_string(&mut text)
            .map_err(io)?;
        UserFile::parse(path, &text)
    }

    /// Reads lines; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<UserFile, UserFileError> {
        let mut file = UserFile::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: String| UserFileError::Line {
                path: path.to_owned(),
                line: index + 1,
                problem,
            };
            let entry = parse_entry(line).map_err(wrong)?;
            if file.find(&entry.name).is_some() {
                return Err(wrong(format!(
                    "user {:?} stands here a second time",
                    entry.name
                )));
            }
            file.entries.push(entry);
        }
        Ok(file)
    }

    /// Changes the file under its lock: reads it (a missing one is empty), lets `change` work on
    /// it, replaces it.
    pub fn edit<T, E: From<UserFileError>>(
        path: &Path,
        change: impl FnOnce(&mut UserFile) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = lock(path)?;
        let mut file = match UserFile::load(path) {
            Err(UserFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                UserFile::default()
            }
            loaded => loaded?,
        };
        let result = change(&mut file)?;
        file.replace(path)?;
        Ok(result)
    }

    pub fn entries(&self) -> &[UserEntry] {
        &self.entries
    }

    /// The user of this name, whatever the letters' case.
    pub fn find(&self, name: &str) -> Option<&UserEntry> {
        self.entries
            .iter()
            .find(|entry| same_name(&entry.name, name))
    }

    pub fn find_mut(&mut self, name: &str) -> Option<&mut UserEntry> {
        self.entries
            .iter_mut()
            .find(|entry| same_name(&entry.name, name))
    }

    /// What an authentication asks for.
    pub fn account(&self, name: &str) -> Account {
        match self.find(name) {
            None => Account::Unknown,
            Some(entry) if entry.disabled => Account::Disabled,
            Some(entry) => Account::Enabled(entry.hash.clone()),
        }
    }

    /// Adds a user, or replaces the one of this name.
    pub fn put(&mut self, entry: UserEntry) -> Result<(), UserFileError> {
        check_name(&entry.name).map_err(|problem| UserFileError::BadName {
            name: entry.name.clone(),
            problem,
        })?;
        match self.find_mut(&entry.name) {
            Some(existing) => *existing = entry,
            None => self.entries.push(entry),
        }
        Ok(())
    }

    /// Whether there was such a user.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !same_name(&entry.name, name));
        self.entries.len() != before
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::from(HEADING));
        for entry in &self.entries {
            let uid = entry.uid.map(|uid| uid.to_string()).unwrap_or_default();
            let digits: Zeroizing<String> = Zeroizing::new(
                entry
                    .hash
                    .as_bytes()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            );
            let flags = if entry.disabled { "D" } else { "" };
            for part in [&entry.name, ":", &uid, ":", &digits, ":", flags, "\n"] {
                text.push_str(part);
            }
        }
        text
    }

    /// A reader sees the old file or the new one, whenever it looks and whatever happens to us.
    fn replace(&self, path: &Path) -> Result<(), UserFileError> {
        let new = beside(path, ".new");
        let write = || -> io::Result<()> {
            // A file left by a writer that died is ours to drop: we hold the lock.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(directory_of(path))?.sync_all()
        };
        write().map_err(|source| UserFileError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

/// Held while one writer reads, changes and replaces the file.
fn lock(path: &Path) -> Result<Flock<File>, UserFileError> {
    let lock_path = beside(path, ".lock");
    let io = |source| UserFileError::Io {
        path: lock_path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&lock_path)
        .map_err(io)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io(errno.into()))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn parse_entry(line: &str) -> Result<UserEntry, String> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, uid, digits, flags] = fields.as_slice() else {
        return Err(format!("{} fields instead of 4", fields.len()));
    };
    check_name(name).map_err(|problem| format!("name {name:?}: {problem}"))?;
    let uid = match *uid {
        "" => None,
        number => Some(
            number
                .parse()
                .map_err(|_| format!("uid {number:?} is not a number"))?,
        ),
    };
    let disabled = match *flags {
        "" => false,
        "D" => true,
        other => return Err(format!("flags {other:?}, where only D (disabled) is known")),
    };
    // The digits stay out of the message: they are a secret even when they are wrong.
    let hash = parse_hash(digits).ok_or("the hash is not 32 hexadecimal digits")?;
    Ok(UserEntry {
        name: (*name).to_owned(),
        uid,
        hash,
        disabled,
    })
}

fn parse_hash(digits: &str) -> Option<NtHash> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 16];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |letter: u8| {
            char::from(letter)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(NtHash::from_bytes(bytes))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err("it is longer than 256 bytes");
    }
    if name.starts_with('#') || name.trim() != name {
        return Err("it starts with # or has blanks around it");
    }
    if name.contains(|letter: char| letter == ':' || letter.is_control()) {
        return Err("it contains a colon or a control character");
    }
    Ok(())
}

fn same_name(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

#[cfg(test)]
mod tests;
