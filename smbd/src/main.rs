//! The command line of `smbd`: serve (the default), passwd, check-config, status, and the
//! processes the supervisor executes.

use std::fs::DirBuilder;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use smbd::config::{Config, DEFAULT_PATH, check_config, describe_parameters};
use smbd::passwd::{self, PasswdCommand, PasswordSource, Piped, Terminal};
use smbd::serve::{self, ServeArguments, ServeError};
use smbd::status;
use smbd::sys::privilege::Account;
use tracing::Level;

/// SMB 2 and 3 file server; SMB Direct through smbdirectd
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground (the default)
    Serve(SubcommandServe),
    /// Keep the users and their passwords
    Passwd {
        #[command(subcommand)]
        command: Passwd,
    },
    /// Check a configuration and say what it would serve
    CheckConfig {
        /// The file, if not the one of --config
        file: Option<PathBuf>,
        /// Show every parameter there is
        #[arg(long)]
        list: bool,
    },
    /// Show clients, channels and processes of the running server
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what the configuration means for RDMA (asked by smbdirectd's commands)
    #[command(hide = true)]
    RdmaSettings,
    /// Fork children (started by smbd itself)
    #[command(hide = true)]
    Zygote(SubcommandServe),
    /// Keep what children must agree on (started by smbd itself)
    #[command(hide = true)]
    Broker {
        #[arg(long)]
        uid: u32,
        #[arg(long)]
        gid: u32,
        #[arg(long)]
        log_level: Level,
    },
}

/// `--share` and `--user` behind the subcommand's name; `--config` may stand anywhere.
#[derive(Debug, clap::Args)]
struct SubcommandServe {
    #[arg(long = "share", value_name = "NAME=DIR", value_parser = serve::share)]
    shares: Vec<(String, PathBuf)>,
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Passwd {
    /// Add a user
    Add {
        user: String,
        /// Unix account, when it is not the one of this name
        #[arg(long)]
        uid: Option<u32>,
        /// Read the password from standard input, as is done without a terminal
        #[arg(long)]
        stdin: bool,
    },
    /// Give a user a new password
    Change {
        user: String,
        /// Read the password from standard input, as is done without a terminal
        #[arg(long)]
        stdin: bool,
    },
    /// Keep a user from logging on
    Disable { user: String },
    /// Let a user log on again
    Enable { user: String },
    /// Remove a user
    Remove { user: String },
    /// Show all users
    List,
}

fn main() -> ExitCode {
    let Arguments { mut serve, command } = Arguments::parse();
    let more = |serve: &mut ServeArguments, given: SubcommandServe| {
        serve.shares.extend(given.shares);
        serve.users.extend(given.users);
    };
    let outcome = match command {
        None => serve::serve(&serve).map_err(report),
        Some(Command::Serve(given)) => {
            more(&mut serve, given);
            serve::serve(&serve).map_err(report)
        }
        Some(Command::Zygote(given)) => {
            more(&mut serve, given);
            serve::zygote(&serve).map_err(report)
        }
        Some(Command::Broker {
            uid,
            gid,
            log_level,
        }) => serve::broker(Account { uid, gid }, log_level).map_err(report),
        Some(Command::Passwd { command }) => change_users(&serve, command),
        Some(Command::CheckConfig { file, list }) => check(file.or(serve.config), list),
        Some(Command::RdmaSettings) => show_rdma_settings(serve.config.as_deref()),
        Some(Command::Status { json }) => show_status(serve.config.as_deref(), json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => status,
    }
}

fn report(error: ServeError) -> ExitCode {
    eprintln!("smbd: {error}");
    ExitCode::FAILURE
}

fn change_users(serve: &ServeArguments, command: Passwd) -> Result<(), ExitCode> {
    let config = match (&serve.config, Path::new(DEFAULT_PATH).exists()) {
        (None, false) => Config::default(),
        _ => serve.load().map_err(report)?,
    };
    let (command, piped) = match command {
        Passwd::Add { user, uid, stdin } => (PasswdCommand::Add { user, uid }, stdin),
        Passwd::Change { user, stdin } => (PasswdCommand::Change { user }, stdin),
        Passwd::Disable { user } => (PasswdCommand::Disable { user }, false),
        Passwd::Enable { user } => (PasswdCommand::Enable { user }, false),
        Passwd::Remove { user } => (PasswdCommand::Remove { user }, false),
        Passwd::List => (PasswdCommand::List, false),
    };
    let mut from_stdin = Piped(std::io::stdin().lock());
    let mut from_terminal = Terminal;
    let piped = piped || !std::io::stdin().is_terminal();
    let passwords: &mut dyn PasswordSource = match piped {
        true => &mut from_stdin,
        false => &mut from_terminal,
    };
    let path = config.global.user_file();
    if let (PasswdCommand::Add { .. }, Some(directory)) = (&command, path.parent()) {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| {
            eprintln!(
                "smbd passwd: can't make {}: {error}; run it as root, or set private dir",
                directory.display()
            );
            ExitCode::FAILURE
        })?;
    }
    passwd::run(&path, &command, passwords, &mut std::io::stdout()).map_err(|error| {
        eprintln!("smbd passwd: {error}");
        ExitCode::FAILURE
    })
}

fn check(file: Option<PathBuf>, list: bool) -> Result<(), ExitCode> {
    if list {
        return print(&describe_parameters());
    }
    let checked = check_config(&file.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)));
    print(&checked.text)?;
    match checked.exit_code {
        0 => Ok(()),
        code => Err(ExitCode::from(code)),
    }
}

fn show_rdma_settings(config: Option<&Path>) -> Result<(), ExitCode> {
    let config = Config::of(config).map_err(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })?;
    print(&serde_json::to_string(&config.rdma_summary()).unwrap_or_default())
}

fn show_status(config: Option<&Path>, json: bool) -> Result<(), ExitCode> {
    let report = status::ask(config).map_err(|error| {
        eprintln!("smbd status: {error}");
        ExitCode::FAILURE
    })?;
    print(&match json {
        true => status::json(&report),
        false => status::text(&report),
    })
}

/// Prints with one newline at its end; a reader that has left (`| head`) is no error to report.
fn print(text: &str) -> Result<(), ExitCode> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    writeln!(std::io::stdout(), "{text}").map_err(|_| ExitCode::FAILURE)
}
