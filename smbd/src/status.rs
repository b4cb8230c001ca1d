//! `smbd status`: asks the supervisor's status socket, and prints the report for a person or as
//! JSON.

use std::fmt::Write;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use proto::control::child::{ChannelStatus, Transport};
use proto::control::gateway::ConnectionStatus;
use proto::control::status::StatusReport;
use proto::smb2::Guid;

use crate::config::Config;
use crate::supervisor::STATUS_SOCKET;

/// The supervisor answers in a second.
const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(
        "no smbd answers at {path} ({error}); start it, or name its configuration with --config"
    )]
    NotRunning { path: String, error: io::Error },
    #[error("the status ends early ({0}); look into smbd's log")]
    Broken(io::Error),
    #[error("the status can't be read; is this smbd another version than the one running?")]
    Malformed,
    #[error("{0}")]
    Config(#[from] crate::config::ConfigErrors),
}

/// Asks the server of this configuration, or the usual one.
pub fn ask(config: Option<&Path>) -> Result<StatusReport, StatusError> {
    let config = Config::of(config)?;
    ask_at(&config.global.run_directory.join(STATUS_SOCKET))
}

/// Asks at this socket.
pub fn ask_at(path: &Path) -> Result<StatusReport, StatusError> {
    let not_running = |error| StatusError::NotRunning {
        path: path.display().to_string(),
        error,
    };
    let mut socket = UnixStream::connect(path).map_err(not_running)?;
    socket
        .set_read_timeout(Some(LIMIT))
        .map_err(StatusError::Broken)?;
    let mut bytes = Vec::new();
    socket
        .read_to_end(&mut bytes)
        .map_err(StatusError::Broken)?;
    StatusReport::decode(&bytes).ok_or(StatusError::Malformed)
}

/// One JSON object, the fields of [`StatusReport`].
pub fn json(report: &StatusReport) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default()
}

/// What a person reads.
pub fn text(report: &StatusReport) -> String {
    let mut text = String::new();
    let _ = write_text(report, &mut text);
    text
}

fn write_text(report: &StatusReport, out: &mut String) -> std::fmt::Result {
    let process = |pid: Option<i32>| match pid {
        Some(pid) => format!("pid {pid}"),
        None => "not running".into(),
    };
    writeln!(
        out,
        "smbd: supervisor pid {}, zygote {}, broker {}",
        report.supervisor,
        process(report.zygote),
        process(report.broker)
    )?;
    match (&report.brokered, report.broker) {
        (Some(totals), _) => writeln!(
            out,
            "  broker: {} clients, {} connections on their way to one, {} opens of {} files",
            totals.clients, totals.passes, totals.opens, totals.files
        )?,
        (None, Some(_)) => writeln!(out, "  broker: it has not answered")?,
        (None, None) => {}
    }
    for address in &report.listening {
        writeln!(out, "  tcp   {address}")?;
    }
    match &report.gateway {
        None => writeln!(out, "smbdirectd: not running")?,
        Some(gateway) => {
            writeln!(out, "smbdirectd: pid {}", gateway.pid)?;
            for found in &gateway.interfaces {
                let address = std::net::SocketAddr::new(found.address, found.port);
                writeln!(out, "  rdma  {address} on {}", found.device)?;
            }
            match &gateway.totals {
                None => writeln!(out, "  it has not answered")?,
                Some(totals) => writeln!(
                    out,
                    "  {} connections, {} memory regions, {} bytes pinned; RDMA READ {} bytes, \
                     RDMA WRITE {} bytes, {} copied here",
                    totals.connections,
                    totals.memory_regions,
                    totals.pinned_bytes,
                    totals.rdma_read_bytes,
                    totals.rdma_write_bytes,
                    totals.region_bytes_copied
                )?,
            }
        }
    }
    writeln!(out, "{} clients", report.children.len())?;
    for child in &report.children {
        let Some(status) = &child.status else {
            writeln!(out, "client of pid {}: it has not answered", child.pid)?;
            continue;
        };
        writeln!(
            out,
            "client {}, pid {}, dialect {}, {} sessions, {} opens, {} bytes of RDMA memory copied here",
            Guid(status.client_guid),
            child.pid,
            dialect(status.dialect),
            status.sessions,
            status.opens,
            status.region_bytes_copied
        )?;
        for channel in &status.channels {
            write_channel(channel, report, out)?;
        }
    }
    Ok(())
}

fn write_channel(
    channel: &ChannelStatus,
    report: &StatusReport,
    out: &mut String,
) -> std::fmt::Result {
    let users = match channel.users.is_empty() {
        true => "nobody yet".to_owned(),
        false => channel.users.join(", "),
    };
    match channel.transport {
        Transport::Tcp => writeln!(
            out,
            "  tcp   {} to {}, {users}",
            channel.peer, channel.local
        ),
        Transport::Rdma => {
            write!(
                out,
                "  rdma  {} to {} on {}, {users}",
                channel.peer, channel.local, channel.device
            )?;
            match rdma_connection(channel, report) {
                None => writeln!(out),
                Some(found) => writeln!(
                    out,
                    ", {}, RDMA READ {} bytes, RDMA WRITE {} bytes",
                    found.state, found.counts.rdma_read_bytes, found.counts.rdma_write_bytes
                ),
            }
        }
    }
}

/// smbdirectd's side of a channel.
fn rdma_connection<'a>(
    channel: &ChannelStatus,
    report: &'a StatusReport,
) -> Option<&'a ConnectionStatus> {
    let wanted = channel.connection?;
    let mut connections = report.gateway.as_ref()?.connections.iter();
    connections.find(|found| found.connection == wanted)
}

fn dialect(revision: u16) -> String {
    match revision {
        0 => "not negotiated".into(),
        0x0202 => "2.0.2".into(),
        0x0210 => "2.1".into(),
        0x0300 => "3.0".into(),
        0x0302 => "3.0.2".into(),
        0x0311 => "3.1.1".into(),
        other => format!("{other:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use proto::control::ConnectionId;
    use proto::control::child::ChildStatus;
    use proto::control::gateway::{ConnectionCounts, ConnectionCredits, ConnectionLimits};
    use proto::control::status::{ChildReport, GatewayReport};

    use super::*;

    fn report() -> StatusReport {
        let channel = ChannelStatus {
            transport: Transport::Rdma,
            peer: "10.0.0.2:50000".parse().unwrap(),
            local: "10.0.0.1:445".parse().unwrap(),
            device: "rxe0".into(),
            connection: Some(ConnectionId(4)),
            users: vec!["alice".into()],
            must_protect: false,
            rdma_transform: false,
        };
        let connection = ConnectionStatus {
            connection: ConnectionId(4),
            peer: channel.peer,
            local: channel.local,
            device: "rxe0".into(),
            state: "established".into(),
            child_pid: None,
            age_s: 3,
            limits: ConnectionLimits::default(),
            credits: ConnectionCredits::default(),
            counts: ConnectionCounts {
                rdma_read_bytes: 111,
                rdma_write_bytes: 222,
                ..ConnectionCounts::default()
            },
            region_bytes: 0,
        };
        StatusReport {
            supervisor: 1,
            zygote: Some(2),
            broker: None,
            children: vec![
                ChildReport {
                    child: 1,
                    pid: 77,
                    status: Some(ChildStatus {
                        client_guid: [1; 16],
                        dialect: 0x0311,
                        sessions: 1,
                        opens: 2,
                        region_bytes_copied: 3,
                        channels: vec![channel],
                    }),
                },
                ChildReport {
                    child: 2,
                    pid: 78,
                    status: None,
                },
            ],
            gateway: Some(GatewayReport {
                pid: 5,
                connections: vec![connection],
                ..GatewayReport::default()
            }),
            ..StatusReport::default()
        }
    }

    #[test]
    fn a_channel_is_shown_with_smbdirectds_bytes() {
        let text = text(&report());
        for expected in [
            "broker not running",
            "pid 77, dialect 3.1.1, 1 sessions, 2 opens, 3 bytes of RDMA memory copied here",
            "rdma  10.0.0.2:50000 to 10.0.0.1:445 on rxe0, alice, established, RDMA READ 111 bytes",
            "client of pid 78: it has not answered",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn json_names_connections_by_plain_numbers() {
        let json = json(&report());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let channel = &value["children"][0]["status"]["channels"][0];
        assert_eq!(channel["connection"], 4);
        assert_eq!(channel["transport"], "Rdma");
        assert_eq!(value["gateway"]["connections"][0]["connection"], 4);
    }
}
