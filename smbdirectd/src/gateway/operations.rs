//! What a child has asked the device to do: READs of payload and replies, each with the work
//! requests it still needs, waits for, or has done. Pure; the connection posts.

use std::collections::VecDeque;

use proto::relay::{OperationId, RegionRange};
use slab::Slab;

use crate::relay::Segment;

/// A reply's message.
#[derive(Debug)]
pub enum ReplyBody {
    /// A private copy.
    Inline(Vec<u8>),
    /// Bytes of the region.
    InRegion(RegionRange),
}

/// An operation that is not finished.
#[derive(Debug)]
pub struct Operation {
    /// The child's name for it.
    pub id: OperationId,
    /// Work requests posted and not retired.
    outstanding: u32,
    /// Segments not posted yet.
    waiting: u32,
    /// `None` for a `read_payload`.
    pub reply: Option<Reply>,
}

/// The message of a reply.
#[derive(Debug)]
pub struct Reply {
    /// Its bytes.
    pub body: ReplyBody,
    /// How many.
    pub length: u32,
    /// Token to invalidate.
    pub invalidate: Option<u32>,
    /// Its last fragment is posted.
    sent: bool,
}

/// How an operation ended; to be reported to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// `payload_ready`.
    Read(OperationId),
    /// `sent`.
    Reply(OperationId),
}

/// All unfinished operations of a connection, and the order of what is to be posted.
#[derive(Debug, Default)]
pub struct Operations {
    unfinished: Slab<Operation>,
    /// Segments of READs, in the child's order.
    reads: VecDeque<(usize, Segment)>,
    /// Segments of WRITEs, in the order of their replies.
    writes: VecDeque<(usize, Segment)>,
    /// Replies whose WRITEs are not all posted, or that the machine has not taken yet.
    replies: VecDeque<usize>,
    /// Emptied bodies, for their capacity.
    spare: Vec<Vec<u8>>,
}

/// Bodies kept for their capacity.
const SPARE_BODIES: usize = 16;
/// A longer body is not worth keeping.
const SPARE_CAPACITY: usize = 16 * 1024;

impl Operations {
    /// Unfinished ones.
    pub fn len(&self) -> usize {
        self.unfinished.len()
    }

    /// Nothing is unfinished.
    pub fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Starts a `read_payload`; its segments follow by [`Operations::push_read`].
    pub fn add_read(&mut self, id: OperationId) -> usize {
        self.unfinished.insert(Operation {
            id,
            outstanding: 0,
            waiting: 0,
            reply: None,
        })
    }

    /// Starts a reply; its WRITEs follow by [`Operations::push_write`], before anything is posted.
    pub fn add_reply(
        &mut self,
        id: OperationId,
        body: ReplyBody,
        length: u32,
        invalidate: Option<u32>,
    ) -> usize {
        let key = self.unfinished.insert(Operation {
            id,
            outstanding: 0,
            waiting: 0,
            reply: Some(Reply {
                body,
                length,
                invalidate,
                sent: false,
            }),
        });
        self.replies.push_back(key);
        key
    }

    /// One more RDMA READ of the newest `read_payload`.
    pub fn push_read(&mut self, key: usize, segment: Segment) {
        self.reads.push_back((key, segment));
        self.note_waiting(key);
    }

    /// One more RDMA WRITE of the newest reply.
    pub fn push_write(&mut self, key: usize, segment: Segment) {
        self.writes.push_back((key, segment));
        self.note_waiting(key);
    }

    fn note_waiting(&mut self, key: usize) {
        if let Some(operation) = self.unfinished.get_mut(key) {
            operation.waiting += 1;
        }
    }

    /// The next READ to post, and whether it is its operation's last.
    pub fn next_read(&mut self) -> Option<(usize, Segment, bool)> {
        let (key, segment) = self.reads.pop_front()?;
        let last = self.posted(key);
        Some((key, segment, last))
    }

    /// A READ waits to be posted.
    pub fn has_read(&self) -> bool {
        !self.reads.is_empty()
    }

    /// The next WRITE to post; only of the oldest reply the machine does not have.
    pub fn next_write(&mut self) -> Option<(usize, Segment)> {
        let (key, segment) = self.writes.pop_front()?;
        self.posted(key);
        Some((key, segment))
    }

    /// A WRITE waits to be posted.
    pub fn has_write(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The oldest reply all of whose WRITEs are posted: its message may follow them now.
    pub fn next_reply(&mut self) -> Option<(usize, &Reply)> {
        let key = *self.replies.front()?;
        if self.unfinished.get(key)?.waiting > 0 {
            return None;
        }
        self.replies.pop_front();
        let reply = self.unfinished.get(key)?.reply.as_ref()?;
        Some((key, reply))
    }

    /// The reply of a key.
    pub fn reply(&self, key: usize) -> Option<&Reply> {
        self.unfinished.get(key)?.reply.as_ref()
    }

    /// A SEND of this reply is posted, `last` if it completes the message.
    pub fn posted_send(&mut self, key: usize, last: bool) {
        let Some(operation) = self.unfinished.get_mut(key) else {
            return;
        };
        operation.outstanding += 1;
        if let Some(reply) = &mut operation.reply
            && last
        {
            reply.sent = true;
            // Its bytes are all in send slots.
            if let ReplyBody::Inline(bytes) = &mut reply.body {
                let mut bytes = std::mem::take(bytes);
                if self.spare.len() < SPARE_BODIES && bytes.capacity() <= SPARE_CAPACITY {
                    bytes.clear();
                    self.spare.push(bytes);
                }
            }
        }
    }

    /// A private copy of `bytes`.
    pub fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(bytes);
        copy
    }

    /// A work request of this operation is retired; answers the operation's end.
    pub fn retired(&mut self, key: usize) -> Option<Finished> {
        let operation = self.unfinished.get_mut(key)?;
        operation.outstanding = operation.outstanding.saturating_sub(1);
        let posted = operation.waiting == 0 && operation.reply.as_ref().is_none_or(|r| r.sent);
        if operation.outstanding > 0 || !posted {
            return None;
        }
        let id = operation.id;
        let reply = operation.reply.is_some();
        self.unfinished.remove(key);
        Some(if reply {
            Finished::Reply(id)
        } else {
            Finished::Read(id)
        })
    }

    /// Ends all: nothing more will be posted. Answers how each is reported.
    pub fn abandon(&mut self) -> Vec<Finished> {
        self.reads.clear();
        self.writes.clear();
        self.replies.clear();
        self.unfinished
            .drain()
            .map(|operation| match operation.reply {
                Some(_) => Finished::Reply(operation.id),
                None => Finished::Read(operation.id),
            })
            .collect()
    }

    fn posted(&mut self, key: usize) -> bool {
        let Some(operation) = self.unfinished.get_mut(key) else {
            return true;
        };
        operation.waiting = operation.waiting.saturating_sub(1);
        operation.outstanding += 1;
        operation.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment {
        offset: 0,
        length: 1,
        address: 0,
        token: 0,
    };

    fn add_read(operations: &mut Operations, id: u64, segments: usize) {
        let key = operations.add_read(OperationId(id));
        (0..segments).for_each(|_| operations.push_read(key, SEGMENT));
    }

    fn add_reply(operations: &mut Operations, id: u64, token: Option<u32>, segments: usize) {
        let body = ReplyBody::Inline(vec![1]);
        let key = operations.add_reply(OperationId(id), body, 1, token);
        (0..segments).for_each(|_| operations.push_write(key, SEGMENT));
    }

    #[test]
    fn a_read_ends_with_its_last_request_and_not_before() {
        let mut operations = Operations::default();
        add_read(&mut operations, 7, 2);
        let (key, _, last) = operations.next_read().unwrap();
        assert!(!last);
        assert_eq!(operations.retired(key), None, "one is not posted yet");
        let (key, _, last) = operations.next_read().unwrap();
        assert!(last);
        assert_eq!(
            operations.retired(key),
            Some(Finished::Read(OperationId(7)))
        );
        assert!(operations.is_empty());
    }

    #[test]
    fn a_message_follows_its_own_writes_and_those_of_replies_before_it() {
        let mut operations = Operations::default();
        add_reply(&mut operations, 1, None, 2);
        add_reply(&mut operations, 2, Some(9), 0);
        assert!(operations.next_reply().is_none());
        operations.next_write().unwrap();
        assert!(operations.next_reply().is_none(), "one write waits");
        operations.next_write().unwrap();
        let (first, reply) = operations.next_reply().unwrap();
        assert_eq!(reply.invalidate, None);
        let (second, reply) = operations.next_reply().unwrap();
        assert_eq!(reply.invalidate, Some(9));
        operations.posted_send(second, true);
        assert_eq!(
            operations.retired(second),
            Some(Finished::Reply(OperationId(2)))
        );
        operations.posted_send(first, true);
        assert_eq!(operations.retired(first), None);
        assert_eq!(operations.retired(first), None);
        assert_eq!(
            operations.retired(first),
            Some(Finished::Reply(OperationId(1)))
        );
    }

    #[test]
    fn abandoning_reports_each_once() {
        let mut operations = Operations::default();
        add_read(&mut operations, 1, 3);
        add_reply(&mut operations, 2, None, 1);
        let (key, _, _) = operations.next_read().unwrap();
        let ended = operations.abandon();
        assert_eq!(
            ended,
            [
                Finished::Read(OperationId(1)),
                Finished::Reply(OperationId(2))
            ]
        );
        assert_eq!(operations.retired(key), None);
        assert!(operations.next_read().is_none() && operations.next_write().is_none());
    }
}
