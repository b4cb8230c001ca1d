//! `smbd serve`, and the processes the supervisor executes: the arguments that make a
//! configuration, and the start of each process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shm::SystemError;
use tracing::Level;

use crate::config::{Config, ConfigErrors, DEFAULT_PATH, LogLevel, NameMatch, Share};
use crate::security::kerberos::TicketError;
use crate::security::users::UserFile;
use crate::sys::fork::take_control;
use crate::sys::privilege::{Account, become_account, hold_secrets};
use crate::{broker, logging, supervisor, zygote};

/// What to serve.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Serve this directory, writable, besides the configuration's shares (may be repeated)
    #[arg(long = "share", value_name = "NAME=DIR", value_parser = share)]
    pub shares: Vec<(String, PathBuf)>,
    /// Let only these users into the shares given with --share (may be repeated)
    #[arg(long = "user", value_name = "NAME")]
    pub users: Vec<String>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error(
        "there is no {path}; name the configuration with --config FILE, or a directory with --share NAME=DIR"
    )]
    NoConfig { path: String },
    #[error("there is no user {user}; make one with: smbd passwd add {user}")]
    NoUser { user: String },
    #[error(transparent)]
    UserFile(#[from] crate::security::users::UserFileError),
    #[error("Kerberos (kerberos method): {0}")]
    Kerberos(#[from] TicketError),
    #[error(transparent)]
    System(#[from] SystemError),
}

impl ServeArguments {
    /// The configuration these arguments mean.
    pub fn load(&self) -> Result<Config, ServeError> {
        let mut config = self.load_file()?;
        let shares = self.shares.iter().map(|(name, directory)| {
            let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            (name.clone(), directory)
        });
        let given = Config::from_parts(config.global.clone(), config.rdma.clone(), shares)?;
        let users: Vec<NameMatch> = self.users.iter().cloned().map(NameMatch::User).collect();
        for share in given.shares {
            let share = Share {
                valid_users: users.clone(),
                ..Share::clone(&share)
            };
            // The command line wins over a section of the same name.
            config
                .shares
                .retain(|other| other.name.to_lowercase() != share.name.to_lowercase());
            config.shares.push(Arc::new(share));
        }
        Ok(config)
    }

    fn load_file(&self) -> Result<Config, ServeError> {
        match &self.config {
            Some(path) => Ok(Config::load(path)?),
            None if Path::new(DEFAULT_PATH).exists() => Ok(Config::load(Path::new(DEFAULT_PATH))?),
            None if !self.shares.is_empty() => Ok(Config::default()),
            None => Err(ServeError::NoConfig {
                path: DEFAULT_PATH.into(),
            }),
        }
    }

    /// The arguments again, for a process that has to find the same configuration.
    fn repeated(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(path) = &self.config {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            arguments.extend(["--config".into(), path.into_os_string()]);
        }
        for (name, directory) in &self.shares {
            let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            let mut share = OsString::from(format!("{name}="));
            share.push(directory);
            arguments.extend(["--share".into(), share]);
        }
        for user in &self.users {
            arguments.extend(["--user".into(), user.into()]);
        }
        arguments
    }
}

/// Runs the supervisor in the foreground until it is told to stop.
pub fn serve(arguments: &ServeArguments) -> Result<(), ServeError> {
    let config = arguments.load()?;
    logging::init("supervisor", level(config.global.log_level));
    check_users(arguments, &config)?;
    #[cfg(feature = "kerberos")]
    if config.global.has_kerberos() {
        crate::sys::gssapi::Keytab::new(config.global.keytab()).check()?;
    }
    if !rustix::process::geteuid().is_root() {
        tracing::warn!(
            "not root: clients can act as this user only, and ports below 1024 are out of reach"
        );
    }
    for share in &config.shares {
        let access = match share.read_only {
            true => "read-only",
            false => "writable",
        };
        tracing::info!(path = %share.path.display(), access, "serving share {}", share.name);
    }
    let mut zygote_arguments: Vec<OsString> = vec!["zygote".into()];
    zygote_arguments.extend(arguments.repeated());
    Ok(supervisor::run(Arc::new(config), zygote_arguments)?)
}

/// The zygote, as the supervisor executes it.
pub fn zygote(arguments: &ServeArguments) -> Result<(), ServeError> {
    let control = take_control()?;
    let config = arguments.load()?;
    logging::init("zygote", level(config.global.log_level));
    hold_secrets()?;
    Ok(zygote::run(control, Arc::new(config))?)
}

/// The broker, as the supervisor executes it.
pub fn broker(account: Account, log_level: Level) -> Result<(), ServeError> {
    let control = take_control()?;
    logging::init("broker", log_level);
    become_account(account)?;
    Ok(broker::process::run(control)?)
}

/// Users named on the command line must be able to log on.
fn check_users(arguments: &ServeArguments, config: &Config) -> Result<(), ServeError> {
    if arguments.users.is_empty() {
        return Ok(());
    }
    let file = UserFile::load(&config.global.user_file())?;
    match arguments
        .users
        .iter()
        .find(|user| file.find(user).is_none())
    {
        Some(user) => Err(ServeError::NoUser { user: user.clone() }),
        None => Ok(()),
    }
}

fn level(configured: LogLevel) -> Level {
    configured.to_string().parse().unwrap_or(Level::INFO)
}

/// Reads `NAME=DIR`.
pub fn share(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, directory)) if !name.is_empty() && !directory.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(directory)))
        }
        _ => Err("allowed is NAME=DIR, such as music=/srv/music".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(shares: &[(&str, &str)]) -> ServeArguments {
        ServeArguments {
            config: None,
            shares: shares
                .iter()
                .map(|(name, directory)| (name.to_string(), directory.into()))
                .collect(),
            users: vec!["alice".into()],
        }
    }

    #[test]
    fn a_share_of_the_command_line_wins_over_the_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[Music]\npath = /old\n[other]\npath = /other\n").unwrap();
        let arguments = ServeArguments {
            config: Some(file.path().to_owned()),
            ..arguments(&[("music", "/new")])
        };
        let config = arguments.load().unwrap();
        let paths: Vec<_> = config.shares.iter().map(|share| &share.path).collect();
        assert_eq!(paths, [Path::new("/other"), Path::new("/new")]);
        let share = config.share("music").unwrap();
        assert!(!share.read_only);
        assert_eq!(share.valid_users, [NameMatch::User("alice".into())]);
    }

    #[test]
    fn the_zygote_gets_the_same_configuration() {
        let arguments = arguments(&[("a", "relative"), ("b", "/b")]);
        let repeated = arguments.repeated();
        let here = std::path::absolute("relative").unwrap();
        let expected = [
            "--share".to_owned(),
            format!("a={}", here.display()),
            "--share".into(),
            "b=/b".into(),
            "--user".into(),
            "alice".into(),
        ];
        assert_eq!(repeated, expected.map(OsString::from));
    }

    #[test]
    fn a_share_without_a_directory_is_refused_with_what_is_allowed() {
        assert!(share("music").unwrap_err().contains("NAME=DIR"));
        assert!(share("=x").is_err());
    }
}
