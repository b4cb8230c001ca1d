//! Where a fabric is, which devices a program has on it, and what in it happens late on purpose.
//! One per thread, set by [`Fabric::enter`]; otherwise from the environment, for a program of its
//! own: `SMBDIRECT_FABRIC` names the folder, `SMBDIRECT_FABRIC_DEVICES` lists `name=address,…`, an address with
//! `/iwarp` behind it is of an iWARP device; `SMBDIRECT_FABRIC_HAZARDS` lists what happens late.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use shm::SystemError;

use super::device::{DeviceLimits, Transport};
use super::memory_region::limit_locked;
use super::refused;

/// A fabric as one program sees it.
#[derive(Debug, Clone)]
pub struct Fabric {
    /// Each address listened on is a socket here, named `address:port`.
    pub folder: PathBuf,
    /// This program's devices; an active side uses the first of the right family.
    pub devices: Vec<SimulatedDevice>,
    /// The first message of a connection is handed out before its `Established`, as hardware may.
    pub receive_before_established: bool,
    /// Completions of the send queue come one poll later than those of the receives that follow
    /// from them, as when an answer overtakes an acknowledgement.
    pub late_send_completions: bool,
    /// A queue pair in error gives no request back, as no device should and some do.
    pub keeps_requests: bool,
    /// Bytes the thread may lock, as its limit of locked memory would be.
    pub lockable: u64,
}

/// A device and its address.
#[derive(Debug, Clone)]
pub struct SimulatedDevice {
    /// As `rxe0` would be.
    pub name: String,
    /// Its one address.
    pub address: IpAddr,
    /// What carries it; decides what an RDMA READ's sink must allow.
    pub transport: Transport,
    /// What it can do.
    pub limits: DeviceLimits,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Fabric>>> = const { RefCell::new(None) };
}

impl Fabric {
    /// A fabric in `folder` with one device of this program on it.
    pub fn new(folder: impl Into<PathBuf>, device: &str, address: IpAddr) -> Fabric {
        Fabric {
            folder: folder.into(),
            devices: vec![SimulatedDevice::new(device, address)],
            receive_before_established: false,
            late_send_completions: false,
            keeps_requests: false,
            lockable: u64::MAX,
        }
    }

    /// Makes it the fabric of the calling thread.
    pub fn enter(self) {
        limit_locked(self.lockable);
        CURRENT.with_borrow_mut(|current| *current = Some(Rc::new(self)));
    }

    /// The calling thread's fabric; ENODEV where there is none.
    pub(super) fn current() -> Result<Rc<Fabric>, SystemError> {
        CURRENT.with_borrow_mut(|current| {
            if current.is_none() {
                *current = Fabric::from_environment().map(Rc::new);
            }
            current
                .clone()
                .ok_or_else(|| refused("find the fabric (is SMBDIRECT_FABRIC set?)", libc::ENODEV))
        })
    }

    /// Addresses of this thread's devices.
    pub(crate) fn addresses() -> Vec<IpAddr> {
        Fabric::current().map_or_else(
            |_| Vec::new(),
            |fabric| fabric.devices.iter().map(|device| device.address).collect(),
        )
    }

    fn from_environment() -> Option<Fabric> {
        let folder = std::env::var_os("SMBDIRECT_FABRIC")?;
        let listed = std::env::var("SMBDIRECT_FABRIC_DEVICES");
        let devices = listed.map_or_else(
            |_| {
                vec![SimulatedDevice::new(
                    "simulated0",
                    Ipv4Addr::LOCALHOST.into(),
                )]
            },
            |list| {
                list.split(',')
                    .filter_map(|entry| {
                        let (name, address) = entry.split_once('=')?;
                        let (address, iwarp) = match address.trim().strip_suffix("/iwarp") {
                            Some(address) => (address, true),
                            None => (address.trim(), false),
                        };
                        let mut device = SimulatedDevice::new(name.trim(), address.parse().ok()?);
                        if iwarp {
                            device.transport = Transport::Iwarp;
                        }
                        Some(device)
                    })
                    .collect()
            },
        );
        let hazards = std::env::var("SMBDIRECT_FABRIC_HAZARDS").unwrap_or_default();
        let has = |name| hazards.split(',').any(|hazard| hazard.trim() == name);
        Some(Fabric {
            folder: folder.into(),
            devices,
            receive_before_established: has("receive-before-established"),
            late_send_completions: has("late-send-completions"),
            keeps_requests: has("keeps-requests"),
            lockable: u64::MAX,
        })
    }

    pub(super) fn device_at(&self, address: IpAddr) -> Option<&SimulatedDevice> {
        self.devices.iter().find(|device| device.address == address)
    }

    pub(super) fn socket_of(&self, address: SocketAddr) -> PathBuf {
        self.folder.join(address.to_string())
    }
}

impl SimulatedDevice {
    /// A device that can do what a good adapter can.
    pub fn new(name: &str, address: IpAddr) -> SimulatedDevice {
        SimulatedDevice {
            name: name.to_owned(),
            address,
            transport: Transport::InfiniBand,
            limits: DeviceLimits {
                max_work_requests: 16_384,
                max_completions: 65_536,
                max_sge: 16,
                max_initiator_depth: 16,
                max_responder_resources: 16,
                send_with_invalidate: true,
                max_message: 8 << 20,
                speed: 100_000_000_000,
            },
        }
    }
}
