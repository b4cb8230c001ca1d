//! What happened on one connection so far, for status output and tests.

/// Totals since the connection began. A "message" is an upper-layer one, a "fragment" one
/// Data Transfer message with payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub messages_sent: u64,
    pub messages_received: u64,
    pub fragments_sent: u64,
    pub fragments_received: u64,
    /// Data Transfer messages without payload.
    pub empty_sent: u64,
    pub empty_received: u64,
    /// Payload bytes.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub credits_granted: u64,
    pub credits_received: u64,
    /// Signs of life this side asked for, and was asked for.
    pub keepalives_sent: u64,
    pub keepalives_received: u64,
    /// Grants beyond what the peer asked for, so that the last send credit could be spent.
    pub last_credit_grants: u64,
}
