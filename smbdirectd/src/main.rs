//! The command line of `smbdirectd`: the gateway itself, which smbd starts, and what an
//! administrator asks it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use smbdirectd::server::Server;
use smbdirectd::{doctor, program, status};

/// The RDMA gateway of smbd: owns the RDMA devices, speaks SMB Direct, relays whole SMB messages.
///
/// smbd starts it, with a control socket as standard input and the settings through it. Log
/// detail: SMBDIRECT_LOG (error, warn, info, debug).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration of the smbd that is asked, if not the usual one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say for each network interface whether clients are offered RDMA, why not, and what to do;
    /// ends with 0 only if they are on one at least
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show every RDMA connection of the running server, and why the last ones ended
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// As Prometheus metrics
        #[arg(long, conflicts_with = "json")]
        prometheus: bool,
        /// Replace this file by the output, whole (node_exporter's textfile collector)
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let answer = match command {
        None if std::io::stdin().is_terminal() => Err(
            "smbd starts this program; see 'smbdirectd --help' for what can be asked of it".into(),
        ),
        None => return program::run(),
        Some(Command::Doctor { json }) => match doctor::examine(config.as_deref()) {
            Ok(examination) => {
                let text = match json {
                    true => examination.json(),
                    false => examination.text(),
                };
                return match (print(&text), examination.diagnosis.rdma_would_be_used) {
                    (Ok(()), true) => ExitCode::SUCCESS,
                    _ => ExitCode::FAILURE,
                };
            }
            Err(problem) => Err(problem),
        },
        Some(Command::Status {
            json,
            prometheus,
            output,
        }) => Server::of(config.as_deref()).and_then(|server| {
            let report = server.ask()?;
            let text = match (json, prometheus) {
                (true, _) => status::json(&report),
                (_, true) => status::prometheus(&report),
                _ => status::text(&report),
            };
            match output {
                Some(path) => status::replace(&path, &text),
                None => print(&text),
            }
        }),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("smbdirectd: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Prints with one newline at its end; a reader that has left (`| head`) is nobody to complain to.
fn print(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}
