//! The settings the supervisor sends, as the limits each part works with. Every count is computed
//! here, in one place, one line per holder.

use std::time::Duration;

use proto::control::gateway::GatewaySettings;
use proto::smbdirect::Parameters;

use crate::rdma::DeviceLimits;

/// SENDs of one connection outstanding: enough for two round trips of a fast link.
const OUTSTANDING_SENDS: u16 = 64;
/// RDMA WRITEs and READs of one connection outstanding.
const OUTSTANDING_RDMA: u32 = 256;
/// RDMA READs towards one client outstanding, if its device and ours serve as many.
const OUTSTANDING_READS: u8 = 32;
/// How long a connection may live until its first message: 5 s for SMB Direct's own negotiation
/// (MS-SMBD 3.1.2.1), and as long for the NEGOTIATE after it as a client over TCP has. A client that
/// never sends one connects anew only once it is let go.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How long it may live from there without a child that asks for RDMA rights.
const UNATTACHED: Duration = Duration::from_secs(45);
/// Credits of a client nobody has authenticated.
const UNATTACHED_CREDITS: u16 = 10;
/// Reassembly memory of all unattached connections, in bytes.
const UNATTACHED_POOL: u64 = 16 << 20;
/// RDMA READ sinks of an iWARP connection, in bytes.
const SINKS: u64 = crate::gateway::SINK_MEMORY;
/// Queues a driver pins for one connection, at most, in bytes.
const QUEUE_MEMORY: u64 = 512 << 10;

/// What to do where the kernel refuses to lock memory.
pub const MEMORY_LOCK_ADVICE: &str = "the limit of locked memory is too small: start smbd as root, \
     give its service LimitMEMLOCK=infinity, or lower rdma memory budget or rdma max connections";

/// Limits of one run.
#[derive(Debug, Clone)]
pub struct Limits {
    settings: GatewaySettings,
    /// READs to have outstanding towards a client at most.
    pub max_reads: u8,
    /// How long a connection may wait for its first message.
    pub first_message: Duration,
    /// How long it may then wait for its child's `attach`.
    pub unattached: Duration,
    /// The settings are lowered to what memory may be locked.
    short_of_memory: bool,
}

impl Limits {
    /// From the supervisor's settings.
    pub fn new(settings: GatewaySettings) -> Limits {
        Limits {
            settings,
            max_reads: OUTSTANDING_READS,
            first_message: FIRST_MESSAGE,
            unattached: UNATTACHED,
            short_of_memory: false,
        }
    }

    /// Lowers what was set to what a process does that may lock so many bytes, and says so: up to half
    /// of them are payload memory, in whole parts, and as many connections are accepted as the rest is
    /// enough for. Where no part fits nobody is: a client that can move no payload is better off over TCP.
    pub fn fit(&mut self, locked: u64) -> Option<String> {
        let wanted = self.pinned_limit();
        if locked >= wanted {
            return None;
        }
        self.short_of_memory = true;
        let connection = self.connection_memory();
        let settings = &mut self.settings;
        let part = u64::from(crate::memory::PART_SIZE);
        settings.memory_budget = settings.memory_budget.min(locked / 2) / part * part;
        let connections = match settings.memory_budget {
            0 => 0,
            budget => (locked - budget) / connection,
        };
        settings.max_connections = u32::try_from(connections)
            .unwrap_or(u32::MAX)
            .min(settings.max_connections);
        let served = match settings.max_connections {
            0 => "no RDMA connection is accepted".to_owned(),
            count => format!(
                "{count} RDMA connections are accepted at most, with {} MiB for RDMA payload",
                settings.memory_budget >> 20
            ),
        };
        let have = locked >> 10;
        let wanted = wanted >> 10;
        Some(format!(
            "{served}, as {have} KiB may be locked and {wanted} are wanted: {MEMORY_LOCK_ADVICE}"
        ))
    }

    /// What to do where the budget of payload memory is used up.
    pub fn budget_advice(&self) -> &'static str {
        match self.short_of_memory {
            true => MEMORY_LOCK_ADVICE,
            false => "raise rdma memory budget, or serve fewer clients",
        }
    }

    /// What to do where as many connections are open as are allowed.
    pub fn connections_advice(&self) -> &'static str {
        match self.short_of_memory {
            true => MEMORY_LOCK_ADVICE,
            false => "raise rdma max connections if these are wanted",
        }
    }

    /// The settings they come from.
    pub fn settings(&self) -> &GatewaySettings {
        &self.settings
    }

    /// What a connection offers, on a device that can do so much.
    pub fn parameters(&self, device: &DeviceLimits) -> Parameters {
        let server = Parameters::server();
        let room = queue_room(device).min(u32::from(u16::MAX)) as u16;
        Parameters {
            receive_credit_max: self
                .settings
                .receive_credits
                .min(room.saturating_sub(1))
                .max(1),
            max_receive_size: self.settings.max_receive_size,
            max_fragmented_receive_size: self.settings.max_fragmented_receive_size,
            max_read_write_size: self.settings.max_read_write.min(crate::memory::PART_SIZE),
            max_outstanding_sends: OUTSTANDING_SENDS.min(room / 4).max(1),
            keepalive_interval: Duration::from_secs(self.settings.keepalive_interval_s.into()),
            ..server
        }
    }

    /// RDMA WRITEs and READs a connection's send queue has room for.
    pub fn rdma_depth(&self, device: &DeviceLimits) -> u32 {
        OUTSTANDING_RDMA.min(queue_room(device) / 2).max(1)
    }

    /// A sentence for each limit that such a device lowers, or thing it can't do.
    pub fn lowered(&self, device: &DeviceLimits) -> Vec<String> {
        let parameters = self.parameters(device);
        let room = queue_room(device);
        let mut lowered = Vec::new();
        let mut note = |what: &str, wanted: u32, left: u32| {
            if left < wanted {
                lowered.push(format!(
                    "{what}: {left} instead of {wanted}, as a queue of the device holds {room}"
                ));
            }
        };
        let credits = u32::from(self.settings.receive_credits);
        let sends = u32::from(parameters.max_outstanding_sends);
        note(
            "rdma receive credits",
            credits,
            u32::from(parameters.receive_credit_max),
        );
        note("SENDs at a time", u32::from(OUTSTANDING_SENDS), sends);
        note(
            "RDMA READs and WRITEs at a time",
            OUTSTANDING_RDMA,
            self.rdma_depth(device),
        );
        if device.max_initiator_depth < self.max_reads {
            lowered.push(format!(
                "RDMA READs towards a client at a time: {} instead of {}, the most the device does",
                device.max_initiator_depth, self.max_reads
            ));
        }
        if !device.send_with_invalidate {
            lowered.push(
                "clients invalidate their memory themselves: the device has no SEND with \
                 invalidate"
                    .into(),
            );
        }
        lowered
    }

    /// Credits before a child attaches.
    pub fn unattached_credits(&self) -> u16 {
        UNATTACHED_CREDITS.min(self.settings.receive_credits).max(1)
    }

    /// Bytes of reassembly memory for unattached connections.
    pub fn pool(&self) -> u64 {
        UNATTACHED_POOL
    }

    /// Bytes this process may pin: the regions' budget, and for each connection its buffers.
    pub fn pinned_limit(&self) -> u64 {
        let connections = u64::from(self.settings.max_connections);
        self.settings
            .memory_budget
            .saturating_add(self.connection_memory().saturating_mul(connections))
    }

    /// Bytes a connection pins beside its payload.
    fn connection_memory(&self) -> u64 {
        let credits = u64::from(self.settings.receive_credits) + 1;
        let receive = credits * u64::from(self.settings.max_receive_size.max(512));
        let send = u64::from(OUTSTANDING_SENDS) * 1408;
        (receive + send + SINKS + QUEUE_MEMORY).next_multiple_of(4096)
    }
}

/// Entries of a queue pair's queue, as each must fit its completion queue too.
fn queue_room(device: &DeviceLimits) -> u32 {
    device.max_work_requests.min(device.max_completions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> GatewaySettings {
        GatewaySettings {
            uid: 0,
            gid: 0,
            devices: Vec::new(),
            port_override: None,
            memory_budget: 1 << 30,
            client_memory: 1 << 28,
            max_connections: 100,
            receive_credits: 255,
            max_read_write: 8 << 20,
            max_receive_size: 1364,
            max_fragmented_receive_size: 1 << 20,
            keepalive_interval_s: 120,
        }
    }

    fn device(max_work_requests: u32) -> DeviceLimits {
        DeviceLimits {
            max_work_requests,
            max_completions: 1 << 16,
            max_sge: 16,
            max_initiator_depth: 16,
            max_responder_resources: 16,
            send_with_invalidate: true,
            max_message: 1 << 30,
            speed: 0,
        }
    }

    #[test]
    fn what_a_connection_offers_is_valid_on_a_small_device_too() {
        let limits = Limits::new(settings());
        for work_requests in [16, 128, 16384, u32::MAX] {
            let device = device(work_requests);
            let parameters = limits.parameters(&device);
            parameters.validate().unwrap();
            let sends = u32::from(parameters.max_outstanding_sends) + limits.rdma_depth(&device);
            assert!(sends < work_requests, "{sends} of {work_requests}");
            assert!(u32::from(parameters.receive_queue_depth()) <= work_requests);
        }
    }

    #[test]
    fn completion_queues_bound_a_connection_too() {
        let limits = Limits::new(settings());
        let device = DeviceLimits {
            max_completions: 64,
            ..device(16384)
        };
        let parameters = limits.parameters(&device);
        assert_eq!(parameters.receive_queue_depth(), 64);
        let sends = u32::from(parameters.max_outstanding_sends) + limits.rdma_depth(&device);
        assert!(sends < 64, "{sends}");
    }

    #[test]
    fn what_a_device_lowers_is_said() {
        let limits = Limits::new(settings());
        let large = DeviceLimits {
            max_initiator_depth: 128,
            ..device(16384)
        };
        assert_eq!(limits.lowered(&large), [""; 0]);
        let small = limits.lowered(&DeviceLimits {
            send_with_invalidate: false,
            ..device(128)
        });
        let expected = [
            "rdma receive credits: 127 instead of 255, as a queue of the device holds 128",
            "SENDs at a time: 32 instead of 64",
            "RDMA READs and WRITEs at a time: 64 instead of 256",
            "RDMA READs towards a client at a time: 16 instead of 32",
            "no SEND with invalidate",
        ];
        assert_eq!(small.len(), expected.len(), "{small:?}");
        for (said, expected) in small.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn what_may_be_locked_is_shared_between_payload_and_connections() {
        let limits = Limits::new(settings());
        let enough = limits.pinned_limit();
        assert_eq!(limits.clone().fit(enough), None);
        // Locked MiB, payload MiB, connections.
        for (locked, payload, connections) in [(0, 0, 0), (8, 0, 0), (16, 8, 5), (64, 32, 22)] {
            let mut limits = limits.clone();
            let said = limits.fit(locked << 20).expect("it is too little");
            let settings = limits.settings();
            assert_eq!(settings.memory_budget, payload << 20, "{locked}: {said}");
            assert_eq!(settings.max_connections, connections, "{locked}: {said}");
            assert!(limits.pinned_limit() <= locked << 20, "{locked}");
            assert!(said.contains("LimitMEMLOCK=infinity"), "{said}");
            assert_eq!(limits.budget_advice(), MEMORY_LOCK_ADVICE);
            assert_eq!(limits.connections_advice(), MEMORY_LOCK_ADVICE);
        }
    }

    #[test]
    fn the_lock_limit_covers_the_budget_and_every_connection() {
        let limits = Limits::new(settings());
        let reserve = limits.pinned_limit() - (1 << 30);
        assert!(reserve >= 100 * (256 * 1364 + 64 * 1364));
    }
}
