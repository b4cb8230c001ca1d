//! `server smb transports`: TCP, RDMA, on which ports.
//!
//! Read by the supervisor for its listeners and by smbdirectd through it.

use std::fmt;

use super::values::{Show, list};

/// The port of SMB over TCP and of SMB Direct on InfiniBand and RoCE.
pub const SMB_PORT: u16 = 445;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Rdma,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportSpec {
    pub transport: Transport,
    /// `None`: 445, but for RDMA on iWARP 5445, where 445 is TCP's.
    pub port: Option<u16>,
}

/// Empty when the configuration says nothing: TCP, and RDMA on whatever device there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transports {
    pub listed: Vec<TransportSpec>,
}

impl Transports {
    /// Ports to listen on for TCP; none when TCP is off.
    pub fn tcp_ports(&self) -> Vec<u16> {
        if self.listed.is_empty() {
            return vec![SMB_PORT];
        }
        self.of(Transport::Tcp)
            .map(|spec| spec.port.unwrap_or(SMB_PORT))
            .collect()
    }

    /// Ports to listen on for RDMA, `None` among them for the device's own; empty when RDMA is off.
    pub fn rdma_ports(&self) -> Vec<Option<u16>> {
        if self.listed.is_empty() {
            return vec![None];
        }
        self.of(Transport::Rdma).map(|spec| spec.port).collect()
    }

    /// Whether the configuration names RDMA: then a machine without a device is worth a warning.
    pub fn names_rdma(&self) -> bool {
        self.of(Transport::Rdma).next().is_some()
    }

    fn of(&self, transport: Transport) -> impl Iterator<Item = &TransportSpec> {
        self.listed
            .iter()
            .filter(move |spec| spec.transport == transport)
    }
}

impl fmt::Display for TransportSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.transport {
            Transport::Tcp => "tcp",
            Transport::Rdma => "rdma",
        })?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Show for Transports {
    fn show(&self) -> String {
        self.listed
            .iter()
            .map(TransportSpec::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

pub(super) fn transports(text: &str) -> Result<Transports, String> {
    let mut listed = Vec::new();
    for item in list(text)? {
        let spec = transport(&item)?;
        if listed.contains(&spec) {
            return Err(format!("{item:?} stands there twice"));
        }
        listed.push(spec);
    }
    Ok(Transports { listed })
}

fn transport(item: &str) -> Result<TransportSpec, String> {
    let wrong = || {
        format!(
            "{item:?}: allowed are tcp and rdma, with a port behind a colon where it is not 445 (tcp:4455)"
        )
    };
    let (name, port) = match item.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        // A bare number is a TCP port, as in Samba's `smb ports`.
        None if item.starts_with(|letter: char| letter.is_ascii_digit()) => ("tcp", Some(item)),
        None => (item, None),
    };
    let transport = match name.to_ascii_lowercase().as_str() {
        "tcp" => Transport::Tcp,
        "rdma" => Transport::Rdma,
        _ => return Err(wrong()),
    };
    let port = match port {
        None => None,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(wrong()),
            Ok(139) => return Err("port 139 is NetBIOS, which is not spoken here; use 445".into()),
            Ok(port) => Some(port),
        },
    };
    Ok(TransportSpec { transport, port })
}
