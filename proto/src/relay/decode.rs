//! Reading records out of a datagram's private copy. Anything that is not exactly a record of
//! the table is an error that ends the connection; nothing here can panic on its input.

use std::marker::PhantomData;

use zerocopy::FromBytes;

use super::encode::{FLAG_INLINE, FLAG_INVALIDATE, address, kind};
use super::{
    Attached, Body, CloseReason, Descriptor, Hello, MAX_DESCRIPTORS, MAX_INLINE, MAX_WORDS,
    MAX_WRITES, MessageSequence, OperationId, Outcome, Outline, PayloadWrite, RECORD_HEADER,
    RegionRange, ToChild, ToGateway, VERSION, Word,
};

/// Why a datagram is not a sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// A record or a field ends behind the datagram's or the record's end.
    #[error("a record is cut off")]
    Truncated,
    /// The kind is none that this end may receive.
    #[error("record kind {0} is not one this end receives")]
    UnknownKind(u16),
    /// The two processes are not of one build.
    #[error(
        "the relay speaks version {0}, this build {VERSION}; install smbd and smbdirectd together"
    )]
    Version(u32),
    /// A field holds what it may not.
    #[error("field {field} of a record holds {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it held.
        value: u64,
    },
}

/// A direction of the relay: how one of its records is read.
pub trait Direction<'a>: Sized {
    /// Reads the record of `kind` from `body`.
    #[doc(hidden)]
    fn read(kind: u16, flags: u16, body: &mut Cursor<'a>) -> Result<Self, RelayError>;
}

/// The records of a datagram, first to last. After an error there are no more.
#[derive(Debug)]
pub struct Records<'a, D> {
    rest: &'a [u8],
    direction: PhantomData<D>,
}

/// What a child reads.
pub type ToChildRecords<'a> = Records<'a, ToChild<'a>>;
/// What smbdirectd reads.
pub type ToGatewayRecords<'a> = Records<'a, ToGateway<'a>>;

impl<'a, D: Direction<'a>> Records<'a, D> {
    /// Reads `datagram`.
    pub fn new(datagram: &'a [u8]) -> Records<'a, D> {
        Records {
            rest: datagram,
            direction: PhantomData,
        }
    }

    fn next_record(&mut self) -> Result<D, RelayError> {
        let mut header = Cursor(self.rest);
        let length = header.u32()? as usize;
        let kind = header.u16()?;
        let flags = header.u16()?;
        if length < RECORD_HEADER || !length.is_multiple_of(8) {
            return Err(field("length", length as u64));
        }
        let (record, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RelayError::Truncated)?;
        self.rest = rest;
        let body = record.get(RECORD_HEADER..).unwrap_or(&[]);
        D::read(kind, flags, &mut Cursor(body))
    }
}

impl<'a, D: Direction<'a>> Iterator for Records<'a, D> {
    type Item = Result<D, RelayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.next_record();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl<'a> Direction<'a> for ToChild<'a> {
    fn read(kind: u16, flags: u16, body: &mut Cursor<'a>) -> Result<Self, RelayError> {
        Ok(match kind {
            kind::HELLO => ToChild::Hello(read_hello(flags, body)?),
            kind::MESSAGE => ToChild::Message {
                sequence: MessageSequence(body.u64()?),
                body: body.body(flags)?,
            },
            kind::AHEAD => ToChild::Ahead {
                operation: OperationId(body.u64()?),
                length: body.u32()?,
            },
            kind::RETURNED => ToChild::Returned {
                operation: OperationId(body.u64()?),
            },
            kind::ATTACHED => {
                let (region_size, payload_offset) = (body.u64()?, body.u64()?);
                let (ring_offset, ring_size) = (body.u64()?, body.u32()?);
                ToChild::Attached(Attached {
                    region_size,
                    payload_offset,
                    ring_offset,
                    ring_size,
                    part_size: body.u32()?,
                    parts: body.u32()?,
                    max_parts: body.u32()?,
                })
            }
            kind::ATTACH_REFUSED => ToChild::AttachRefused,
            kind::GROWN => ToChild::Grown { parts: body.u32()? },
            kind::PAYLOAD_READY => ToChild::PayloadReady {
                operation: OperationId(body.u64()?),
                outcome: body.outcome()?,
            },
            kind::SENT => ToChild::Sent {
                operation: OperationId(body.u64()?),
                outcome: body.outcome()?,
            },
            kind::CLOSED => ToChild::Closed {
                reason: body.reason()?,
            },
            kind::DRAINED => ToChild::Drained,
            other => return Err(RelayError::UnknownKind(other)),
        })
    }
}

impl<'a> Direction<'a> for ToGateway<'a> {
    fn read(kind: u16, flags: u16, body: &mut Cursor<'a>) -> Result<Self, RelayError> {
        Ok(match kind {
            kind::ATTACH => ToGateway::Attach,
            kind::MAPPED => ToGateway::Mapped,
            kind::RELEASE => ToGateway::Release {
                through: MessageSequence(body.u64()?),
            },
            kind::READ_PAYLOAD => ToGateway::ReadPayload {
                operation: OperationId(body.u64()?),
                target: body.range()?,
                descriptors: body.descriptors()?,
            },
            kind::EXPECT => ToGateway::Expect {
                outline: body.outline()?,
            },
            kind::LEND => ToGateway::Lend {
                operation: OperationId(body.u64()?),
                target: body.range()?,
            },
            kind::RECALL => ToGateway::Recall,
            kind::REPLY => {
                let operation = OperationId(body.u64()?);
                let token = body.u32()?;
                let count = body.u32()?;
                if count as usize > MAX_WRITES {
                    return Err(field("writes", u64::from(count)));
                }
                let mut writes = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    writes.push(PayloadWrite {
                        source: body.range()?,
                        descriptors: body.descriptors()?,
                    });
                }
                ToGateway::Reply {
                    operation,
                    invalidate: (flags & FLAG_INVALIDATE != 0).then_some(token),
                    writes,
                    body: body.body(flags)?,
                }
            }
            kind::GROW => ToGateway::Grow { parts: body.u32()? },
            kind::CLOSE => ToGateway::Close {
                reason: body.reason()?,
            },
            other => return Err(RelayError::UnknownKind(other)),
        })
    }
}

fn read_hello(flags: u16, body: &mut Cursor<'_>) -> Result<Hello, RelayError> {
    let version = body.u32()?;
    if version != u32::from(VERSION) {
        return Err(RelayError::Version(version));
    }
    let name_length = body.u32()? as usize;
    let (connection, link_speed) = (body.u64()?, body.u64()?);
    let (peer, local) = (body.address()?, body.address()?);
    let (max_read_write, max_send, max_receive) = (body.u32()?, body.u32()?, body.u32()?);
    let (max_messages, max_operations) = (body.u32()?, body.u32()?);
    let name = body.bytes(name_length)?;
    Ok(Hello {
        peer,
        local,
        device: String::from_utf8_lossy(name).into_owned(),
        connection,
        link_speed,
        max_read_write,
        max_send,
        max_receive,
        max_messages,
        max_operations,
        invalidate: flags & FLAG_INVALIDATE != 0,
    })
}

/// What is left of one record's body.
#[derive(Debug)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RelayError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(RelayError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RelayError> {
        self.bytes(N)?.try_into().map_err(|_| RelayError::Truncated)
    }

    fn u16(&mut self) -> Result<u16, RelayError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, RelayError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RelayError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn range(&mut self) -> Result<RegionRange, RelayError> {
        let (offset, length) = (self.u64()?, self.u32()?);
        if length == 0 {
            return Err(field("range length", 0));
        }
        Ok(RegionRange { offset, length })
    }

    fn descriptors(&mut self) -> Result<&'a [Descriptor], RelayError> {
        let count = self.u32()? as usize;
        if count == 0 || count > MAX_DESCRIPTORS {
            return Err(field("descriptor count", count as u64));
        }
        let bytes = self.bytes(count * size_of::<Descriptor>())?;
        <[Descriptor]>::ref_from_bytes(bytes).map_err(|_| RelayError::Truncated)
    }

    fn outline(&mut self) -> Result<Outline, RelayError> {
        let (length_at, descriptors_at) = (self.u16()?, self.u16()?);
        let (descriptors, count) = (self.u16()?, self.u16()?);
        if descriptors == 0 || usize::from(descriptors) > MAX_DESCRIPTORS {
            return Err(field("descriptor count", descriptors.into()));
        }
        if count == 0 || usize::from(count) > MAX_WORDS {
            return Err(field("word count", count.into()));
        }
        let words = (0..count).map(|_| {
            let at = self.u32()?;
            Ok(Word {
                at: u16::try_from(at).map_err(|_| field("word position", at.into()))?,
                mask: self.u32()?,
                value: self.u32()?,
            })
        });
        Ok(Outline {
            words: words.collect::<Result<_, RelayError>>()?,
            length_at,
            descriptors_at,
            descriptors,
        })
    }

    fn body(&mut self, flags: u16) -> Result<Body<'a>, RelayError> {
        if flags & FLAG_INLINE == 0 {
            return Ok(Body::InRegion(self.range()?));
        }
        let length = self.u32()?;
        if length == 0 || length > MAX_INLINE {
            return Err(field("inline length", u64::from(length)));
        }
        Ok(Body::Inline(self.bytes(length as usize)?))
    }

    fn outcome(&mut self) -> Result<Outcome, RelayError> {
        match self.u32()? {
            0 => Ok(Outcome::Done),
            1 => Ok(Outcome::ConnectionLost),
            other => Err(field("outcome", u64::from(other))),
        }
    }

    fn reason(&mut self) -> Result<CloseReason, RelayError> {
        Ok(match self.u32()? {
            1 => CloseReason::PeerDisconnected,
            2 => CloseReason::PeerViolation,
            3 => CloseReason::TimedOut,
            4 => CloseReason::DeviceError,
            5 => CloseReason::RelayViolation,
            6 => CloseReason::ServerClosed,
            7 => CloseReason::LimitReached,
            other => return Err(field("reason", u64::from(other))),
        })
    }

    fn address(&mut self) -> Result<std::net::SocketAddr, RelayError> {
        let (family, port) = (self.u16()?, self.u16()?);
        let scope = self.u32()?;
        address(family, port, scope, self.array()?).ok_or(field("family", u64::from(family)))
    }
}

fn field(field: &'static str, value: u64) -> RelayError {
    RelayError::Field { field, value }
}
