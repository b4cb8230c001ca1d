//! `smbdirectd doctor`: whether clients are offered RDMA, interface by interface, and what to do where
//! they are not. `collection` learns the facts (sysfs, addresses, packet filter, limits, the running
//! server), `decision` decides without any I/O, `text` says it. Changes nothing.

mod collection;
mod decision;
mod facts;
mod filter;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use proto::control::gateway::DeviceStatus;
use serde::Serialize;

pub use decision::{Diagnosis, Finding, InterfaceDiagnosis, Reason, diagnose};
pub use facts::Facts;
use facts::RdmaDevice;

/// A diagnosis, and what it was made of as far as it is worth showing.
#[derive(Debug, Serialize)]
pub struct Examination {
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    devices: Vec<RdmaDevice>,
    /// As smbdirectd has them in use.
    in_use: Vec<DeviceStatus>,
}

/// Looks at this machine, and at the server of this configuration.
pub fn examine(config: Option<&Path>) -> Result<Examination, Box<dyn std::error::Error>> {
    let facts = collection::collect(config)?;
    let gateway = facts
        .server
        .as_ref()
        .ok()
        .and_then(|report| report.gateway.as_ref());
    Ok(Examination {
        diagnosis: diagnose(&facts),
        in_use: gateway.map_or_else(Vec::new, |gateway| gateway.devices.clone()),
        devices: facts.devices,
    })
}

impl Examination {
    /// One object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For a person.
    pub fn text(&self) -> String {
        text::text(self)
    }
}
