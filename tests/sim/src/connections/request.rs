//! What a client asks for, as it goes over the wire: the simplest requests there are, of which every byte
//! follows from the client and the request's number.

use proto::relay::{Descriptor, MAX_INLINE};

use crate::chance::Chance;

/// What a request wants: ECHO answers with so many bytes, WRITE has the child read the client's memory,
/// READ has it write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Write,
    Read,
}

/// A request as it goes over the wire: a WRITE's descriptors behind it, and then filler up to the
/// message's length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) number: u32,
    /// A READ's: the WRITE whose bytes it wants back, or its own number.
    pub(super) of: u32,
    /// Of the answer, or of the payload.
    pub(super) length: u32,
    pub(super) message_length: u32,
    /// The answer is to put its memory's token out of use.
    pub(super) invalidates: bool,
}

/// What is sent while its child takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// More messages than may wait for a child.
    Messages,
    /// More bytes than its ring holds.
    Bytes,
}

/// Who sends so many bytes does it in fragments of this size: the schedule is about the messages.
pub(super) const LONG_FRAGMENT: u32 = 8192;

/// In a request's first byte, beside its kind.
const INVALIDATES: u8 = 0x10;

/// Kind, number, length, how many pieces the memory is named in, and whose bytes are wanted.
pub(super) const REQUEST_SIZE: u32 = 14;
/// Where a request says its length.
pub(super) const LENGTH_AT: u16 = 5;
/// Where it says how many pieces.
pub(super) const PIECES_AT: u16 = 9;

impl Request {
    pub(super) fn encode(&self, client: u32) -> Vec<u8> {
        let mut bytes = vec![self.first_byte()];
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.push(self.pieces() as u8);
        bytes.extend(self.of.to_le_bytes());
        if self.kind == Kind::Write {
            for descriptor in self.descriptors() {
                bytes.extend(descriptor.offset.get().to_le_bytes());
                bytes.extend(descriptor.token.get().to_le_bytes());
                bytes.extend(descriptor.length.get().to_le_bytes());
            }
        }
        let at = bytes.len() as u32;
        bytes.extend(part(client, self.number, at, self.message_length));
        bytes
    }

    /// A WRITE that its child refuses, whatever was fetched for it.
    pub(super) fn is_refused(&self) -> bool {
        self.kind == Kind::Write && self.number % 5 == 4
    }

    /// A READ of what this WRITE brought.
    pub(super) fn read_back(&self, number: u32, invalidates: bool) -> Request {
        Request {
            kind: Kind::Read,
            of: self.number,
            length: self.length,
            invalidates,
            ..short(number)
        }
    }

    /// Its kind, and whether its token is to be invalidated.
    pub(super) fn first_byte(&self) -> u8 {
        match self.invalidates {
            true => self.kind as u8 | INVALIDATES,
            false => self.kind as u8,
        }
    }

    /// How many pieces its memory is named in: up to 24, more than some devices take WRITEs at a time.
    pub(super) fn pieces(&self) -> u32 {
        let pieces = match self.number % 4 {
            0..3 => 1,
            _ => 1 + (self.number * 7 + self.length) % 24,
        };
        pieces.min(self.length.max(1))
    }

    /// The request's memory: its number is the token.
    pub(super) fn descriptors(&self) -> Vec<Descriptor> {
        let pieces = self.pieces();
        let longest = self.length / pieces;
        let piece = |index: u32| {
            let start = index * longest;
            let end = match index + 1 == pieces {
                true => self.length,
                false => start + longest,
            };
            Descriptor {
                offset: u64::from(start).into(),
                token: self.number.into(),
                length: (end - start).into(),
            }
        };
        (0..pieces).map(piece).collect()
    }

    /// Where the filler begins.
    fn filler_at(&self) -> u32 {
        match self.kind {
            Kind::Write => REQUEST_SIZE + self.pieces() * size_of::<Descriptor>() as u32,
            _ => REQUEST_SIZE,
        }
    }

    /// Panics where the bytes are not this client's request.
    pub(super) fn decode(client: u32, bytes: &[u8]) -> Request {
        let head = &bytes[..REQUEST_SIZE as usize];
        let number = u32::from_le_bytes(head[1..5].try_into().expect("four bytes"));
        let request = Request {
            kind: [Kind::Echo, Kind::Write, Kind::Read][usize::from(head[0] & !INVALIDATES)],
            number,
            of: u32::from_le_bytes(head[10..14].try_into().expect("four bytes")),
            length: u32::from_le_bytes(head[5..9].try_into().expect("four bytes")),
            message_length: bytes.len() as u32,
            invalidates: head[0] & INVALIDATES != 0,
        };
        let at = request.filler_at();
        assert!(
            bytes[at as usize..] == part(client, number, at, bytes.len() as u32),
            "other bytes in request {number} of client {client}"
        );
        request
    }
}

/// What belongs to request `number` of a client.
pub(super) fn pattern(client: u32, number: u32, length: u32) -> Vec<u8> {
    part(client, number, 0, length)
}

/// Bytes `at..end` of it: no two rows of 256 are alike for long.
fn part(client: u32, number: u32, mut at: u32, end: u32) -> Vec<u8> {
    let own = (client.wrapping_mul(101) ^ number.wrapping_mul(57)) as u8;
    let mut bytes = Vec::with_capacity(end.saturating_sub(at) as usize);
    while at < end {
        let next = ((at | 0xFF) + 1).min(end);
        let row = own ^ (at >> 8) as u8;
        let columns = &ROW[(at & 0xFF) as usize..];
        let columns = &columns[..(next - at) as usize];
        bytes.extend(columns.iter().map(|column| column ^ row));
        at = next;
    }
    bytes
}

const ROW: [u8; 256] = {
    let mut row = [0; 256];
    let mut at = 0;
    while at < row.len() {
        row[at] = (at as u8).wrapping_mul(13);
        at += 1;
    }
    row
};

pub(super) fn any(number: u32, chance: &mut Chance) -> Request {
    let kind = chance.one_of(&[Kind::Echo, Kind::Write, Kind::Read]);
    let length = match (kind, chance.below(4)) {
        (Kind::Echo, 0) => chance.between(4000, 12_000),
        (Kind::Echo, _) => chance.between(1, 600),
        (_, 0) => chance.between(60_000, 200_000),
        _ => chance.between(1, 9000),
    };
    let message_length = match chance.below(200) {
        // Has to wait for the ring, where there is none yet.
        0 if number > 0 => chance.between(u64::from(MAX_INLINE) + 1, 80_000),
        1..40 => chance.between(4000, 9000),
        _ => chance.between(u64::from(REQUEST_SIZE), 400),
    };
    let mut request = Request {
        kind,
        number,
        of: number,
        length: length as u32,
        message_length: message_length as u32,
        invalidates: kind != Kind::Echo && chance.once_in(2),
    };
    request.message_length = request.message_length.max(request.filler_at());
    request
}

/// One of many that fill what waits for a child.
pub(super) fn flooding(flood: Flood, number: u32, chance: &mut Chance) -> Request {
    let message_length = match flood {
        Flood::Messages => chance.between(u64::from(REQUEST_SIZE), 40),
        Flood::Bytes => chance.between(120_000, 131_072),
    };
    Request {
        message_length: message_length as u32,
        ..short(number)
    }
}

/// The shortest there is.
pub(super) fn short(number: u32) -> Request {
    Request {
        kind: Kind::Echo,
        number,
        of: number,
        length: 1,
        message_length: REQUEST_SIZE,
        invalidates: false,
    }
}
