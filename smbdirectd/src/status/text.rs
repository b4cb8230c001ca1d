//! The report as a person reads it.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use proto::control::gateway::{ConnectionStatus, DeviceStatus};
use proto::control::status::{GatewayReport, StatusReport};

/// Several lines.
pub fn text(report: &StatusReport) -> String {
    let mut out = String::new();
    let _ = match &report.gateway {
        Some(gateway) => write_gateway(gateway, &mut out),
        None => writeln!(
            out,
            "smbdirectd: not running; 'smbdirectd doctor' says why and what to do"
        ),
    };
    out
}

fn write_gateway(gateway: &GatewayReport, out: &mut String) -> fmt::Result {
    writeln!(out, "smbdirectd: pid {}", gateway.pid)?;
    for found in &gateway.interfaces {
        let address = SocketAddr::new(found.address, found.port);
        writeln!(out, "  listens on {address}, {}", found.device)?;
    }
    for unheard in &gateway.unheard {
        writeln!(
            out,
            "  does not listen on {}: {}",
            unheard.address, unheard.text
        )?;
    }
    let Some(totals) = &gateway.totals else {
        return writeln!(out, "  it has not answered; look into smbd's log");
    };
    writeln!(
        out,
        "  {} connections ({} accepted, {} refused), {} queue pairs, {} memory regions, {} pinned",
        totals.connections,
        totals.accepted,
        totals.refused,
        totals.queue_pairs,
        totals.memory_regions,
        size(totals.pinned_bytes)
    )?;
    for device in &gateway.devices {
        write_device(device, out)?;
    }
    for connection in &gateway.connections {
        write_connection(connection, out)?;
    }
    if !gateway.ended.is_empty() {
        writeln!(out, "the last that ended:")?;
    }
    for ended in gateway.ended.iter().rev() {
        writeln!(
            out,
            "  {} s ago, after {} s, connection {}, {}: {}",
            ended.ago_s, ended.lived_s, ended.connection.0, ended.reason, ended.message
        )?;
    }
    Ok(())
}

fn write_device(device: &DeviceStatus, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "device {}: {}, {} work requests and {} completions a queue, {} RDMA READs at a time",
        device.name,
        if device.iwarp {
            "iWARP"
        } else {
            "RoCE or InfiniBand"
        },
        device.max_work_requests,
        device.max_completions,
        device.max_reads
    )?;
    let mut lowered = device.lowered.iter();
    lowered.try_for_each(|sentence| writeln!(out, "  {sentence}"))
}

fn write_connection(found: &ConnectionStatus, out: &mut String) -> fmt::Result {
    let child = match found.child_pid {
        Some(pid) => format!("smbd {pid}"),
        None => "no smbd yet".into(),
    };
    writeln!(
        out,
        "connection {}: {} to {} on {}, {child}, {}, for {} s",
        found.connection.0, found.peer, found.local, found.device, found.state, found.age_s
    )?;
    let (limits, credits, counts) = (&found.limits, &found.credits, &found.counts);
    writeln!(
        out,
        "  sizes: payload of a SEND {}, receive {}, message out {}, in {}, READ and WRITE {}",
        limits.max_send_payload,
        limits.max_receive_size,
        limits.max_fragmented_send_size,
        limits.max_fragmented_receive_size,
        limits.max_read_write_size
    )?;
    writeln!(
        out,
        "  depths: {} SENDs, {} RDMA requests, of these {} READs",
        limits.sends, limits.rdma_depth, limits.reads
    )?;
    writeln!(
        out,
        "  credits: {} to spend; the client has {} of {}, {} buffers posted",
        credits.held, credits.granted, credits.target, credits.posted
    )?;
    writeln!(
        out,
        "  in: {} messages in {} fragments, {}; out: {} in {}, {}; empty: {} in, {} out",
        counts.messages_in,
        counts.fragments_in,
        size(counts.bytes_in),
        counts.messages_out,
        counts.fragments_out,
        size(counts.bytes_out),
        counts.empty_in,
        counts.empty_out
    )?;
    writeln!(
        out,
        "  RDMA READ: {}, {}; RDMA WRITE: {}, {}; region: {}; keepalives: {} asked for, {} answered",
        counts.rdma_reads,
        size(counts.rdma_read_bytes),
        counts.rdma_writes,
        size(counts.rdma_write_bytes),
        size(found.region_bytes),
        counts.keepalives_out,
        counts.keepalives_in
    )
}

/// Bytes in the largest unit that keeps three digits, as `1.5 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(larger) = units.next()
    {
        (value, unit) = (value / 1024.0, Some(larger));
    }
    let unit = unit.copied().unwrap_or_default();
    match bytes {
        0..1024 => format!("{bytes} {unit}"),
        _ => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::report;

    #[test]
    fn each_connection_says_whose_it_is_and_what_it_may() {
        let text = text(&report());
        for expected in [
            "connection 4: 10.0.0.2:50000 to 10.0.0.1:445 on rxe0, smbd 77, established, for 62 s",
            "credits: 200 to spend; the client has 255 of 255",
            "RDMA WRITE: 5, 5.0 MiB; region: 8.0 MiB; keepalives: 2 asked for",
            "rdma receive credits: 127 instead of 255",
            "9 s ago, after 4 s, connection 3, PeerViolation: 10.0.0.2:50000 on rxe0: an RDMA WRITE",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_server_without_smbdirectd_says_where_to_look() {
        assert!(text(&StatusReport::default()).contains("smbdirectd doctor"));
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(8 << 20), "8.0 MiB");
    }
}
