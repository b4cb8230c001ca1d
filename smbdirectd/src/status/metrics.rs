//! The report as Prometheus reads it (OpenMetrics text). Totals keep their meaning when a
//! connection ends; what is counted by connection has its number as a label, and goes with it.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use proto::control::gateway::{ConnectionStatus, GatewayTotals};
use proto::control::status::StatusReport;

type Labels = Vec<(&'static str, String)>;

/// Everything in one text.
pub fn prometheus(report: &StatusReport) -> String {
    let mut registry = Registry::with_prefix("smbdirect");
    let running = gauge(
        &mut registry,
        "up",
        "Whether smbdirectd runs and answers",
        None,
    );
    let gateway = report.gateway.as_ref();
    let totals = gateway.and_then(|gateway| gateway.totals);
    running.set(i64::from(totals.is_some()));
    if let (Some(gateway), Some(totals)) = (gateway, totals) {
        add_totals(&mut registry, &totals);
        let listening = Family::<Labels, Gauge>::default();
        registry.register(
            "listening",
            "Addresses clients can connect to by RDMA",
            listening.clone(),
        );
        for found in &gateway.interfaces {
            let labels = vec![
                ("address", found.address.to_string()),
                ("device", found.device.clone()),
                ("port", found.port.to_string()),
            ];
            listening.get_or_create(&labels).set(1);
        }
        add_connections(&mut registry, &gateway.connections);
    }
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn add_totals(registry: &mut Registry, totals: &GatewayTotals) {
    let bytes = || Some(Unit::Bytes);
    for (name, help, unit, value) in [
        ("connections", "RDMA connections", None, totals.connections),
        ("queue_pairs", "Queue pairs", None, totals.queue_pairs),
        (
            "memory_regions",
            "Memory regions",
            None,
            totals.memory_regions,
        ),
        (
            "pinned",
            "Memory pinned for devices",
            bytes(),
            totals.pinned_bytes,
        ),
    ] {
        gauge(registry, name, help, unit).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    for (name, help, unit, value) in [
        ("accepted", "Connections accepted", None, totals.accepted),
        ("refused", "Connections refused", None, totals.refused),
        (
            "rdma_read",
            "Read from clients by RDMA (their WRITEs)",
            bytes(),
            totals.rdma_read_bytes,
        ),
        (
            "rdma_written",
            "Written to clients by RDMA (their READs)",
            bytes(),
            totals.rdma_write_bytes,
        ),
        (
            "region_copied",
            "Copied into or out of regions: messages, never payload",
            bytes(),
            totals.region_bytes_copied,
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, counter),
            None => registry.register(name, help, counter),
        }
    }
}

fn add_connections(registry: &mut Registry, connections: &[ConnectionStatus]) {
    type Reading = fn(&ConnectionStatus) -> u64;
    let counters: [(&str, &str, Reading); 8] = [
        (
            "messages_received",
            "SMB messages from the client",
            |found| found.counts.messages_in,
        ),
        ("messages_sent", "SMB messages to the client", |found| {
            found.counts.messages_out
        }),
        ("fragments_received", "Fragments from the client", |found| {
            found.counts.fragments_in
        }),
        ("fragments_sent", "Fragments to the client", |found| {
            found.counts.fragments_out
        }),
        ("rdma_reads", "RDMA READs done", |found| {
            found.counts.rdma_reads
        }),
        ("rdma_writes", "RDMA WRITEs done", |found| {
            found.counts.rdma_writes
        }),
        ("rdma_bytes", "Bytes moved by RDMA, both ways", |found| {
            let counts = &found.counts;
            counts
                .rdma_read_bytes
                .saturating_add(counts.rdma_write_bytes)
        }),
        ("keepalives_sent", "Signs of life asked for", |found| {
            found.counts.keepalives_out
        }),
    ];
    let labels = |found: &ConnectionStatus| -> Labels {
        vec![
            ("connection", found.connection.0.to_string()),
            ("peer", found.peer.to_string()),
            ("device", found.device.clone()),
        ]
    };
    for (name, help, reading) in counters {
        let family = Family::<Labels, Counter>::default();
        registry.register(format!("connection_{name}"), help, family.clone());
        for found in connections {
            let counter = family.get_or_create(&labels(found));
            counter.inc_by(reading(found));
        }
    }
    let gauges: [(&str, &str, Reading); 3] = [
        ("credits_held", "Credits smbdirectd may spend", |found| {
            u64::from(found.credits.held)
        }),
        ("credits_granted", "Credits the client may spend", |found| {
            u64::from(found.credits.granted)
        }),
        (
            "region_bytes",
            "RDMA memory granted to the client",
            |found| found.region_bytes,
        ),
    ];
    for (name, help, reading) in gauges {
        let family = Family::<Labels, Gauge>::default();
        registry.register(format!("connection_{name}"), help, family.clone());
        for found in connections {
            let gauge = family.get_or_create(&labels(found));
            gauge.set(i64::try_from(reading(found)).unwrap_or(i64::MAX));
        }
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>) -> Gauge {
    let gauge = Gauge::default();
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge.clone()),
        None => registry.register(name, help, gauge.clone()),
    }
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::report;

    #[test]
    fn totals_and_connections_are_there_with_their_labels() {
        let text = prometheus(&report());
        let connection = r#"{connection="4",peer="10.0.0.2:50000",device="rxe0"}"#;
        for expected in [
            "smbdirect_up 1".to_owned(),
            "smbdirect_pinned_bytes 9437184".into(),
            "smbdirect_accepted_total 4".into(),
            "# TYPE smbdirect_rdma_written_bytes counter".into(),
            format!("smbdirect_connection_rdma_writes_total{connection} 5"),
            format!("smbdirect_connection_credits_granted{connection} 255"),
        ] {
            let mut lines = text.lines();
            assert!(
                lines.any(|line| line == expected),
                "{expected:?} not in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_server_without_smbdirectd_is_down_and_nothing_else() {
        let text = prometheus(&StatusReport::default());
        assert!(text.contains("smbdirect_up 0"), "{text}");
        assert!(!text.contains("connections"), "{text}");
    }
}
