//! The `smbd passwd` command: adds, changes, disables, enables, removes and lists the users of the
//! user file.
//!
//! Called by the command line with the file's path. Passwords come from a `PasswordSource`, never
//! from arguments, where every user of the machine could read them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::security::ntlm::NtHash;
use crate::security::users::{Identity, IdentityError, UserEntry, UserFile, UserFileError};

/// Longest password Windows takes.
const MAX_PASSWORD_LENGTH: usize = 256;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswdCommand {
    /// `uid`: the Unix account, when it is not the one of this name.
    Add {
        user: String,
        uid: Option<u32>,
    },
    Change {
        user: String,
    },
    Disable {
        user: String,
    },
    Enable {
        user: String,
    },
    Remove {
        user: String,
    },
    List,
}

#[derive(Debug, Error)]
pub enum PasswdError {
    #[error(transparent)]
    UserFile(#[from] UserFileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("there is no user {user:?}; `smbd passwd list` shows who there is")]
    NoSuchUser { user: String },
    #[error("user {user:?} exists already; `smbd passwd change {user}` gives a new password")]
    Exists { user: String },
    #[error("the two passwords differ; nothing was changed, try again")]
    Differ,
    #[error("an empty password is not accepted; nothing was changed")]
    Empty,
    #[error("a password has at most 256 bytes; nothing was changed")]
    TooLong,
    #[error("reading the password failed: {0}; pipe it in with --stdin where there is no terminal")]
    Read(io::Error),
    #[error("writing the answer failed: {0}")]
    Write(io::Error),
}

/// Where a password comes from.
pub trait PasswordSource {
    fn password(&mut self, user: &str) -> Result<Zeroizing<String>, PasswdError>;
}

/// One line of standard input, or of any reader.
#[derive(Debug)]
pub struct Piped<R>(pub R);

impl<R: BufRead> PasswordSource for Piped<R> {
    fn password(&mut self, _user: &str) -> Result<Zeroizing<String>, PasswdError> {
        read_line(&mut self.0)
    }
}

/// The terminal, asked twice without echo.
#[derive(Debug)]
pub struct Terminal;

impl PasswordSource for Terminal {
    fn password(&mut self, user: &str) -> Result<Zeroizing<String>, PasswdError> {
        let mut terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .map_err(PasswdError::Read)?;
        let first = ask(&mut terminal, &format!("New password for {user}: "))?;
        let second = ask(&mut terminal, &format!("Again, new password for {user}: "))?;
        if first == second {
            Ok(first)
        } else {
            Err(PasswdError::Differ)
        }
    }
}

/// Does what `command` says to the user file at `path` and tells on `output` what was done.
pub fn run(
    path: &Path,
    command: &PasswdCommand,
    passwords: &mut dyn PasswordSource,
    output: &mut dyn Write,
) -> Result<(), PasswdError> {
    let done = match command {
        PasswdCommand::Add { user, uid } => add(path, user, *uid, passwords)?,
        PasswdCommand::Change { user } => {
            let hash = new_hash(user, passwords)?;
            change(path, user, |entry| entry.hash = hash)?;
            format!("password of user {user} changed\n")
        }
        PasswdCommand::Disable { user } => {
            change(path, user, |entry| entry.disabled = true)?;
            format!("user {user} disabled\n")
        }
        PasswdCommand::Enable { user } => {
            change(path, user, |entry| entry.disabled = false)?;
            format!("user {user} enabled\n")
        }
        PasswdCommand::Remove { user } => UserFile::edit(path, |file| {
            let removed = file.remove(user);
            if removed {
                Ok(format!("user {user} removed\n"))
            } else {
                Err(no_such(user))
            }
        })?,
        PasswdCommand::List => list(&UserFile::load(path)?),
    };
    output
        .write_all(done.as_bytes())
        .map_err(PasswdError::Write)
}

fn add(
    path: &Path,
    user: &str,
    uid: Option<u32>,
    passwords: &mut dyn PasswordSource,
) -> Result<String, PasswdError> {
    // Refused before a password is asked for; looked at again under the lock.
    if UserFile::load(path).is_ok_and(|file| file.find(user).is_some()) {
        return Err(PasswdError::Exists {
            user: user.to_owned(),
        });
    }
    let identity = match uid {
        Some(uid) => Identity::of_uid(uid)?,
        None => Identity::of_account(user)?,
    };
    let hash = new_hash(user, passwords)?;
    UserFile::edit(path, |file| {
        if file.find(user).is_some() {
            return Err(PasswdError::Exists {
                user: user.to_owned(),
            });
        }
        file.put(UserEntry {
            name: user.to_owned(),
            uid,
            hash,
            disabled: false,
        })?;
        Ok(format!(
            "user {user} added: files are accessed as {} (uid {})\n",
            identity.user, identity.uid
        ))
    })
}

fn change(path: &Path, user: &str, alter: impl FnOnce(&mut UserEntry)) -> Result<(), PasswdError> {
    UserFile::edit(path, |file| {
        file.find_mut(user).map(alter).ok_or_else(|| no_such(user))
    })
}

fn list(file: &UserFile) -> String {
    let mut text = String::new();
    for entry in file.entries() {
        let state = if entry.disabled {
            "disabled"
        } else {
            "enabled"
        };
        let account = match Identity::of_entry(entry) {
            Ok(identity) => format!("{} (uid {})", identity.user, identity.uid),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("{}\t{state}\t{account}\n", entry.name));
    }
    text
}

fn new_hash(user: &str, passwords: &mut dyn PasswordSource) -> Result<NtHash, PasswdError> {
    let password = passwords.password(user)?;
    match password.len() {
        0 => Err(PasswdError::Empty),
        1..=MAX_PASSWORD_LENGTH => Ok(NtHash::of_password(&password)),
        _ => Err(PasswdError::TooLong),
    }
}

fn no_such(user: &str) -> PasswdError {
    PasswdError::NoSuchUser {
        user: user.to_owned(),
    }
}

fn ask(terminal: &mut File, prompt: &str) -> Result<Zeroizing<String>, PasswdError> {
    // Silent first: what is typed as soon as the prompt shows must not show too.
    let silenced = Silenced::new(terminal)?;
    terminal
        .write_all(prompt.as_bytes())
        .map_err(PasswdError::Read)?;
    let line = read_line(&mut io::BufReader::with_capacity(1, &silenced.terminal));
    drop(silenced);
    terminal.write_all(b"\n").map_err(PasswdError::Read)?;
    line
}

/// A terminal that does not echo for as long as this lives.
struct Silenced {
    terminal: File,
    before: Termios,
}

impl Silenced {
    fn new(terminal: &File) -> Result<Silenced, PasswdError> {
        let terminal = terminal.try_clone().map_err(PasswdError::Read)?;
        let before = tcgetattr(&terminal).map_err(|errno| PasswdError::Read(errno.into()))?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)
            .map_err(|errno| PasswdError::Read(errno.into()))?;
        Ok(Silenced { terminal, before })
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // Nothing is left to try when even this fails: the shell resets its terminal itself.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

fn read_line(input: &mut dyn BufRead) -> Result<Zeroizing<String>, PasswdError> {
    let mut line = Zeroizing::new(String::new());
    let limit = u64::try_from(MAX_PASSWORD_LENGTH + 2).unwrap_or(u64::MAX);
    io::Read::take(input, limit)
        .read_line(&mut line)
        .map_err(PasswdError::Read)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

#[cfg(test)]
mod tests;
