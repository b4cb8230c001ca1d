//! What travels between two ends of a simulated connection: frames of a header and data, over a
//! stream socket. Both ends are this program, so a frame that does not decode is end of file.

use serde::{Deserialize, Serialize};

/// A frame's header. Requests of the send queue are answered one by one and in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// Active: asks for a connection; the data is private.
    Connect {
        address: std::net::SocketAddr,
        initiator_depth: u8,
        responder_resources: u8,
    },
    /// Passive: takes it; the data is private.
    Accept {
        initiator_depth: u8,
        responder_resources: u8,
    },
    /// Passive: refuses it.
    Reject,
    /// Active: has seen the acceptance.
    Ready,
    /// Either: ends the connection.
    Disconnect,
    /// The answer to `Disconnect`.
    Disconnected,
    /// SEND; its bytes are the data.
    Send { invalidate: Option<u32> },
    /// RDMA WRITE of the data.
    Write { address: u64, token: u32 },
    /// RDMA READ.
    Read {
        address: u64,
        token: u32,
        length: u32,
    },
    /// The oldest unanswered request is done; a READ's bytes are the data.
    Done,
    /// The oldest unanswered request failed with this `ibv_wc_status`.
    Refused { status: u8 },
}

/// More data than any request carries.
const LONGEST: usize = 64 << 20;
const PREFIX: usize = 8;

/// Appends a frame.
pub(super) fn encode(frame: &Frame, data: &[u8], out: &mut Vec<u8>) {
    let header = postcard::to_stdvec(frame).unwrap_or_default();
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
}

/// A frame as it stands in a buffer.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) frame: Frame,
    pub(super) data: &'a [u8],
    /// Bytes of the buffer it takes.
    pub(super) length: usize,
}

/// What was received is no frame.
#[derive(Debug)]
pub(super) struct NoFrame;

/// The first frame of `bytes`; `Ok(None)` when it is not all there.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<Received<'_>>, NoFrame> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else {
        return Ok(None);
    };
    let number = |at: usize| -> usize {
        let four = prefix.get(at..at + 4).and_then(|four| four.try_into().ok());
        u32::from_le_bytes(four.unwrap_or_default()) as usize
    };
    let (header, data) = (number(0), number(4));
    if header > LONGEST || data > LONGEST {
        return Err(NoFrame);
    }
    let Some(body) = rest.get(..header + data) else {
        return Ok(None);
    };
    let (encoded, data) = body.split_at(header);
    Ok(Some(Received {
        frame: postcard::from_bytes(encoded).map_err(|_| NoFrame)?,
        data,
        length: PREFIX + body.len(),
    }))
}
