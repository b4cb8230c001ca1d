//! Writing records: each `encode` appends one whole record and fills in its length.

use std::net::{IpAddr, SocketAddr};

use zerocopy::IntoBytes;

use super::{
    Body, Hello, Outline, PayloadWrite, RECORD_HEADER, RegionRange, ToChild, ToGateway, VERSION,
};

/// Kind tags; smbdirectd's below 16, the child's from 16 up.
pub(super) mod kind {
    pub const HELLO: u16 = 1;
    pub const MESSAGE: u16 = 2;
    pub const ATTACHED: u16 = 3;
    pub const ATTACH_REFUSED: u16 = 4;
    pub const GROWN: u16 = 5;
    pub const PAYLOAD_READY: u16 = 6;
    pub const SENT: u16 = 7;
    pub const CLOSED: u16 = 8;
    pub const DRAINED: u16 = 9;
    pub const AHEAD: u16 = 10;
    pub const RETURNED: u16 = 11;
    pub const ATTACH: u16 = 16;
    pub const MAPPED: u16 = 17;
    pub const RELEASE: u16 = 18;
    pub const READ_PAYLOAD: u16 = 19;
    pub const REPLY: u16 = 20;
    pub const GROW: u16 = 21;
    pub const CLOSE: u16 = 22;
    pub const EXPECT: u16 = 23;
    pub const LEND: u16 = 24;
    pub const RECALL: u16 = 25;
}

/// Flag: the message's bytes follow in the record.
pub(super) const FLAG_INLINE: u16 = 1;
/// Flag: `hello` says that SEND_WITH_INV works, `reply` that its token is to be invalidated.
pub(super) const FLAG_INVALIDATE: u16 = 2;

impl ToChild<'_> {
    /// Appends this record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToChild::Hello(hello) => {
                let flags = if hello.invalidate { FLAG_INVALIDATE } else { 0 };
                record(out, kind::HELLO, flags, |out| encode_hello(hello, out));
            }
            ToChild::Message { sequence, body } => {
                record(out, kind::MESSAGE, flag_of(body), |out| {
                    put64(out, sequence.0);
                    put_body(out, body);
                });
            }
            ToChild::Ahead { operation, length } => record(out, kind::AHEAD, 0, |out| {
                put64(out, operation.0);
                put32(out, *length);
            }),
            ToChild::Returned { operation } => {
                record(out, kind::RETURNED, 0, |out| put64(out, operation.0));
            }
            ToChild::Attached(attached) => record(out, kind::ATTACHED, 0, |out| {
                put64(out, attached.region_size);
                put64(out, attached.payload_offset);
                put64(out, attached.ring_offset);
                put32(out, attached.ring_size);
                put32(out, attached.part_size);
                put32(out, attached.parts);
                put32(out, attached.max_parts);
            }),
            ToChild::AttachRefused => record(out, kind::ATTACH_REFUSED, 0, |_| {}),
            ToChild::Grown { parts } => record(out, kind::GROWN, 0, |out| put32(out, *parts)),
            ToChild::PayloadReady { operation, outcome } => {
                record(out, kind::PAYLOAD_READY, 0, |out| {
                    put64(out, operation.0);
                    put32(out, *outcome as u32);
                });
            }
            ToChild::Sent { operation, outcome } => record(out, kind::SENT, 0, |out| {
                put64(out, operation.0);
                put32(out, *outcome as u32);
            }),
            ToChild::Closed { reason } => {
                record(out, kind::CLOSED, 0, |out| put32(out, *reason as u32));
            }
            ToChild::Drained => record(out, kind::DRAINED, 0, |_| {}),
        }
    }
}

impl ToGateway<'_> {
    /// Appends this record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToGateway::Attach => record(out, kind::ATTACH, 0, |_| {}),
            ToGateway::Mapped => record(out, kind::MAPPED, 0, |_| {}),
            ToGateway::Release { through } => {
                record(out, kind::RELEASE, 0, |out| put64(out, through.0));
            }
            ToGateway::ReadPayload {
                operation,
                target,
                descriptors,
            } => record(out, kind::READ_PAYLOAD, 0, |out| {
                put64(out, operation.0);
                put_range(out, target);
                put32(out, descriptors.len() as u32);
                out.extend_from_slice(descriptors.as_bytes());
            }),
            ToGateway::Expect { outline } => {
                record(out, kind::EXPECT, 0, |out| put_outline(out, outline));
            }
            ToGateway::Lend { operation, target } => record(out, kind::LEND, 0, |out| {
                put64(out, operation.0);
                put_range(out, target);
            }),
            ToGateway::Recall => record(out, kind::RECALL, 0, |_| {}),
            ToGateway::Reply {
                operation,
                invalidate,
                writes,
                body,
            } => {
                let token = if invalidate.is_some() {
                    FLAG_INVALIDATE
                } else {
                    0
                };
                record(out, kind::REPLY, flag_of(body) | token, |out| {
                    put64(out, operation.0);
                    put32(out, invalidate.unwrap_or(0));
                    put32(out, writes.len() as u32);
                    for write in writes {
                        put_write(out, write);
                    }
                    put_body(out, body);
                });
            }
            ToGateway::Grow { parts } => record(out, kind::GROW, 0, |out| put32(out, *parts)),
            ToGateway::Close { reason } => {
                record(out, kind::CLOSE, 0, |out| put32(out, *reason as u32));
            }
        }
    }
}

fn record(out: &mut Vec<u8>, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put32(out, 0);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    debug_assert_eq!(out.len() - start, RECORD_HEADER);
    body(out);
    let length = (out.len() - start).next_multiple_of(8);
    out.resize(start + length, 0);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&(length as u32).to_le_bytes());
    }
}

fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    put32(out, u32::from(VERSION));
    put32(out, hello.device.len() as u32);
    put64(out, hello.connection);
    put64(out, hello.link_speed);
    put_address(out, &hello.peer);
    put_address(out, &hello.local);
    put32(out, hello.max_read_write);
    put32(out, hello.max_send);
    put32(out, hello.max_receive);
    put32(out, hello.max_messages);
    put32(out, hello.max_operations);
    out.extend_from_slice(hello.device.as_bytes());
}

/// 24 bytes: family (4 or 6), port, scope, 16 bytes of address.
fn put_address(out: &mut Vec<u8>, address: &SocketAddr) {
    let (family, octets, scope) = match address {
        SocketAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.ip().octets());
            (4u16, octets, 0)
        }
        SocketAddr::V6(v6) => (6, v6.ip().octets(), v6.scope_id()),
    };
    out.extend_from_slice(&family.to_le_bytes());
    out.extend_from_slice(&address.port().to_le_bytes());
    put32(out, scope);
    out.extend_from_slice(&octets);
}

/// The inverse of [`put_address`].
pub(super) fn address(family: u16, port: u16, scope: u32, octets: [u8; 16]) -> Option<SocketAddr> {
    let ip: IpAddr = match family {
        4 => <[u8; 4]>::try_from(&octets[..4]).ok()?.into(),
        6 => octets.into(),
        _ => return None,
    };
    let mut address = SocketAddr::new(ip, port);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_scope_id(scope);
    }
    Some(address)
}

fn put_outline(out: &mut Vec<u8>, outline: &Outline) {
    for field in [
        outline.length_at,
        outline.descriptors_at,
        outline.descriptors,
        outline.words.len() as u16,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for word in &outline.words {
        put32(out, word.at.into());
        put32(out, word.mask);
        put32(out, word.value);
    }
}

fn put_write(out: &mut Vec<u8>, write: &PayloadWrite<'_>) {
    put_range(out, &write.source);
    put32(out, write.descriptors.len() as u32);
    out.extend_from_slice(write.descriptors.as_bytes());
}

fn put_body(out: &mut Vec<u8>, body: &Body<'_>) {
    match body {
        Body::Inline(bytes) => {
            put32(out, bytes.len() as u32);
            out.extend_from_slice(bytes);
        }
        Body::InRegion(range) => put_range(out, range),
    }
}

fn put_range(out: &mut Vec<u8>, range: &RegionRange) {
    put64(out, range.offset);
    put32(out, range.length);
}

fn flag_of(body: &Body<'_>) -> u16 {
    match body {
        Body::Inline(_) => FLAG_INLINE,
        Body::InRegion(_) => 0,
    }
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
