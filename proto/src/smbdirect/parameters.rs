//! What one side of an SMB Direct connection offers: the variables of [MS-SMBD] 3.1.1.1 that an
//! operator may set, their defaults, and the checks on values read from a configuration.
//! The negotiated results live in the connection, never here.

use std::time::Duration;

use thiserror::Error;

use super::messages::{NEGOTIATE_RECEIVE_SIZE, PAYLOAD_OFFSET};

/// The least MaxReceiveSize a peer may offer, [MS-SMBD] 3.1.5.6.
pub const SMALLEST_RECEIVE_SIZE: u32 = 128;

/// The least MaxFragmentedSize a peer may offer, [MS-SMBD] 3.1.5.6.
pub const SMALLEST_FRAGMENTED_SIZE: u32 = 131_072;

/// One side's limits and timers, before negotiation. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The most credits this side lets its peer hold.
    pub receive_credit_max: u16,
    /// How many credits this side asks for.
    pub send_credit_target: u16,
    /// The longest message this side sends, header included.
    pub max_send_size: u32,
    /// The size of this side's receive buffers, header included.
    pub max_receive_size: u32,
    /// The longest upper-layer message this side reassembles.
    pub max_fragmented_receive_size: u32,
    /// The longest RDMA READ or WRITE this side takes part in.
    pub max_read_write_size: u32,
    /// Silence after which the peer is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long the peer has to give it.
    pub keepalive_reply_timeout: Duration,
    /// How long negotiation may take, from the connection's arrival.
    pub negotiate_timeout: Duration,
    /// How long an upper-layer message may stay incomplete while its sender could go on.
    pub partial_message_timeout: Duration,
    /// Sends posted and not yet completed; the room the send queue keeps for them.
    pub max_outstanding_sends: u16,
}

/// A value the operator set that cannot work. `name` is the field's, as in `Parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name} is {value}: set it to {minimum}..={maximum}{because}")]
pub struct ParameterError {
    pub name: &'static str,
    pub value: u64,
    pub minimum: u64,
    pub maximum: u64,
    because: &'static str,
}

impl Parameters {
    /// Defaults of the passive side. 1,364 bytes is what Windows and Linux clients prefer to send.
    /// Reassembly memory is apart from receive buffers, so 1 MiB may be offered whatever they hold.
    pub const fn server() -> Self {
        Self {
            receive_credit_max: 255,
            send_credit_target: 255,
            max_send_size: 1364,
            max_receive_size: 1364,
            max_fragmented_receive_size: 1 << 20,
            max_read_write_size: 8 << 20,
            keepalive_interval: Duration::from_secs(120),
            keepalive_reply_timeout: Duration::from_secs(5),
            negotiate_timeout: Duration::from_secs(5),
            partial_message_timeout: Duration::from_secs(10),
            max_outstanding_sends: 255,
        }
    }

    /// Defaults of the active side, which gives the server 120 s to answer.
    pub const fn client() -> Self {
        Self {
            negotiate_timeout: Duration::from_secs(120),
            ..Self::server()
        }
    }

    /// Receives the queue pair must have room for: every credit, and one more that lets a side
    /// down to its last send credit speak although its peer already holds all it may.
    pub const fn receive_queue_depth(&self) -> u16 {
        self.receive_credit_max + 1
    }

    /// The size of the buffers posted before negotiation: the negotiate messages must fit.
    pub const fn negotiate_buffer_size(&self) -> u32 {
        if self.max_receive_size < NEGOTIATE_RECEIVE_SIZE {
            NEGOTIATE_RECEIVE_SIZE
        } else {
            self.max_receive_size
        }
    }

    /// Refuses values a connection could not work with.
    pub fn validate(&self) -> Result<(), ParameterError> {
        const CREDITS: (u64, u64) = (1, 8192);
        const SIZE: (u64, u64) = (SMALLEST_RECEIVE_SIZE as u64, 1 << 20);
        const TIME: (u64, u64) = (1, 86_400_000);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);

        check(
            "receive_credit_max",
            self.receive_credit_max.into(),
            CREDITS,
            " credits",
        )?;
        check(
            "send_credit_target",
            self.send_credit_target.into(),
            CREDITS,
            " credits",
        )?;
        check(
            "max_outstanding_sends",
            self.max_outstanding_sends.into(),
            CREDITS,
            " sends",
        )?;
        check(
            "max_send_size",
            self.max_send_size.into(),
            SIZE,
            " bytes ([MS-SMBD] needs at least 128)",
        )?;
        check(
            "max_receive_size",
            self.max_receive_size.into(),
            SIZE,
            " bytes ([MS-SMBD] needs at least 128)",
        )?;
        check(
            "max_fragmented_receive_size",
            self.max_fragmented_receive_size.into(),
            (SMALLEST_FRAGMENTED_SIZE.into(), 16 << 20),
            " bytes ([MS-SMBD] needs at least 131072)",
        )?;
        check(
            "max_read_write_size",
            self.max_read_write_size.into(),
            (65_536, 64 << 20),
            " bytes",
        )?;
        for (name, time) in [
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_reply_timeout", self.keepalive_reply_timeout),
            ("negotiate_timeout", self.negotiate_timeout),
            ("partial_message_timeout", self.partial_message_timeout),
        ] {
            check(name, milliseconds(time), TIME, " milliseconds")?;
        }
        Ok(())
    }
}

fn check(
    name: &'static str,
    value: u64,
    (minimum, maximum): (u64, u64),
    because: &'static str,
) -> Result<(), ParameterError> {
    if (minimum..=maximum).contains(&value) {
        return Ok(());
    }
    Err(ParameterError {
        name,
        value,
        minimum,
        maximum,
        because,
    })
}

/// Payload of one message of `message_size` bytes.
pub(super) const fn payload_capacity(message_size: u32) -> u32 {
    message_size.saturating_sub(PAYLOAD_OFFSET)
}
