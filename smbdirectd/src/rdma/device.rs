//! A device and a protection domain on it. The context belongs to librdmacm, which keeps it as
//! long as an identifier is bound to the device, and longer: each [`Device`] keeps one for that, and
//! closes a removed device's descriptors itself.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int};
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::rc::Rc;

use rdma_sys::{
    ___ibv_query_port, ibv_ack_async_event, ibv_alloc_pd, ibv_async_event, ibv_context,
    ibv_dealloc_pd, ibv_get_async_event, ibv_pd, ibv_query_device, ibv_transport_type,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::ioctl_fionbio;
use shm::SystemError;

use super::event_channel::EventChannel;
use super::identifier::Identifier;
use super::{last_error, verbs_result};

/// What carries the RDMA protocol; MS-SMBD listens on another port for iWARP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// InfiniBand or RoCE.
    InfiniBand,
    /// iWARP: RDMA READ sinks need remote write access.
    Iwarp,
}

/// What a device can do, as far as SMB Direct asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Work requests one queue holds.
    pub max_work_requests: u32,
    /// Completions one completion queue holds.
    pub max_completions: u32,
    /// Scatter elements of one work request.
    pub max_sge: u32,
    /// RDMA READs we may have outstanding.
    pub max_initiator_depth: u8,
    /// RDMA READs of the peer's we serve at a time.
    pub max_responder_resources: u8,
    /// SEND_WITH_INV works.
    pub send_with_invalidate: bool,
    /// Longest message of a port, in bytes.
    pub max_message: u32,
    /// Active speed of the port, bit/s.
    pub speed: u64,
}

/// A device's port as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Port {
    /// It carries traffic.
    pub active: bool,
    /// Bit/s; 0 if unknown.
    pub speed: u64,
    /// Bytes of a packet's payload; 0 if unknown.
    pub mtu: u32,
}

/// Tells one device in use from all others, whatever their names are: names change, and one that
/// is free again may be another device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceKey(usize);

impl DeviceKey {
    /// Of the device a connection's identifier came in on, or was resolved to.
    pub fn of(identifier: &Identifier) -> Option<DeviceKey> {
        // SAFETY: the identifier is live; the context is not looked into.
        let context = unsafe { (*identifier.raw()).verbs };
        NonNull::new(context).map(|context| DeviceKey(context.as_ptr() as usize))
    }
}

/// An RDMA device in use.
#[derive(Debug)]
pub struct Device {
    /// Keeps librdmacm's context of the device.
    anchor: Identifier,
    context: NonNull<ibv_context>,
    /// Its node under /dev/infiniband: it goes with the device and never changes.
    node: String,
    name: RefCell<Rc<str>>,
    transport: Transport,
    /// It is being removed, and nobody will use it again once this goes.
    abandoned: Cell<bool>,
}

/// Memory regions and queue pairs of one domain may be used together, others never.
#[derive(Debug)]
pub struct ProtectionDomain {
    raw: NonNull<ibv_pd>,
    number: u64,
    device: Rc<Device>,
}

thread_local! {
    static NEXT_DOMAIN: Cell<u64> = const { Cell::new(1) };
}

impl Device {
    /// The device `address` belongs to; ENODEV where it belongs to none.
    pub fn of_address(
        channel: &Rc<EventChannel>,
        address: std::net::IpAddr,
        scope: u32,
    ) -> Result<Rc<Device>, SystemError> {
        let mut any_port = SocketAddr::new(address, 0);
        if let SocketAddr::V6(v6) = &mut any_port {
            v6.set_scope_id(scope);
        }
        let anchor = Identifier::new(channel)?;
        anchor.bind(any_port)?;
        // SAFETY: the identifier is live; binding set `verbs` to the device's context or left null.
        let context = unsafe { (*anchor.raw()).verbs };
        let context = NonNull::new(context).ok_or_else(|| SystemError {
            operation: "find the device of an address",
            source: std::io::Error::from_raw_os_error(libc::ENODEV),
        })?;
        Ok(Rc::new(Device::with_anchor(anchor, context)?))
    }

    fn with_anchor(
        anchor: Identifier,
        context: NonNull<ibv_context>,
    ) -> Result<Device, SystemError> {
        // SAFETY: the context is live as long as the anchor; its device's fields are plain values.
        let (name, node, transport, async_fd) = unsafe {
            let device = (*context.as_ptr()).device;
            (
                text(&(*device).name),
                text(&(*device).dev_name),
                (*device).transport_type,
                BorrowedFd::borrow_raw((*context.as_ptr()).async_fd),
            )
        };
        let transport = match transport {
            ibv_transport_type::IBV_TRANSPORT_IWARP => Transport::Iwarp,
            _ => Transport::InfiniBand,
        };
        ioctl_fionbio(async_fd, true)
            .map_err(SystemError::of("make a device's events non-blocking"))?;
        let device = Device {
            anchor,
            context,
            node,
            name: RefCell::new(name.as_str().into()),
            transport,
            abandoned: Cell::new(false),
        };
        device.refresh_name();
        Ok(device)
    }

    /// As `rdma link` and `ibv_devices` show it, as far as [`Device::refresh_name`] was told.
    pub fn name(&self) -> Rc<str> {
        self.name.borrow().clone()
    }

    /// Looks at what it is called now; the name before, if that was another.
    pub fn refresh_name(&self) -> Option<Rc<str>> {
        let path = format!("/sys/class/infiniband_verbs/{}/ibdev", self.node);
        let text = std::fs::read_to_string(path).ok()?;
        let now = text.trim();
        if now.is_empty() || now == &**self.name.borrow() {
            return None;
        }
        Some(self.name.replace(now.into()))
    }

    /// Soft-RoCE's network interface: it takes packets that arrive there, or on a VLAN of it, whatever
    /// addresses the kernel counts as the device's. None for any other device.
    pub fn soft_interface(&self) -> Option<String> {
        let path = format!("/sys/class/infiniband/{}/parent", self.name());
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned())
    }

    /// False once it is being removed: what is open of it must be let go then, for some drivers'
    /// removal waits for that, and tells nobody (siw).
    pub fn is_present(&self) -> bool {
        std::path::Path::new("/sys/class/infiniband_verbs")
            .join(&self.node)
            .exists()
    }

    /// It is being removed: when the last reference to this goes, and with it whatever there is of
    /// the device, its descriptors are closed. Of all that were made of its addresses, this must be
    /// the only one in use.
    pub fn abandon(&self) {
        self.abandoned.set(true);
    }

    /// Its identity as long as it is in use.
    pub fn key(&self) -> DeviceKey {
        DeviceKey(self.context.as_ptr() as usize)
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) fn context(&self) -> *mut ibv_context {
        self.context.as_ptr()
    }

    /// Asks the device and the port its address belongs to.
    pub fn limits(&self) -> Result<DeviceLimits, SystemError> {
        // SAFETY: the structure is a plain C value for which zeroes are valid, and the call fills
        // it for the live context.
        let device = unsafe {
            let mut device = mem::zeroed::<rdma_sys::ibv_device_attr>();
            verbs_result(
                "query a device",
                ibv_query_device(self.context(), &mut device),
            )?;
            device
        };
        let port = self.port_attributes()?;
        const MEM_MGT_EXTENSIONS: u32 = 1 << 21;
        Ok(DeviceLimits {
            max_work_requests: at_least_one(device.max_qp_wr),
            max_completions: at_least_one(device.max_cqe),
            max_sge: at_least_one(device.max_sge),
            max_initiator_depth: device.max_qp_init_rd_atom.clamp(1, 255) as u8,
            max_responder_resources: device.max_qp_rd_atom.clamp(1, 255) as u8,
            send_with_invalidate: device.device_cap_flags & MEM_MGT_EXTENSIONS != 0,
            max_message: port.max_msg_sz.max(4096),
            speed: link_speed(port.active_speed, port.active_width),
        })
    }

    /// The port its address belongs to.
    pub fn port(&self) -> Result<Port, SystemError> {
        /// IBV_PORT_ACTIVE; read as a number, as rdma-sys makes it a Rust enum.
        const ACTIVE: u32 = 4;
        let port = self.port_attributes()?;
        // SAFETY: both fields are initialized C enums, four bytes wide.
        let (state, mtu) = unsafe {
            (
                (&raw const port.state).cast::<u32>().read(),
                (&raw const port.active_mtu).cast::<u32>().read(),
            )
        };
        Ok(Port {
            active: state == ACTIVE,
            speed: link_speed(port.active_speed, port.active_width),
            // IBV_MTU_256 is 1, IBV_MTU_4096 is 5.
            mtu: if (1..=5).contains(&mtu) {
                128 << mtu
            } else {
                0
            },
        })
    }

    fn port_attributes(&self) -> Result<rdma_sys::ibv_port_attr, SystemError> {
        // SAFETY: zeroes are valid in this plain C structure, which the call fills for the live
        // context; `port_num` was set by binding.
        unsafe {
            let mut port = mem::zeroed::<rdma_sys::ibv_port_attr>();
            let number = (*self.anchor.raw()).port_num.max(1);
            verbs_result(
                "query a port",
                ___ibv_query_port(self.context(), number, &mut port),
            )?;
            Ok(port)
        }
    }

    /// The next asynchronous event's number (`enum ibv_event_type`), acknowledged; `None` when
    /// there is none now.
    pub fn next_event(&self) -> Option<u32> {
        let mut event = MaybeUninit::<ibv_async_event>::zeroed();
        // SAFETY: the context is live and the event's memory is ours. The kind is read as a plain
        // integer: rdma-sys makes it a Rust enum, for which an unknown value would be undefined.
        unsafe {
            if ibv_get_async_event(self.context(), event.as_mut_ptr()) != 0 {
                return None;
            }
            let kind = (&raw const (*event.as_ptr()).event_type)
                .cast::<u32>()
                .read();
            ibv_ack_async_event(event.as_mut_ptr());
            Some(kind)
        }
    }

    /// Readable when [`Device::next_event`] has something.
    pub fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the context, which lives as long as this device.
        unsafe { BorrowedFd::borrow_raw((*self.context()).async_fd) }
    }
}

impl ProtectionDomain {
    /// A new domain.
    pub fn new(device: &Rc<Device>) -> Result<Rc<ProtectionDomain>, SystemError> {
        // SAFETY: the context lives as long as the device kept below.
        let raw = unsafe { ibv_alloc_pd(device.context()) };
        let raw = NonNull::new(raw).ok_or_else(|| last_error("allocate a protection domain"))?;
        Ok(Rc::new(ProtectionDomain {
            raw,
            number: NEXT_DOMAIN.replace(NEXT_DOMAIN.get() + 1),
            device: device.clone(),
        }))
    }

    pub(super) fn raw(&self) -> *mut ibv_pd {
        self.raw.as_ptr()
    }

    /// Never used for another domain of this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The device it is on.
    pub fn device(&self) -> &Rc<Device> {
        &self.device
    }
}

impl Drop for Device {
    /// librdmacm keeps the context of a device that is gone, open, until another device comes, and a
    /// driver that cannot take its device back from those who have it open (siw) waits for them. So
    /// something inert takes the place of both descriptors; librdmacm may close that at its leisure.
    fn drop(&mut self) {
        if !self.abandoned.get() {
            return;
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let Ok(inert) = rustix::fs::open(c"/dev/null", flags, Mode::empty()) else {
            return;
        };
        // SAFETY: the anchor, which drops after this, keeps the context live, and so its descriptors
        // are the ones it was opened with. Domains, and through them queue pairs and registrations,
        // keep the device: none is left. dup3 closes what it replaces, in one step.
        unsafe {
            for descriptor in [(*self.context()).async_fd, (*self.context()).cmd_fd] {
                libc::dup3(inert.as_raw_fd(), descriptor, libc::O_CLOEXEC);
            }
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events()
    }
}

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: regions and queue pairs hold a reference to their domain, so none is left.
        unsafe { ibv_dealloc_pd(self.raw()) };
    }
}

/// A C string in a fixed field.
fn text(field: &[c_char]) -> String {
    let bytes = field.iter().map(|byte| byte.cast_unsigned());
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn at_least_one(value: c_int) -> u32 {
    value.max(1) as u32
}

/// Bit/s from the encodings of InfiniBand's PortInfo: lanes by width, speed per lane.
fn link_speed(speed: u8, width: u8) -> u64 {
    let lanes = match width {
        1 => 1,
        2 => 4,
        4 => 8,
        8 => 12,
        16 => 2,
        _ => 0,
    };
    let lane = match speed {
        1 => 2_500_000_000,
        2 => 5_000_000_000,
        4 | 8 => 10_000_000_000,
        16 => 14_000_000_000,
        32 => 25_000_000_000,
        64 => 50_000_000_000,
        128 => 100_000_000_000,
        _ => 0,
    };
    lanes * lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_lanes_and_rate() {
        assert_eq!(link_speed(32, 2), 100_000_000_000);
        assert_eq!(link_speed(4, 1), 10_000_000_000);
        assert_eq!(link_speed(0, 2), 0, "unknown is 0, never a guess");
    }
}
