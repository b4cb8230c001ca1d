//! smbdirectd: when it is wanted, what it is told, what it says.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proto::control::ConnectionKind;
use proto::control::gateway::{FromGateway, GatewaySettings, ToGateway};

use super::Supervisor;
use crate::config::RdmaDevices;
use crate::sys::privilege::Account;

/// Who smbdirectd is when the configuration names no account: a number no distribution gives away.
const GATEWAY_ACCOUNT: u32 = 61_100;
/// MS-SMBD 2.2.1, MaxReceiveSize, as every implementation has it.
const MAX_RECEIVE_SIZE: u32 = 1364;
/// MS-SMBD 2.2.1, MaxFragmentedSize: what Windows has.
const MAX_FRAGMENTED_SIZE: u32 = 1 << 20;

impl Supervisor {
    /// smbdirectd is wanted when the configuration has RDMA and there is a device, or the
    /// configuration names RDMA.
    pub(super) fn want_gateway(&mut self, now: Instant) {
        let transports = &self.config.global.server_smb_transports;
        if self.gateway_program.is_some() || transports.rdma_ports().is_empty() {
            return;
        }
        if !has_rdma_device() {
            if transports.names_rdma() && self.refresh_at.is_none() && self.offered.is_empty() {
                tracing::warn!(
                    "server smb transports has rdma, but this machine has no RDMA device; TCP is \
                     served, and RDMA as soon as a device appears (soft-RoCE: rdma link add rxe0 \
                     type rxe netdev eth0)"
                );
            }
            return;
        }
        match find_gateway() {
            Some(program) => {
                self.gateway_program = Some(program);
                self.gateway.due = Some(now);
            }
            None => tracing::error!(
                "there is no smbdirectd beside smbd or in PATH: no RDMA; install it, or set \
                 server smb transports = tcp"
            ),
        }
    }

    pub(super) fn configure_gateway(&mut self) {
        let account = Account::named(&self.config.global.smbdirectd_user, GATEWAY_ACCOUNT);
        let account = account.unwrap_or_else(|error| {
            tracing::warn!(%error, "running smbdirectd as user {GATEWAY_ACCOUNT}");
            Account {
                uid: GATEWAY_ACCOUNT,
                gid: GATEWAY_ACCOUNT,
            }
        });
        let rdma = &self.config.rdma;
        let settings = GatewaySettings {
            uid: account.uid,
            gid: account.gid,
            devices: match &rdma.devices {
                RdmaDevices::All => Vec::new(),
                RdmaDevices::Named(names) => names.clone(),
            },
            port_override: self
                .config
                .global
                .server_smb_transports
                .rdma_ports()
                .into_iter()
                .flatten()
                .next(),
            memory_budget: rdma.memory_budget,
            client_memory: rdma.memory_per_client,
            max_connections: rdma.max_connections,
            receive_credits: u16::try_from(rdma.receive_credits).unwrap_or(u16::MAX),
            max_read_write: rdma.max_read_write_size,
            max_receive_size: MAX_RECEIVE_SIZE,
            max_fragmented_receive_size: MAX_FRAGMENTED_SIZE,
            keepalive_interval_s: rdma.keepalive_interval,
        };
        if let Some(link) = self.gateway.link() {
            link.send(&ToGateway::Configure(settings));
        }
    }

    pub(super) fn on_gateway(&mut self) {
        let mut messages = Vec::new();
        self.gateway
            .receive(&mut self.datagram, |message, descriptors| {
                messages.push((message, descriptors));
            });
        for (message, mut descriptors) in messages {
            match message {
                FromGateway::Ready => tracing::info!("smbdirectd is ready"),
                FromGateway::Interfaces(interfaces) => {
                    for found in &interfaces {
                        tracing::info!(
                            device = found.device,
                            "listening for SMB Direct on {}",
                            SocketAddr::new(found.address, found.port)
                        );
                    }
                    self.rdma = interfaces;
                    // A device may have come with an address this list does not have yet.
                    if let Err(error) = self.refresh(false) {
                        tracing::warn!(%error, "can't read this machine's addresses");
                    }
                }
                FromGateway::Connection {
                    connection,
                    peer,
                    local,
                    device,
                } => {
                    tracing::debug!(connection = connection.0, %peer, %local, device, "RDMA connection");
                    if let Some(relay) = descriptors.pop() {
                        self.admit(relay, ConnectionKind::Relay, peer);
                    }
                }
                FromGateway::Connections { query, connections } => {
                    self.status.gateway_adds(query, connections);
                }
                FromGateway::Status {
                    query,
                    totals,
                    devices,
                    unheard,
                    ended,
                } => self.status.gateway_answered(query, |report| {
                    if let Some(gateway) = report.gateway.as_mut() {
                        gateway.totals = Some(totals);
                        gateway.devices = devices;
                        gateway.unheard = unheard;
                        gateway.ended = ended;
                    }
                }),
                FromGateway::Problem { text } => tracing::warn!("smbdirectd: {text}"),
            }
        }
    }
}

/// A simulated fabric, which tests name, counts as one.
fn has_rdma_device() -> bool {
    std::env::var_os("SMBDIRECT_FABRIC").is_some()
        || std::fs::read_dir("/sys/class/infiniband")
            .is_ok_and(|mut devices| devices.next().is_some())
}

/// smbdirectd beside this program, else in PATH.
fn find_gateway() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory: PathBuf| directory.join("smbdirectd"))
        .find(|candidate: &PathBuf| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
