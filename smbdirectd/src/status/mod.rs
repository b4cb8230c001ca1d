//! `smbdirectd status`: what smbd and smbdirectd answered, for a person, as JSON, and as metrics.
//! Formats a report and writes it; asks nobody.

mod metrics;
mod text;

use std::io::Write;
use std::path::Path;

use proto::control::status::{GatewayReport, StatusReport};
use serde::Serialize;

pub use metrics::prometheus;
pub use text::text;

/// One JSON object: the RDMA side of the report, and `null` for smbdirectd while it does not run.
pub fn json(report: &StatusReport) -> String {
    #[derive(Serialize)]
    struct Status<'a> {
        supervisor: i32,
        gateway: Option<&'a GatewayReport>,
    }
    let status = Status {
        supervisor: report.supervisor,
        gateway: report.gateway.as_ref(),
    };
    serde_json::to_string_pretty(&status).unwrap_or_default()
}

/// Puts `text` in the place of `path` in one step: who reads it meanwhile reads all of it, old or
/// new.
pub fn replace(path: &Path, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = std::fs::File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&new);
        format!(
            "can't write {}: {error}; name a file in a directory you may write to",
            path.display()
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use proto::control::ConnectionId;
    use proto::control::gateway::{
        ConnectionCounts, ConnectionCredits, ConnectionLimits, ConnectionStatus, DeviceStatus,
        EndedConnection, GatewayTotals,
    };

    use super::*;

    pub(super) fn report() -> StatusReport {
        let peer = "10.0.0.2:50000".parse().unwrap();
        let counts = ConnectionCounts {
            messages_in: 10,
            fragments_in: 12,
            keepalives_out: 2,
            rdma_writes: 5,
            rdma_write_bytes: 5 << 20,
            ..ConnectionCounts::default()
        };
        let connection = ConnectionStatus {
            connection: ConnectionId(4),
            peer,
            local: "10.0.0.1:445".parse().unwrap(),
            device: "rxe0".into(),
            state: "established".into(),
            child_pid: Some(77),
            age_s: 62,
            limits: ConnectionLimits {
                max_read_write_size: 8 << 20,
                ..ConnectionLimits::default()
            },
            credits: ConnectionCredits {
                held: 200,
                granted: 255,
                target: 255,
                ..ConnectionCredits::default()
            },
            counts,
            region_bytes: 8 << 20,
        };
        let ended = EndedConnection {
            connection: ConnectionId(3),
            peer,
            device: "rxe0".into(),
            ago_s: 9,
            lived_s: 4,
            reason: "PeerViolation".into(),
            message: "10.0.0.2:50000 on rxe0: an RDMA WRITE (the client's READ) of 8 bytes at \
                      0x1000, token 0x00000007, failed"
                .into(),
            counts,
        };
        StatusReport {
            supervisor: 1,
            gateway: Some(GatewayReport {
                pid: 5,
                connections: vec![connection],
                ended: vec![ended],
                devices: vec![DeviceStatus {
                    name: "rxe0".into(),
                    iwarp: false,
                    max_work_requests: 128,
                    max_completions: 4096,
                    max_reads: 16,
                    send_with_invalidate: true,
                    speed: 0,
                    mtu: 4096,
                    lowered: vec!["rdma receive credits: 127 instead of 255".into()],
                }],
                totals: Some(GatewayTotals {
                    connections: 1,
                    pinned_bytes: 9 << 20,
                    accepted: 4,
                    ..GatewayTotals::default()
                }),
                ..GatewayReport::default()
            }),
            ..StatusReport::default()
        }
    }

    #[test]
    fn json_is_one_object_with_every_count() {
        let value: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        let connection = &value["gateway"]["connections"][0];
        assert_eq!(connection["child_pid"], 77);
        assert_eq!(connection["credits"]["granted"], 255);
        assert_eq!(connection["counts"]["keepalives_out"], 2);
        assert_eq!(value["gateway"]["ended"][0]["reason"], "PeerViolation");
        let idle = StatusReport::default();
        let value: serde_json::Value = serde_json::from_str(&json(&idle)).unwrap();
        assert!(value["gateway"].is_null());
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("smbdirect.prom");
        replace(&path, "old\n").unwrap();
        replace(&path, "new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("none/smbdirect.prom");
        let refused = replace(&nowhere, "text").unwrap_err().to_string();
        assert!(refused.contains("name a file in a directory"), "{refused}");
    }
}
