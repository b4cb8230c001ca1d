//! The diagnosis as a person reads it: a verdict for each interface, then the devices.

use std::fmt::{self, Write};

use super::Examination;
use super::decision::{Finding, InterfaceDiagnosis};

pub(super) fn text(examination: &Examination) -> String {
    let mut out = String::new();
    let _ = write_all(examination, &mut out);
    out
}

fn write_all(examination: &Examination, out: &mut String) -> fmt::Result {
    let diagnosis = &examination.diagnosis;
    for finding in &diagnosis.findings {
        write_finding(finding, "", out)?;
    }
    for found in &diagnosis.interfaces {
        write_interface(found, out)?;
    }
    for device in &examination.devices {
        let kind = match (device.iwarp, device.software) {
            (false, false) => "RoCE or InfiniBand",
            (false, true) => "soft-RoCE",
            (true, false) => "iWARP",
            (true, true) => "soft-iWARP",
        };
        let on = device.interfaces.join(", ");
        writeln!(
            out,
            "device {}: {kind} on {on}, port {}",
            device.name, device.state
        )?;
        let mut in_use = examination.in_use.iter();
        if let Some(found) = in_use.find(|found| found.name == device.name) {
            writeln!(
                out,
                "  in use: MTU {}, {} bit/s, {} work requests a queue",
                found.mtu, found.speed, found.max_work_requests
            )?;
            for lowered in &found.lowered {
                writeln!(out, "  {lowered}")?;
            }
        }
        for gid in &device.gids {
            writeln!(
                out,
                "  GID {}: {} {} {}",
                gid.index, gid.gid, gid.kind, gid.interface
            )?;
        }
        for (name, value) in device.counters.iter().filter(|(_, value)| *value > 0) {
            writeln!(out, "  {name}: {value}")?;
        }
    }
    writeln!(
        out,
        "{}",
        match diagnosis.rdma_would_be_used {
            true => "clients are offered RDMA",
            false => "clients are not offered RDMA",
        }
    )
}

fn write_interface(found: &InterfaceDiagnosis, out: &mut String) -> fmt::Result {
    let interface = &found.interface;
    let device = found.device.as_deref().unwrap_or("no device");
    let verdict = match found.offered {
        true => "RDMA is offered",
        false => "no RDMA",
    };
    let addresses: Vec<String> = interface
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    writeln!(
        out,
        "{}: {verdict} ({device}, MTU {}, {})",
        interface.name,
        interface.mtu,
        match addresses.is_empty() {
            true => "no address".into(),
            false => addresses.join(", "),
        }
    )?;
    if let Some(pfc) = interface.pfc.as_ref().filter(|pfc| !pfc.is_empty()) {
        writeln!(out, "  PFC on priorities {pfc:?}")?;
    }
    for told in &found.told {
        writeln!(
            out,
            "  clients are told: {}, {} bit/s{}{}",
            told.address,
            told.speed,
            if told.rdma { ", RDMA" } else { "" },
            if told.rss { ", RSS" } else { "" }
        )?;
    }
    let mut findings = found.findings.iter();
    findings.try_for_each(|finding| write_finding(finding, "  ", out))
}

fn write_finding(finding: &Finding, indent: &str, out: &mut String) -> fmt::Result {
    let word = if finding.prevents { "no" } else { "note" };
    writeln!(out, "{indent}{word}: {}", finding.text)?;
    writeln!(out, "{indent}  do: {}", finding.remedy)
}
