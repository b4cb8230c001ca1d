//! One side: the machine and its driver, which does what the gateway does on a real device.

use std::collections::{BTreeMap, BTreeSet};

use proto::smbdirect::{
    CloseReason, Connection, MessageKey, Outgoing, Parameters, Received, Role, State,
};
use proto::time::Timestamp;

use super::queue_pair::{Completion, Fate, Message, QueuePair};
use crate::note;

pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) machine: Connection,
    pub(super) queue_pair: QueuePair,
    pub(super) is_alive: bool,
    pub(super) is_established: bool,
    /// Its driver does nothing.
    pub(super) dozes: bool,
    /// Lengths of all it will say; a message's bytes follow from its number.
    pub(super) messages: Vec<u32>,
    queued: u64,
    /// Messages of the peer's that arrived whole.
    pub(super) delivered: u64,
    /// Bytes of the next one that are here, and how long it will be.
    partial: u32,
    /// Its own that were reported sent to their last byte.
    pub(super) acknowledged: BTreeSet<u64>,
    next_number: u64,
    /// Posted and not retired: the message each one completes.
    posted: BTreeMap<u64, Option<u64>>,
    /// Something happened since its driver's last turn, or the turn left something to do.
    pub(super) has_work: bool,
}

impl Side {
    pub(super) fn new(name: &'static str, role: Role, parameters: Parameters) -> Side {
        Side {
            name,
            machine: Connection::new(role, parameters, Timestamp::ZERO),
            queue_pair: QueuePair::default(),
            is_alive: true,
            is_established: false,
            dozes: false,
            messages: Vec::new(),
            queued: 0,
            delivered: 0,
            partial: 0,
            acknowledged: BTreeSet::new(),
            next_number: 0,
            posted: BTreeMap::new(),
            has_work: false,
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.posted.len()
    }

    pub(super) fn may_queue(&self) -> bool {
        self.machine.state() == State::Established && self.queued < self.messages.len() as u64
    }

    pub(super) fn queue(&mut self) {
        let number = self.queued;
        let Some(length) = self.messages.get(number as usize) else {
            return;
        };
        note!("{}: queues message {number} of {length} bytes", self.name);
        self.machine
            .queue_message(MessageKey(number), *length, None)
            .expect("an established connection takes a message");
        self.queued += 1;
        self.has_work = true;
    }

    pub(super) fn post(&mut self) {
        self.post_at_most(u16::MAX);
        self.has_work = true;
    }

    fn post_at_most(&mut self, limit: u16) -> u16 {
        let count = self.machine.receives_to_post().min(limit);
        if count > 0 {
            note!("{}: posts {count} receives", self.name);
            self.queue_pair.post_receives(count);
            self.machine.handle_posted(count);
        }
        count
    }

    /// A driver's turn, as `proto::smbdirect` describes it, with so many free buffers.
    pub(super) fn drive(&mut self, now: Timestamp, mut buffers: u16) {
        loop {
            let posted = self.post_at_most(buffers);
            buffers -= posted;
            let mut sent = 0;
            while let Some(outgoing) = self.machine.poll_send(now) {
                self.send(now, &outgoing);
                sent += 1;
            }
            if posted == 0 && sent == 0 {
                break;
            }
        }
        self.has_work = self.machine.receives_to_post() > 0;
    }

    fn send(&mut self, now: Timestamp, outgoing: &Outgoing) {
        let number = self.next_number;
        self.next_number += 1;
        let mut bytes = outgoing.header.as_bytes().to_vec();
        let mut completes = None;
        if let Some(payload) = &outgoing.payload {
            let message = payload.message.0;
            let range = payload.range.clone();
            assert!(range.end - range.start <= self.machine.max_send_payload());
            bytes.extend(range.map(|offset| byte(self.name, message, offset)));
            completes = outgoing.last_of_message.then_some(message);
        }
        note!(
            "{now} {}: posts send {number}, {} bytes, {:?}",
            self.name,
            bytes.len(),
            self.machine.credits()
        );
        self.posted.insert(number, completes);
        self.queue_pair.post_send(Message { number, bytes });
    }

    pub(super) fn complete(&mut self, now: Timestamp, completion: Completion) {
        self.has_work = true;
        match completion {
            Completion::Sent { number, fate } => {
                let completes = self.retired(number);
                self.machine.handle_send_complete(now, 1);
                if fate == Fate::Done {
                    self.acknowledged.extend(completes);
                } else {
                    self.machine.close(CloseReason::TransportError);
                }
            }
            Completion::Received { bytes } => self.receive(now, &bytes),
            Completion::ReceiveFlushed => self.machine.close(CloseReason::TransportError),
            Completion::Disconnected => {
                note!("{now} {}: its peer is gone", self.name);
                self.machine.close(CloseReason::PeerDisconnected);
            }
        }
    }

    /// A send is over; the message it completed.
    pub(super) fn retired(&mut self, number: u64) -> Option<u64> {
        match self.posted.remove(&number) {
            Some(completes) => completes,
            None => panic!("send {number} of the {} is retired twice", self.name),
        }
    }

    fn receive(&mut self, now: Timestamp, bytes: &[u8]) {
        assert!(bytes.len() <= self.machine.receive_buffer_size() as usize);
        if self.machine.close_reason().is_some() {
            return;
        }
        let received = self.machine.handle_receive(now, bytes);
        note!(
            "{now} {}: receives {} bytes: {received:?}",
            self.name,
            bytes.len()
        );
        let Received::Fragment {
            data,
            message_length,
            offset_in_message,
            last,
        } = received.unwrap_or_else(|violation| {
            panic!("the {} refuses its honest peer: {violation}", self.name)
        })
        else {
            return;
        };
        assert_eq!(offset_in_message, self.partial, "fragments out of order");
        let peer = if self.name == "client" {
            "server"
        } else {
            "client"
        };
        for (at, found) in bytes[data.clone()].iter().enumerate() {
            let expected = byte(peer, self.delivered, offset_in_message + at as u32);
            assert_eq!(
                *found, expected,
                "message {} of the {peer} has other bytes",
                self.delivered
            );
        }
        self.partial += data.len() as u32;
        if last {
            assert_eq!(self.partial, message_length);
            self.delivered += 1;
            self.partial = 0;
        }
    }

    pub(super) fn check(&self) {
        let credits = self.machine.credits();
        assert!(
            credits.granted <= credits.posted,
            "the {} granted more than is posted: {credits:?}",
            self.name
        );
        if self.machine.close_reason().is_none() {
            assert_eq!(
                usize::from(credits.outstanding),
                self.posted.len(),
                "the {} lost count of its sends",
                self.name
            );
        }
    }

    /// When nothing happens any more, nothing is under way.
    pub(super) fn check_silence(&self) {
        assert_eq!(
            self.posted.len(),
            0,
            "the device kept sends of the {}",
            self.name
        );
        if self.machine.close_reason().is_none() {
            assert_eq!(self.queue_pair.receives(), self.machine.credits().posted);
            assert_eq!(self.partial, 0, "a message of which the rest never came");
        }
    }
}

/// Byte `offset` of the `number`th message of a side.
fn byte(side: &str, number: u64, offset: u32) -> u8 {
    let start = side.len() as u64 + number * 131;
    let offset = u64::from(offset);
    (start.wrapping_add(offset.wrapping_mul(31)) ^ (offset >> 8) ^ u64::from(side.starts_with('c')))
        as u8
}
