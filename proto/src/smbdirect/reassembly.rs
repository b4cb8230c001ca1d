//! Continuity between the fragments of one upper-layer message, [MS-SMBD] 3.1.5.8.
//! It counts bytes and holds none: where they go is the driver's affair.

use std::time::Duration;

use super::messages::DataTransferHeader;
use super::violation::PeerViolation;
use crate::time::Timestamp;

/// What each further fragment adds to its message's time. A message may come in as many fragments as
/// it has bytes, and a slow link takes them one by one; who sends fewer a second gains nothing.
const FRAGMENT_TIME: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Reassembly {
    maximum: u32,
    timeout: Duration,
    message: Option<Partial>,
}

#[derive(Debug, Clone, Copy)]
struct Partial {
    length: u32,
    received: u32,
    deadline: Timestamp,
}

/// Where a fragment belongs in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) message_length: u32,
    pub(super) offset: u32,
    pub(super) last: bool,
}

impl Reassembly {
    pub(super) const fn new(maximum: u32, timeout: Duration) -> Self {
        Self {
            maximum,
            timeout,
            message: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.message.map(|partial| partial.deadline)
    }

    /// Time in which the sender had no buffer to send into does not count against it.
    pub(super) fn extend(&mut self, excused: Duration) {
        if let Some(partial) = &mut self.message {
            partial.deadline = partial.deadline.saturating_add(excused);
        }
    }

    /// Takes one message's lengths. `None`: it holds no payload.
    ///
    /// The first fragment fixes the length of the message; each later one must say what is left.
    ///
    /// A message without payload between two fragments is tolerated with RemainingDataLength zero,
    /// where 3.1.5.8 read to the letter ends the connection: Linux before 7.0 sends its grants and
    /// signs of life so and receives them so, and no byte of the stream is in doubt. This side
    /// sends none there, since Windows keeps to the letter. Any other value must be what is due.
    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        header: &DataTransferHeader,
    ) -> Result<Option<Place>, PeerViolation> {
        let data_length = header.data_length;
        let remaining = header.remaining_data_length;
        let announced = data_length
            .checked_add(remaining)
            .filter(|announced| *announced <= self.maximum)
            .ok_or(PeerViolation::MessageTooLong {
                data_length,
                remaining,
                maximum: self.maximum,
            })?;

        let mut partial = match self.message {
            Some(partial) if data_length > 0 => Partial {
                deadline: partial.deadline.saturating_add(FRAGMENT_TIME),
                ..partial
            },
            Some(partial) => partial,
            None if announced == 0 => return Ok(None),
            None => Partial {
                length: announced,
                received: 0,
                deadline: now.saturating_add(self.timeout),
            },
        };
        let due = partial.length - partial.received;
        let empty_between = announced == 0;
        if announced != due && !empty_between {
            return Err(PeerViolation::FragmentLength {
                data_length,
                remaining,
                due,
            });
        }
        if data_length == 0 {
            self.message = Some(partial);
            return Ok(None);
        }
        let place = Place {
            message_length: partial.length,
            offset: partial.received,
            last: remaining == 0,
        };
        partial.received += data_length;
        self.message = (!place.last).then_some(partial);
        Ok(Some(place))
    }
}
