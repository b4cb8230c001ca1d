//! Payloads that are fetched before their requests are read: what this child lends smbdirectd for
//! them, and what has arrived and waits for its request to ask for it.
//!
//! Bytes that move so have moved before anybody has judged the request. So nothing is expected but
//! what is like a request that was accepted, in the same session and tree connect
//! (`handlers::outline`): no other payload moves unasked. Where memory runs short, all is recalled.

use std::collections::HashMap;

use futures::channel::oneshot;
use proto::relay::{OperationId, Outline, ToGateway};
use proto::smb2::NtStatus;
use shm::link::Link;

use super::super::{ChannelError, Payload};
use super::state::{Attach, Operation, State, violation};

/// Bytes of a payload that is fetched ahead at most, and of each extent lent.
pub(super) const MAX_AHEAD: u32 = 64 * 1024;
/// Extents lent at once. A client that waits for each answer uses one; with many requests under way
/// those that find none go the longer way, which costs little beside others.
const LOANS: usize = 4;

/// One channel's loans.
#[derive(Default)]
pub(super) struct Loans {
    /// What smbdirectd was told to expect.
    expected: Option<Outline>,
    /// What the newest request was like that was not expected.
    candidate: Option<Outline>,
    /// Extents that are lent and not used.
    lent: usize,
    /// The next message's payload.
    announced: Option<Early>,
    /// By message.
    early: HashMap<u64, Early>,
}

/// A payload on its way, or here.
pub(super) struct Early {
    pub(super) length: u32,
    pub(super) done: oneshot::Receiver<Result<Payload, NtStatus>>,
}

impl Loans {
    /// This message was taken: what was announced is its payload.
    pub(super) fn assign(&mut self, message: u64) {
        if let Some(early) = self.announced.take() {
            self.early.insert(message, early);
        }
    }

    /// What was fetched for a message that asks for so much.
    pub(super) fn claim(&mut self, message: u64, length: u32) -> Option<Early> {
        let early = self.early.remove(&message)?;
        (early.length == length).then_some(early)
    }

    /// Whether a message's payload is still being fetched that nobody has asked for. Its answer has to
    /// wait: with it the client takes its memory back. What is there already is dropped.
    pub(super) fn is_on_its_way(&mut self, message: u64) -> bool {
        let Some(early) = self.early.get_mut(&message) else {
            return false;
        };
        if let Ok(None) = early.done.try_recv() {
            return true;
        }
        self.early.remove(&message);
        false
    }
}

impl State {
    /// A request was accepted whose payload is to be fetched. What is like it is expected from now
    /// on, if the one before it was as well.
    pub(super) fn expect(&mut self, message: u64, outline: &dyn Fn() -> Option<Outline>) {
        if !matches!(self.attach, Attach::Mapped { .. }) || self.loans.early.contains_key(&message)
        {
            return;
        }
        let Some(outline) = outline() else { return };
        if self.loans.expected.as_ref() == Some(&outline) {
            return;
        }
        if self.loans.candidate.as_ref() != Some(&outline) {
            self.loans.candidate = Some(outline);
            return;
        }
        self.loans.candidate = None;
        self.loans.expected = Some(outline.clone());
        let record = ToGateway::Expect { outline };
        self.link.queue(&mut |out| record.encode(out));
    }

    /// Lends what is to be lent, beside whatever else smbdirectd is told.
    pub(super) fn lend(&mut self) {
        let Attach::Mapped { area, .. } = &self.attach else {
            return;
        };
        if self.loans.expected.is_none() || self.closing || self.end.is_some() {
            return;
        }
        if area.is_short() {
            self.recall();
            return;
        }
        if self.link.waiting() == 0 {
            return;
        }
        let area = std::rc::Rc::clone(area);
        while self.loans.lent < LOANS && self.has_room_to_lend() {
            let Some(payload) = Payload::take(&area, MAX_AHEAD) else {
                return;
            };
            let operation = self.next_operation(0);
            let target = payload.range(MAX_AHEAD);
            let record = ToGateway::Lend { operation, target };
            self.link.queue(&mut |out| record.encode(out));
            self.operations
                .insert(operation, Operation::Lent { payload });
            self.loans.lent += 1;
        }
    }

    /// Asks for everything back that is lent; true if something is.
    pub(super) fn recall(&mut self) -> bool {
        self.loans.candidate = None;
        if self.loans.expected.take().is_some() {
            self.link.queue(&mut |out| ToGateway::Recall.encode(out));
        }
        self.loans.lent > 0
    }

    /// `ahead`: something lent is being used for the next message.
    pub(super) fn ahead(
        &mut self,
        operation: OperationId,
        length: u32,
    ) -> Result<(), ChannelError> {
        let payload = self.end_of_loan(operation, "ahead")?;
        if length == 0 || length > payload.extent().length || self.loans.announced.is_some() {
            return Err(violation("`ahead` that doesn't fit"));
        }
        let (done, result) = oneshot::channel();
        let fetch = Operation::Fetch { payload, done };
        self.operations.insert(operation, fetch);
        self.loans.announced = Some(Early {
            length,
            done: result,
        });
        Ok(())
    }

    /// `returned`: nothing was fetched there.
    pub(super) fn returned(&mut self, operation: OperationId) -> Result<(), ChannelError> {
        drop(self.end_of_loan(operation, "returned")?);
        self.wake();
        Ok(())
    }

    fn end_of_loan(
        &mut self,
        operation: OperationId,
        record: &str,
    ) -> Result<Payload, ChannelError> {
        match self.operations.remove(&operation) {
            Some(Operation::Lent { payload }) => {
                self.loans.lent -= 1;
                Ok(payload)
            }
            _ => Err(violation(format!("`{record}` of nothing that is lent"))),
        }
    }

    /// Loans leave most of the operations there may be to requests.
    fn has_room_to_lend(&self) -> bool {
        let limit = self.hello.as_ref().map_or(0, |hello| hello.max_operations);
        self.operations.len() < limit as usize / 2
    }
}
