//! Large buffers of messages, used again: fresh memory of a megabyte costs more in page faults than
//! the copy into it. [`Message`], a received message that jobs of the pool can share, and [`Piece`],
//! bytes of a reply with room before them, so that headers get there without a copy of the rest.
//!
//! Channels and handlers take buffers from here, whoever is done with one gives it back, and the
//! loop lets all of them go once none has been used for a while: an idle client keeps nothing.

use std::borrow::Borrow;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Smaller ones are the allocator's business: it keeps their pages itself.
const LARGE: usize = 128 * 1024;
/// Bytes kept for later.
const MAX_KEPT: usize = 32 << 20;
/// Unused for this long, all are given back.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The spare buffers of this process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    spare: Vec<Vec<u8>>,
    bytes: usize,
    /// When one was given back last.
    since: Option<Instant>,
}

impl Buffers {
    /// An empty buffer for `length` bytes, of those that fit the one used last. Without capacity, if no
    /// kept one is of the size.
    pub fn spare(&self, length: usize) -> Vec<u8> {
        if length < LARGE {
            return Vec::new();
        }
        let kept = &mut *self.kept();
        let fitting = kept
            .spare
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.capacity() >= length)
            .rev()
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(position, _)| position);
        match fitting {
            Some(position) => {
                let buffer = kept.spare.remove(position);
                kept.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::new(),
        }
    }

    /// Takes a buffer back, whatever is in it.
    pub fn put(&self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity < LARGE {
            return;
        }
        let kept = &mut *self.kept();
        if kept.bytes + capacity <= MAX_KEPT {
            buffer.clear();
            kept.bytes += capacity;
            kept.since = Some(Instant::now());
            kept.spare.push(buffer);
        }
    }

    /// When [`Buffers::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.kept().since.map(|since| since + KEPT_FOR)
    }

    /// Lets the buffers go if it is time.
    pub fn expire(&self, now: Instant) {
        let kept = &mut *self.kept();
        if kept.since.is_some_and(|since| since + KEPT_FOR <= now) {
            *kept = Kept::default();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A received message, decrypted. Its buffer goes back when the last who shares it is done.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    start: usize,
    buffers: Buffers,
}

impl Message {
    /// The message that begins at `start` of `bytes`.
    pub fn new(bytes: Vec<u8>, start: usize, buffers: &Buffers) -> Message {
        Message {
            start: start.min(bytes.len()),
            bytes,
            buffers: buffers.clone(),
        }
    }

    /// Its bytes, to be changed before it is shared.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Shares the part of it that `part` borrows; `None` if that is no part of it.
    pub fn share(message: &Arc<Message>, part: &[u8]) -> Option<MessagePart> {
        let start = part.as_ptr().addr().checked_sub(message.as_ptr().addr())?;
        let range = start..start.checked_add(part.len())?;
        message.get(range.clone())?;
        Some(MessagePart {
            message: Arc::clone(message),
            range,
        })
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.buffers.put(std::mem::take(&mut self.bytes));
    }
}

/// Bytes to be sent, with room before them.
#[derive(Debug, Default)]
pub struct Piece {
    buffer: Vec<u8>,
    start: usize,
}

impl Piece {
    /// Room for the headers of a message: the frame's length, the transform header, the SMB2
    /// header, and a short body.
    pub const ROOM: usize = 256;

    /// Makes room in an empty buffer: what is then appended to it is the piece's.
    pub fn make_room(buffer: &mut Vec<u8>) {
        buffer.resize(Piece::ROOM, 0);
    }

    /// The bytes behind the room in a buffer that [`Piece::make_room`] prepared.
    pub fn behind_room(buffer: Vec<u8>) -> Piece {
        Piece {
            start: Piece::ROOM.min(buffer.len()),
            buffer,
        }
    }

    /// Takes some of the room into the piece; false if there is not so much.
    pub fn grow(&mut self, length: usize) -> bool {
        match self.start.checked_sub(length) {
            Some(start) => self.start = start,
            None => return false,
        }
        true
    }

    /// Puts bytes ahead of it; false if there is no room for them.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        if !self.grow(bytes.len()) {
            return false;
        }
        if let Some(ahead) = self.get_mut(..bytes.len()) {
            ahead.copy_from_slice(bytes);
        }
        true
    }

    /// Puts bytes behind it.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Its buffer, to be used again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

impl From<Vec<u8>> for Piece {
    fn from(buffer: Vec<u8>) -> Piece {
        Piece { buffer, start: 0 }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Piece {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// A part of a message that keeps the message.
#[derive(Debug)]
pub struct MessagePart {
    message: Arc<Message>,
    range: Range<usize>,
}

impl Deref for MessagePart {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_and_let_go_when_idle() {
        let buffers = Buffers::default();
        assert_eq!(buffers.spare(LARGE).capacity(), 0);
        let message = Message::new(vec![7; 4 * LARGE], 0, &buffers);
        let place = message.as_ptr();
        drop(message);
        assert_eq!(buffers.spare(5 * LARGE).capacity(), 0, "too small");
        let again = buffers.spare(2 * LARGE);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        buffers.put(again);
        buffers.put(vec![0; LARGE / 2]);
        assert_eq!(buffers.kept().spare.len(), 1);
        let deadline = buffers.deadline().unwrap();
        buffers.expire(deadline - Duration::from_millis(1));
        assert_eq!(buffers.kept().spare.len(), 1);
        buffers.expire(deadline);
        assert_eq!(buffers.kept().bytes, 0);
        assert_eq!(buffers.deadline(), None);
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = Buffers::default();
        for _ in 0..3 {
            buffers.put(Vec::with_capacity(MAX_KEPT / 2));
        }
        assert_eq!(buffers.kept().spare.len(), 2);
    }

    #[test]
    fn headers_get_before_a_piece_as_long_as_there_is_room() {
        let mut buffer = Vec::new();
        Piece::make_room(&mut buffer);
        buffer.extend_from_slice(b"data");
        let place = buffer.as_ptr();
        let mut piece = Piece::behind_room(buffer);
        assert!(piece.prepend(b"header, "));
        assert_eq!(&*piece, b"header, data");
        assert!(!piece.prepend(&[0; Piece::ROOM]));
        assert_eq!(&*piece, b"header, data");
        let buffer = piece.into_buffer();
        assert_eq!(buffer.as_ptr(), place);
        assert!(!Piece::from(b"no room".to_vec()).prepend(b"x"));
    }

    #[test]
    fn a_part_of_a_message_outlives_it_and_nothing_else_is_one() {
        let buffers = Buffers::default();
        let message = Arc::new(Message::new(
            b"transform, plain data".to_vec(),
            11,
            &buffers,
        ));
        assert_eq!(&**message, b"plain data");
        let part = Message::share(&message, &message[6..]).unwrap();
        assert!(Message::share(&message, b"data").is_none());
        drop(message);
        assert_eq!(&*part, b"data");
    }
}
