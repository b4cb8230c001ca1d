//! The daemon's life: reads its settings from the supervisor, gives up its privileges, runs the
//! gateway. Called by `main`, and by the build on the simulated fabric; never by anything else.

use std::fmt;
use std::os::fd::AsFd;
use std::process::ExitCode;

use proto::control::gateway::{GatewaySettings, ToGateway};
use shm::SystemError;
use shm::link::{Datagram, Link, SocketLink};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::config::Limits;
use crate::gateway::{Gateway, GatewayError};
use crate::privileges;
use crate::rdma::LOCKS_MEMORY;

/// Time, process and pid before each line, as smbd's processes write it to the same log.
struct Prefix;

impl FormatTime for Prefix {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " smbdirectd[{}]", std::process::id())
    }
}

/// Runs the gateway until the supervisor, whose socket is standard input, ends it.
pub fn run() -> ExitCode {
    let filter =
        EnvFilter::try_from_env("SMBDIRECT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Prefix)
        .compact()
        .init();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("smbdirectd ends: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    privileges::confine()?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut control = SocketLink::new(socket, proto::control::BACKLOG);
    let settings = receive_settings(&mut control)?;
    let mut limits = Limits::new(settings);
    let (uid, gid) = (limits.settings().uid, limits.settings().gid);
    let locked = privileges::drop_to(uid, gid, limits.pinned_limit())?;
    if LOCKS_MEMORY && let Some(text) = limits.fit(locked) {
        tracing::warn!("{text}");
    }
    if let Err(error) = shm::scheduling::gather_work_of_many() {
        tracing::warn!("clients may be served slower than they need be: {error}");
    }
    Gateway::new(control, limits)?.run()?;
    Ok(())
}

/// Waits for the first message, which holds the settings and nothing else.
fn receive_settings(control: &mut SocketLink) -> Result<GatewaySettings, GatewayError> {
    let mut datagram = Datagram::new();
    loop {
        if !control.receive(&mut datagram)? {
            let mut waiting = [rustix::event::PollFd::from_borrowed_fd(
                control.descriptor(),
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut waiting, None)
                .map_err(SystemError::of("wait for the supervisor"))?;
            continue;
        }
        let mut messages =
            proto::control::decode::<ToGateway>(datagram.bytes(), datagram.descriptors.len());
        return match messages.next() {
            Some(Ok(ToGateway::Configure(settings))) => Ok(settings),
            Some(Err(error)) => Err(error.into()),
            _ => Err(proto::control::ControlError::Malformed { offset: 0 }.into()),
        };
    }
}
