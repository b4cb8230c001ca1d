//! The child's side of a connection: messages to it, its records, and what they ask for.

use proto::relay::{
    Body, Hello, MAX_LOANS, MAX_MESSAGES, MAX_OPERATIONS, OperationId, Outcome, RegionRange,
    ToChild, ToGateway, ToGatewayRecords,
};
use proto::time::Timestamp;
use shm::SystemError;
use shm::link::{Link, SocketLink};

use super::{Connection, DATAGRAMS_A_TURN, Parked, Shared, Stage};
use crate::gateway::ending::Ending;
use crate::gateway::operations::ReplyBody;
use crate::gateway::sink::{self, Sink};
use crate::memory::{AttachError, Attachment, is_out_of_memory};
use crate::rdma::Transport;
use crate::relay::{Phase, Step, trim};

impl Connection {
    /// Passes a fragment on, or parks it behind those that wait already.
    pub(super) fn take_fragment(
        &mut self,
        now: Timestamp,
        parked: Parked,
        shared: &mut Shared,
    ) -> Result<(), Ending> {
        if self.parked.is_empty() && self.pass_fragment(now, &parked, shared)? {
            self.receive.release(parked.buffer);
            return Ok(());
        }
        self.parked.push_back(parked);
        Ok(())
    }

    pub(super) fn pass_fragment(
        &mut self,
        now: Timestamp,
        parked: &Parked,
        shared: &mut Shared,
    ) -> Result<bool, Ending> {
        let bytes = self.receive.bytes(parked.buffer);
        let payload = bytes.get(parked.data.clone()).unwrap_or_default();
        let region = self.attachment.as_ref().map(Attachment::mapping);
        let longest = self.longest_read();
        let step = self
            .inbound
            .accept(parked.fragment, payload, region, &mut shared.pool);
        match step {
            Step::More => Ok(true),
            Step::NoRoom => Ok(false),
            Step::TooLong => Err(Ending::limit(format!(
                "a message of {} bytes arrived on a connection without a region (nobody has \
                 logged on, or memory was refused); 64 KiB are allowed then",
                parked.fragment.message_length
            ))),
            Step::PoolEmpty => Err(Ending::limit(
                "the memory for unauthenticated connections' messages is used up: \
                 too many clients connect and do not log on",
            )),
            Step::Complete { sequence, body } => {
                let record = ToChild::Message { sequence, body };
                shared.pace.note_request();
                if self.link.is_none() {
                    let (ours, theirs) = shm::link::pair()?;
                    let mut link = SocketLink::new(ours, proto::relay::BACKLOG);
                    let hello = ToChild::Hello(Hello {
                        peer: self.peer,
                        local: self.local,
                        device: self.domain.device().name().to_string(),
                        connection: self.number.0,
                        link_speed: self.device_limits.speed,
                        max_read_write: self.machine.max_read_write_size(),
                        max_send: self.machine.peer_max_fragmented_size(),
                        max_receive: self.machine.max_fragmented_receive_size(),
                        max_messages: MAX_MESSAGES,
                        max_operations: MAX_OPERATIONS,
                        invalidate: self.device_limits.send_with_invalidate,
                    });
                    link.queue(&mut |out| hello.encode(out));
                    self.link = Some(link);
                    self.attach_by = Some(now.saturating_add(shared.limits.unattached));
                    self.announcement = Some(theirs);
                }
                let ahead = match body {
                    Body::Inline(message) => self.loans.take(message),
                    Body::InRegion(_) => None,
                };
                let fetched = ahead.as_ref().map(|ahead| ahead.target.length);
                match &ahead {
                    Some(_) => self.owed.ahead(now),
                    None => self.owed.urgent = true,
                }
                if let Some(ahead) = ahead {
                    let (operation, length) = (ahead.operation, ahead.target.length);
                    let operations = &mut self.operations;
                    let key = operations.add_read(operation);
                    trim(ahead.target, ahead.descriptors, longest, |segment| {
                        operations.push_read(key, segment);
                    })?;
                    if let Some(link) = &mut self.link {
                        let record = ToChild::Ahead { operation, length };
                        link.queue(&mut |out| record.encode(out));
                    }
                }
                if let Some(link) = &mut self.link {
                    link.queue(&mut |out| record.encode(out));
                }
                self.follow(sequence.0, || {
                    let bytes = parked.fragment.message_length;
                    tracing::debug!(bytes, fetched, "the message is complete");
                });
                Ok(true)
            }
        }
    }

    /// Passes on what waited, as far as there is room now.
    fn resume_parked(&mut self, now: Timestamp, shared: &mut Shared) -> Result<(), Ending> {
        while let Some(parked) = self.parked.pop_front() {
            if !self.pass_fragment(now, &parked, shared)? {
                self.parked.push_front(parked);
                break;
            }
            self.receive.release(parked.buffer);
        }
        Ok(())
    }

    /// Queues a record for the child, if there is one.
    pub(super) fn tell(&mut self, record: &ToChild<'_>) {
        self.owed.urgent = true;
        self.queue(record);
    }

    fn queue(&mut self, record: &ToChild<'_>) {
        if let Some(link) = &mut self.link {
            link.queue(&mut |out| record.encode(out));
        }
    }

    /// Queues the end of a reply, which alone is not worth waking the child for.
    pub(super) fn tell_sent(&mut self, now: Timestamp, operation: OperationId) {
        self.owed.sent(now);
        self.queue(&ToChild::Sent {
            operation,
            outcome: Outcome::Done,
        });
    }

    /// The relay socket is readable.
    pub fn handle_relay(&mut self, now: Timestamp, shared: &mut Shared) {
        // Taken so that records can borrow the datagram while everything else is used.
        let mut datagram = std::mem::take(&mut shared.datagram);
        for _ in 0..DATAGRAMS_A_TURN {
            let Some(link) = &mut self.link else {
                break;
            };
            match link.receive(&mut datagram) {
                Ok(false) => break,
                Ok(true) if self.stage == Stage::Open => {
                    match self.handle_records(now, &datagram, shared) {
                        Ok(()) if datagram.is_full() => {}
                        // The next wakes the loop again.
                        Ok(()) => break,
                        Err(ending) => self.end(now, ending),
                    }
                }
                // What was on its way when the end came.
                Ok(true) => {}
                Err(error) => {
                    self.link = None;
                    self.end(now, error.into());
                }
            }
        }
        datagram.descriptors.clear();
        shared.datagram = datagram;
    }

    fn handle_records(
        &mut self,
        now: Timestamp,
        datagram: &shm::link::Datagram,
        shared: &mut Shared,
    ) -> Result<(), Ending> {
        let mut descriptors = datagram.descriptors.as_slice();
        for record in ToGatewayRecords::new(datagram.bytes()) {
            let record = record?;
            self.phase.allows(&record)?;
            match record {
                ToGateway::Attach => {
                    let memfd = descriptors.first();
                    descriptors = descriptors.get(1..).unwrap_or_default();
                    self.attach(memfd, shared)?;
                }
                ToGateway::Mapped => {
                    self.mapped(shared)?;
                    self.resume_parked(now, shared)?;
                }
                ToGateway::Release { through } => {
                    if !self.inbound.release(through) {
                        return Err(Ending::relay("the child released what it never had"));
                    }
                    self.resume_parked(now, shared)?;
                }
                ToGateway::ReadPayload {
                    operation,
                    target,
                    descriptors,
                } => {
                    self.follow(operation.message(), || {
                        tracing::debug!(bytes = target.length, "RDMA READ is asked for");
                    });
                    self.check_operation(&[target])?;
                    let longest = self.longest_read();
                    let operations = &mut self.operations;
                    let key = operations.add_read(operation);
                    trim(target, descriptors, longest, |segment| {
                        operations.push_read(key, segment);
                    })?;
                }
                ToGateway::Expect { outline } => self.loans.expect(outline),
                ToGateway::Lend { operation, target } => {
                    self.check_operation(&[target])?;
                    if !self.loans.lend(operation, target) {
                        return Err(Ending::relay(format!(
                            "the child lends more than {MAX_LOANS} extents"
                        )));
                    }
                }
                ToGateway::Recall => {
                    for (operation, _) in self.loans.recall() {
                        self.tell(&ToChild::Returned { operation });
                    }
                }
                ToGateway::Reply {
                    operation,
                    invalidate,
                    writes,
                    body,
                } => {
                    self.follow(operation.message(), || {
                        let payload: u64 = writes
                            .iter()
                            .map(|write| u64::from(write.source.length))
                            .sum();
                        tracing::debug!(payload, "the reply is here");
                    });
                    self.check_operation(&[])?;
                    let key = self.reply(operation, invalidate, body)?;
                    let longest = self.device_limits.max_message;
                    for write in &writes {
                        self.check_range(write.source)?;
                        let operations = &mut self.operations;
                        trim(write.source, write.descriptors, longest, |segment| {
                            operations.push_write(key, segment);
                        })?;
                    }
                }
                ToGateway::Grow { parts } => {
                    if let Some(attachment) = &self.attachment {
                        let (parts, failed) = shared.memory.grow(attachment, parts);
                        if let Some(error) = failed {
                            let why = Ending::from(error).detail;
                            tracing::warn!(
                                connection = self.number.0,
                                "no more payload memory: {why}"
                            );
                        }
                        self.tell(&ToChild::Grown { parts });
                    }
                }
                ToGateway::Close { reason } => {
                    self.phase = Phase::Closing;
                    self.finish(now, Ending::ordinary(reason));
                }
            }
        }
        if descriptors.is_empty() {
            Ok(())
        } else {
            Err(Ending::relay(
                "the child sent a descriptor no record asks for",
            ))
        }
    }

    fn reply(
        &mut self,
        operation: proto::relay::OperationId,
        invalidate: Option<u32>,
        body: Body<'_>,
    ) -> Result<usize, Ending> {
        let (body, length) = match body {
            Body::Inline(bytes) => (
                ReplyBody::Inline(self.operations.copy_of(bytes)),
                bytes.len() as u32,
            ),
            Body::InRegion(range) => {
                self.check_range(range)?;
                (ReplyBody::InRegion(range), range.length)
            }
        };
        let longest = self.machine.peer_max_fragmented_size();
        if length > longest {
            return Err(Ending::relay(format!(
                "the child replied with {length} bytes, the client takes {longest}"
            )));
        }
        Ok(self
            .operations
            .add_reply(operation, body, length, invalidate))
    }

    /// Bytes of one RDMA READ at most.
    fn longest_read(&self) -> u32 {
        match self.sink {
            Some(_) => self.device_limits.max_message.min(sink::SLOT),
            None => self.device_limits.max_message,
        }
    }

    fn check_operation(&self, ranges: &[RegionRange]) -> Result<(), Ending> {
        if self.operations.len() + self.loans.len() >= MAX_OPERATIONS as usize {
            return Err(Ending::relay(format!(
                "the child has more than {MAX_OPERATIONS} unfinished operations"
            )));
        }
        ranges.iter().try_for_each(|range| self.check_range(*range))
    }

    fn check_range(&self, range: RegionRange) -> Result<(), Ending> {
        if self
            .attachment
            .as_ref()
            .is_some_and(|region| region.holds(range))
        {
            return Ok(());
        }
        Err(Ending::relay(format!(
            "the child named {} bytes at {:#x}, outside the parts granted to it",
            range.length, range.offset
        )))
    }

    fn attach(
        &mut self,
        memfd: Option<&std::os::fd::OwnedFd>,
        shared: &mut Shared,
    ) -> Result<(), Ending> {
        self.attach_by = None;
        let attached = match self.make_sink() {
            Ok(()) => shared.memory.attach(&self.domain, memfd),
            Err(error) => Err(error.into()),
        };
        match attached {
            Ok(attachment) => {
                let record = ToChild::Attached(attachment.attached());
                let memfd = match attachment.new_memfd() {
                    Some(memfd) => Some(
                        memfd
                            .try_clone_to_owned()
                            .map_err(shm::SystemError::of("duplicate a region's descriptor"))?,
                    ),
                    None => None,
                };
                self.attachment = Some(attachment);
                self.phase = Phase::Attached;
                self.inbound.await_ring();
                self.owed.urgent = true;
                match (memfd, &mut self.link) {
                    (Some(memfd), Some(link)) => {
                        link.queue_with(&mut |out| record.encode(out), vec![memfd]);
                    }
                    _ => self.tell(&record),
                }
                Ok(())
            }
            Err(error @ AttachError::Budget { .. }) => {
                let advice = shared.limits.budget_advice();
                self.refuse_payload(&format!("{error}; {advice}"));
                Ok(())
            }
            Err(error @ AttachError::Rings) => {
                self.refuse_payload(&error.to_string());
                Ok(())
            }
            Err(AttachError::System(error)) if is_out_of_memory(&error) => {
                self.refuse_payload(&Ending::from(error).detail);
                Ok(())
            }
            Err(error @ AttachError::NotARegion(_)) => Err(Ending::relay(error)),
            Err(AttachError::System(error)) => Err(error.into()),
        }
    }

    fn refuse_payload(&mut self, why: &str) {
        tracing::warn!(
            connection = self.number.0,
            peer = %self.peer,
            "served without RDMA payload: {why}"
        );
        self.sink = None;
        self.phase = Phase::Refused;
        self.tell(&ToChild::AttachRefused);
    }

    /// Before the child is promised anything: there may be no memory for it.
    fn make_sink(&mut self) -> Result<(), SystemError> {
        if self.device().transport() == Transport::Iwarp {
            self.sink = Some(Sink::new(&self.domain)?);
        }
        Ok(())
    }

    fn mapped(&mut self, shared: &mut Shared) -> Result<(), Ending> {
        let Some(attachment) = &self.attachment else {
            return Ok(());
        };
        shared.memory.mapped(attachment)?;
        let attached = attachment.attached();
        self.inbound
            .use_ring(attached.ring_offset, attached.ring_size);
        let credits = self.machine.parameters().receive_credit_max;
        let more = (u32::from(credits) + 1).saturating_sub(self.receive.count());
        match self.receive.grow(&self.domain, more) {
            Ok(()) => self.machine.limit_receive_credits(credits),
            Err(error) if is_out_of_memory(&error) => tracing::warn!(
                connection = self.number.0,
                peer = %self.peer,
                "served with the {} receive buffers it has: {}",
                self.receive.count(),
                Ending::from(error).detail
            ),
            Err(error) => return Err(error.into()),
        }
        self.phase = Phase::Mapped;
        Ok(())
    }
}
