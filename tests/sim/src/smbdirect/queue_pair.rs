//! The device as the scenario sees it: a reliable connected queue pair. Requests are sent in order, a
//! message takes the oldest posted receive, and everything ends in one completion, flushed if need be.

use std::collections::VecDeque;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Flushed,
}

#[derive(Debug, Clone)]
pub(super) enum Completion {
    Sent {
        number: u64,
        fate: Fate,
    },
    Received {
        bytes: Vec<u8>,
    },
    ReceiveFlushed,
    /// Not a completion: the connection manager's word that the peer is gone.
    Disconnected,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

pub(super) enum Arrival {
    Taken,
    NoReceive,
    Dead,
}

#[derive(Debug, Default)]
pub(super) struct QueuePair {
    receives: u16,
    /// Not sent yet, oldest first.
    unsent: VecDeque<Message>,
    /// Sent and not acknowledged.
    sent: VecDeque<u64>,
    completions: VecDeque<Completion>,
    is_dead: bool,
    peer_is_gone: bool,
}

impl Message {
    /// CreditsGranted is at offset 2 of a Data Transfer message; a negotiate message is longer.
    pub(super) fn grant_one_more(&mut self) {
        let is_data = self.bytes.len() == 20 || self.bytes.len() > 32;
        if let Some([low, high]) = self.bytes.get_mut(2..4).filter(|_| is_data) {
            let granted = u16::from_le_bytes([*low, *high]).saturating_add(1);
            [*low, *high] = granted.to_le_bytes();
        }
    }

    /// Of the payload, where there is some.
    pub(super) fn change_last_byte(&mut self) {
        if self.bytes.len() > 32
            && let Some(last) = self.bytes.last_mut()
        {
            *last ^= 0x40;
        }
    }
}

impl QueuePair {
    pub(super) fn receives(&self) -> u16 {
        self.receives
    }

    pub(super) fn post_receives(&mut self, count: u16) {
        self.receives += count;
        if self.peer_is_gone {
            self.flush();
        }
    }

    pub(super) fn post_send(&mut self, message: Message) {
        self.unsent.push_back(message);
        if self.peer_is_gone {
            self.flush();
        }
    }

    pub(super) fn can_transmit(&self) -> bool {
        !self.is_dead && !self.peer_is_gone && !self.unsent.is_empty()
    }

    pub(super) fn transmit(&mut self, overtaking: bool) -> Option<Message> {
        let at = usize::from(overtaking && self.unsent.len() > 1);
        let message = self.unsent.remove(at)?;
        self.sent.push_back(message.number);
        Some(message)
    }

    pub(super) fn arrive(&mut self, message: Message) -> Arrival {
        if self.is_dead {
            return Arrival::Dead;
        }
        let Some(left) = self.receives.checked_sub(1) else {
            return Arrival::NoReceive;
        };
        self.receives = left;
        let bytes = message.bytes;
        self.completions.push_back(Completion::Received { bytes });
        Arrival::Taken
    }

    pub(super) fn acknowledge(&mut self, number: u64) {
        self.sent.retain(|sent| *sent != number);
        let fate = Fate::Done;
        self.completions
            .push_back(Completion::Sent { number, fate });
    }

    /// The message found nobody.
    pub(super) fn fail(&mut self, number: u64) {
        self.unsent.retain(|message| message.number != number);
        self.lose_peer();
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(super) fn poll(&mut self, at_most: usize) -> Vec<Completion> {
        let count = self.completions.len().min(at_most);
        self.completions.drain(..count).collect()
    }

    pub(super) fn lose_peer(&mut self) {
        if !self.peer_is_gone {
            self.peer_is_gone = true;
            self.flush();
            self.completions.push_back(Completion::Disconnected);
        }
    }

    /// Takes everything that is queued back, each once.
    fn flush(&mut self) {
        let fate = Fate::Flushed;
        let unsent = self.unsent.drain(..).map(|message| message.number);
        for number in self.sent.drain(..).chain(unsent) {
            self.completions
                .push_back(Completion::Sent { number, fate });
        }
        for _ in 0..std::mem::take(&mut self.receives) {
            self.completions.push_back(Completion::ReceiveFlushed);
        }
    }

    pub(super) fn destroy(&mut self) {
        *self = QueuePair {
            is_dead: true,
            ..QueuePair::default()
        };
    }

    pub(super) fn forget_receive(&mut self) {
        self.receives = self.receives.saturating_sub(1);
    }
}
