//! Connection.SendQueue of [MS-SMBD] 3.1.1.1: upper-layer messages in order, cut into fragments.
//! Holds keys and lengths; the bytes stay with the driver. A message's fragments leave one after
//! another with nothing between them, because only the head of the queue is ever cut.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

/// More messages than this can only be a driver that does not bound its replies.
pub(super) const MAX_QUEUED_MESSAGES: usize = 16_384;

/// The driver's name for one of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey(pub u64);

/// Bytes of an upper-layer message to send in one fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub message: MessageKey,
    pub range: Range<u32>,
}

/// Why a message was not queued. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QueueError {
    /// [MS-SMBD] 3.1.4.2: the peer reassembles no more.
    #[error("a message of {length} bytes, but the peer takes at most {maximum}")]
    TooLong { length: u32, maximum: u32 },
    #[error("a message without bytes cannot be sent over SMB Direct")]
    Empty,
    #[error("{MAX_QUEUED_MESSAGES} messages are queued already")]
    Full,
    #[error("the connection is not established")]
    NotEstablished,
}

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    messages: VecDeque<Message>,
    /// Bytes of the head already handed out.
    sent: u32,
}

#[derive(Debug)]
struct Message {
    key: MessageKey,
    length: u32,
    invalidate: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) payload: Payload,
    pub(super) remaining: u32,
    pub(super) invalidate: Option<u32>,
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn push(
        &mut self,
        key: MessageKey,
        length: u32,
        invalidate: Option<u32>,
    ) -> Result<(), QueueError> {
        if length == 0 {
            return Err(QueueError::Empty);
        }
        if self.messages.len() >= MAX_QUEUED_MESSAGES {
            return Err(QueueError::Full);
        }
        self.messages.push_back(Message {
            key,
            length,
            invalidate,
        });
        Ok(())
    }

    /// The next fragment, of at most `capacity` bytes. The token to invalidate goes with the last
    /// one: until then the peer's memory may still be the source or sink of the same request.
    pub(super) fn next_fragment(&mut self, capacity: u32) -> Option<Fragment> {
        let head = self.messages.front()?;
        let start = self.sent;
        let end = head.length.min(start.saturating_add(capacity.max(1)));
        let remaining = head.length - end;
        let fragment = Fragment {
            payload: Payload {
                message: head.key,
                range: start..end,
            },
            remaining,
            invalidate: head.invalidate.filter(|_| remaining == 0),
        };
        if remaining == 0 {
            self.messages.pop_front();
            self.sent = 0;
        } else {
            self.sent = end;
        }
        Some(fragment)
    }
}
