//! Credit accounting of [MS-SMBD] 3.1.5.9, both directions.
//! Receive side: buffers *posted*, credits *granted* for them, and the difference, *available* to
//! grant, are counted apart, so that no credit is ever granted for a buffer that is not there.
//! Send side: credits held, and sends posted but not completed; each is a limit of its own.

use super::violation::PeerViolation;

/// A reading of both sides' accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credits {
    /// Receive buffers in the receive queue.
    pub posted: u16,
    /// Credits the peer holds, as far as this side knows.
    pub granted: u16,
    /// Posted buffers no credit was granted for yet.
    pub available: u16,
    /// How many credits the peer should hold.
    pub target: u16,
    /// Credits this side holds.
    pub held: u16,
    /// Sends posted and not completed.
    pub outstanding: u16,
}

#[derive(Debug)]
pub(super) struct ReceiveCredits {
    posted: u16,
    granted: u16,
    /// The peer's CreditsRequested.
    requested: u16,
    /// Own ReceiveCreditMax.
    maximum: u16,
    /// What the driver allows for now, at most `maximum`.
    limit: u16,
    /// The target grew since the last message was sent.
    target_rose: bool,
    /// Data came in since the last message was sent.
    data_received: bool,
}

impl ReceiveCredits {
    pub(super) const fn new(maximum: u16) -> Self {
        Self {
            posted: 0,
            granted: 0,
            requested: 0,
            maximum,
            limit: maximum,
            target_rose: false,
            data_received: false,
        }
    }

    pub(super) const fn posted(&self) -> u16 {
        self.posted
    }

    pub(super) const fn granted(&self) -> u16 {
        self.granted
    }

    /// `granted <= posted` always holds: a grant takes from here, a receive lowers both.
    pub(super) const fn available(&self) -> u16 {
        self.posted.saturating_sub(self.granted)
    }

    /// ReceiveCreditTarget.
    pub(super) fn target(&self) -> u16 {
        self.requested.min(self.limit)
    }

    /// The driver put `count` more buffers into the receive queue.
    pub(super) fn add_posted(&mut self, count: u16) {
        debug_assert!(
            u32::from(self.posted) + u32::from(count) <= u32::from(self.maximum) + 1,
            "more receives posted than the queue holds"
        );
        self.posted = self.posted.saturating_add(count);
    }

    /// A buffer came back holding a negotiate message, which spends no credit.
    pub(super) fn take_uncredited(&mut self) {
        debug_assert!(self.posted > 0, "a receive completed that was not posted");
        self.posted = self.posted.saturating_sub(1);
    }

    /// A buffer came back holding a Data Transfer message.
    pub(super) fn take_credited(&mut self) -> Result<(), PeerViolation> {
        self.take_uncredited();
        let Some(granted) = self.granted.checked_sub(1) else {
            return Err(PeerViolation::NoCreditHeld);
        };
        self.granted = granted;
        Ok(())
    }

    pub(super) fn note_data(&mut self) {
        self.data_received = true;
    }

    /// CreditsRequested is absolute: it replaces the earlier one, [MS-SMBD] 2.2.3.
    pub(super) fn set_requested(&mut self, requested: u16) {
        let before = self.target();
        self.requested = requested;
        self.target_rose |= self.target() > before;
    }

    pub(super) fn set_limit(&mut self, limit: u16) {
        let before = self.target();
        self.limit = limit.clamp(1, self.maximum);
        self.target_rose |= self.target() > before;
    }

    /// Buffers to post so that the target can be granted. With `last_credit` one more than is
    /// granted already, whatever the target: [MS-SMBD] 3.1.5.9 demands a fresh receive when a
    /// message waits behind the last send credit.
    pub(super) fn receives_to_post(&self, last_credit: bool) -> u16 {
        let mut wanted = self.target();
        if last_credit {
            let one_more = self.granted.saturating_add(1);
            wanted = wanted.max(one_more.min(self.maximum.saturating_add(1)));
        }
        wanted.saturating_sub(self.posted)
    }

    /// What the next message may grant.
    pub(super) fn grantable(&self, last_credit: bool) -> u16 {
        let missing = self.target().saturating_sub(self.granted);
        let grant = missing.min(self.available());
        if grant == 0 && last_credit {
            return self.available().min(1);
        }
        grant
    }

    /// Whether a message without payload should be sent for its grant alone.
    ///
    /// The peer may be starving when it holds none, or no more than a quarter of what it asked
    /// for. Exactly one missing buffer is no reason unless the peer lives on a single credit: the
    /// empty message would cost the peer a buffer, and two sides would answer each other for ever.
    /// The peer that is down to one credit and spent the others on data is the exception: it may
    /// need a grant to pass on before it can use that one, and answers no empty message itself.
    pub(super) fn grant_is_urgent(&self) -> bool {
        if self.grantable(false) == 0 {
            return false;
        }
        let target = self.target();
        let one_missing = target - self.granted == 1 && target != 1;
        (self.data_received && self.granted == 1)
            || ((self.granted <= target / 4 || self.target_rose) && !one_missing)
    }

    /// A message leaves that grants `count` credits.
    pub(super) fn grant(&mut self, count: u16) {
        debug_assert!(count <= self.available(), "granted more than is posted");
        self.granted = self.granted.saturating_add(count);
        self.target_rose &= count == 0;
        self.data_received = false;
    }
}

#[derive(Debug)]
pub(super) struct SendCredits {
    held: u16,
    outstanding: u16,
    max_outstanding: u16,
}

impl SendCredits {
    pub(super) const fn new(max_outstanding: u16) -> Self {
        Self {
            held: 0,
            outstanding: 0,
            max_outstanding,
        }
    }

    pub(super) const fn held(&self) -> u16 {
        self.held
    }

    pub(super) const fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// CreditsGranted is an increment, [MS-SMBD] 2.2.3.
    pub(super) fn add(&mut self, received: u16) -> Result<(), PeerViolation> {
        let held = self.held;
        self.held = held
            .checked_add(received)
            .ok_or(PeerViolation::TooManyCreditsGranted { received, held })?;
        Ok(())
    }

    /// Room in the local send queue, which is no matter of credits: the peer may have granted
    /// anew what the device has not reported sent.
    pub(super) const fn has_room(&self) -> bool {
        self.outstanding < self.max_outstanding
    }

    /// A negotiate message leaves: it spends no credit.
    pub(super) fn spend_room(&mut self) {
        self.outstanding = self.outstanding.saturating_add(1);
    }

    pub(super) fn spend(&mut self) {
        self.held = self.held.saturating_sub(1);
        self.spend_room();
    }

    pub(super) fn complete(&mut self, sends: u16) {
        debug_assert!(
            sends <= self.outstanding,
            "more sends completed than posted"
        );
        self.outstanding = self.outstanding.saturating_sub(sends);
    }
}
