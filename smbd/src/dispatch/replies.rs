//! The replies to one chain: gathered, padded, linked, signed, granted credits, handed to the
//! channel (MS-SMB2 3.3.4.1). A chain may be answered in several messages: where the next reply
//! would exceed what the peer takes, and where its last request goes asynchronous.

use std::rc::Rc;

use proto::relay::MAX_WRITES;
use proto::smb2::error::ErrorResponse;
use proto::smb2::transform::TransformHeader;
use proto::smb2::{Addressing, AsyncId, Command, HEADER_SIZE, Header, NtStatus};

use super::LARGE;
use crate::channel::{Buffers, Outgoing, OutgoingPayload, Piece};
use crate::child::Child;
use crate::handlers::{Data, PreauthTarget, Response};
use crate::security::signing::SigningKey;
use crate::state::{Connection, Session};
use crate::sys::pool::{Pool, RunAs};

/// Bodies up to this size are copied behind their header; longer ones stay a piece of their own.
const COPIED_BODY: usize = 4096;
const ALIGNMENT: usize = 8;
const NO_CIPHER: &str = "a reply of a session without a cipher";

/// Replies of one chain that are not sent yet.
pub struct Replies<'a> {
    connection: &'a Connection,
    buffers: &'a Buffers,
    /// Whose cipher seals the replies: the requests came encrypted.
    encryption: Option<&'a Session>,
    waiting: Vec<Reply>,
    size: usize,
    writes: Vec<OutgoingPayload>,
    invalidate: Option<u32>,
}

/// How a response is signed, beside what its handler says.
#[derive(Default)]
pub struct Signature {
    /// With this key.
    pub key: Option<Rc<SigningKey>>,
    /// Where there is no key: the response says that it is signed all the same.
    pub claimed: bool,
}

/// One element, complete but for credits, link and signature.
struct Reply {
    header: Header,
    body: Vec<u8>,
    data: Piece,
    compress: bool,
    credits: u16,
    signature: Signature,
    preauth: Option<PreauthTarget>,
}

impl Reply {
    fn size(&self) -> usize {
        (HEADER_SIZE + self.body.len() + self.data.len()).next_multiple_of(ALIGNMENT)
    }
}

impl<'a> Replies<'a> {
    /// No reply yet.
    pub fn new(
        connection: &'a Connection,
        buffers: &'a Buffers,
        encryption: Option<&'a Session>,
    ) -> Replies<'a> {
        Replies {
            connection,
            buffers,
            encryption,
            waiting: Vec::new(),
            size: 0,
            writes: Vec::new(),
            invalidate: None,
        }
    }

    /// Adds the final response to `request`. `async_id` is the one its interim response gave.
    pub fn add(
        &mut self,
        request: &Header,
        outcome: Result<Response, NtStatus>,
        async_id: Option<AsyncId>,
        signature: Signature,
        invalidate: Option<u32>,
    ) {
        let mut limit = self.connection.channel.limits().max_send as usize;
        if self.encryption.is_some() {
            limit = limit.saturating_sub(TransformHeader::SIZE);
        }
        let mut response = outcome.unwrap_or_else(error_response);
        let data_length = match &response.data {
            Data::Bytes(bytes) => bytes.len(),
            Data::None | Data::Rdma { .. } => 0,
        };
        if HEADER_SIZE + response.body.len() + data_length > limit {
            response = error_response(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let mut header = request.response(response.status, 0);
        if let Some(session) = response.header.session {
            header.session_id = session;
        }
        if let (Some(tree), Addressing::Sync(_)) = (response.header.tree, header.addressing) {
            header.addressing = Addressing::Sync(tree);
        }
        let credits = match async_id {
            // The interim response granted them (MS-SMB2 3.3.4.2).
            Some(id) => {
                header.addressing = Addressing::Async(id);
                0
            }
            None => credits_wanted(self.connection, request, response.status),
        };
        let mut reply = Reply {
            header,
            body: response.body,
            data: Piece::default(),
            compress: response.compress,
            credits,
            // A sealed message is not signed as well (MS-SMB2 3.3.4.1.1).
            signature: match self.encryption {
                Some(_) => Signature::default(),
                None => Signature {
                    key: response.header.signing_key.or(signature.key),
                    ..signature
                },
            },
            preauth: response.header.preauth,
        };
        let mut write = None;
        match response.data {
            Data::None => {}
            Data::Bytes(bytes) => reply.data = bytes,
            Data::Rdma {
                payload,
                length,
                descriptors,
            } => {
                write = Some(OutgoingPayload {
                    payload,
                    length,
                    descriptors,
                });
            }
        }
        if self.size + reply.size() > limit
            || self.writes.len() + usize::from(write.is_some()) > MAX_WRITES
        {
            self.send();
        }
        self.size += reply.size();
        self.writes.extend(write);
        // One token a message; the first request's, as the first is what the client waits for.
        self.invalidate = self.invalidate.or(response.invalidate).or(invalidate);
        self.waiting.push(reply);
    }

    /// Sends what there is, then the interim response to `request` as a message of its own, which
    /// is never signed and invalidates nothing (MS-SMB2 3.3.4.2).
    pub fn add_interim(&mut self, request: &Header, async_id: AsyncId) {
        self.send();
        let mut response = error_response(NtStatus::PENDING);
        let mut header = request.response(NtStatus::PENDING, 0);
        header.addressing = Addressing::Async(async_id);
        self.size = HEADER_SIZE + response.body.len();
        self.waiting.push(Reply {
            header,
            body: std::mem::take(&mut response.body),
            data: Piece::default(),
            compress: false,
            credits: credits_wanted(self.connection, request, NtStatus::SUCCESS),
            signature: Signature::default(),
            preauth: None,
        });
        self.send();
    }

    /// Whether replies that wait here keep memory of the client's region in use.
    pub fn holds_payload(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Sends what there is as one message.
    pub fn send(&mut self) {
        let Some(mut outgoing) = self.gather() else {
            return;
        };
        if let Some(session) = self.encryption {
            let Some(cipher) = &session.cipher else {
                return self.connection.end(NO_CIPHER);
            };
            let mut message = for_sealing(outgoing.pieces, self.buffers);
            if let Err(used_up) = cipher.seal(session.id, &mut message) {
                return self.connection.end(used_up.to_string());
            }
            outgoing.pieces = vec![message];
        }
        self.connection.channel.send(outgoing);
    }

    /// As [`Replies::send`], for the last time; a large message is sealed on the pool.
    pub async fn send_last(mut self, pool: &Pool) {
        let Some(session) = self.encryption.filter(|_| self.size >= LARGE) else {
            return self.send();
        };
        let Some(mut outgoing) = self.gather() else {
            return;
        };
        let Some(cipher) = session.cipher.clone() else {
            return self.connection.end(NO_CIPHER);
        };
        let mut message = for_sealing(std::mem::take(&mut outgoing.pieces), self.buffers);
        let id = session.id;
        let seal = move || cipher.seal(id, &mut message).map(|()| message);
        match pool.run(RunAs::Anyone, seal).await {
            Ok(Ok(message)) => outgoing.pieces.push(message),
            Ok(Err(used_up)) => return self.connection.end(used_up.to_string()),
            Err(lost) => return self.connection.end(lost.to_string()),
        }
        if self.connection.ended().is_none() {
            self.connection.channel.send(outgoing);
        }
    }

    /// What there is, linked, signed and granted credits, as one message in the clear.
    fn gather(&mut self) -> Option<Outgoing> {
        let waiting = std::mem::take(&mut self.waiting);
        self.size = 0;
        let writes = std::mem::take(&mut self.writes);
        let invalidate = self.invalidate.take();
        if waiting.is_empty() || self.connection.ended().is_some() {
            return None;
        }
        let wanted = waiting
            .iter()
            .fold(0u16, |sum, reply| sum.saturating_add(reply.credits));
        let granted = self.connection.window.borrow_mut().grant(wanted);
        let compressible = waiting
            .last()
            .filter(|reply| reply.compress && !reply.data.is_empty())
            .map(|reply| reply.data.len());
        let mut pieces = Vec::with_capacity(waiting.len());
        let count = waiting.len();
        for (index, reply) in waiting.into_iter().enumerate() {
            let is_last = index + 1 == count;
            let credits = if is_last { granted } else { 0 };
            reply.finish(credits, is_last, self.buffers, &mut pieces);
        }
        if let Some(length) = compressible {
            self.compress(&mut pieces, length);
        }
        Some(Outgoing {
            pieces,
            writes,
            invalidate,
        })
    }

    /// Compresses the last `length` bytes, a READ's data: behind signing, before encryption (MS-SMB2
    /// 3.3.4.1). What would not be shorter stays as it is.
    fn compress(&self, pieces: &mut Vec<Piece>, length: usize) {
        let Some(compression) = self.connection.compression() else {
            return;
        };
        let Some((last, before)) = pieces.split_last() else {
            return;
        };
        let Some((head, data)) = last
            .len()
            .checked_sub(length)
            .and_then(|at| last.split_at_checked(at))
        else {
            return;
        };
        let mut leading = before.concat();
        leading.extend_from_slice(head);
        let mut out = self.buffers.spare(Piece::ROOM + data.len());
        Piece::make_room(&mut out);
        if let Some(message) = compression.compress(&leading, data, out) {
            for piece in std::mem::replace(pieces, vec![Piece::behind_room(message)]) {
                self.buffers.put(piece.into_buffer());
            }
        }
    }
}

impl Reply {
    fn finish(mut self, credits: u16, is_last: bool, buffers: &Buffers, pieces: &mut Vec<Piece>) {
        let length = HEADER_SIZE + self.body.len() + self.data.len();
        let padding = if is_last {
            0
        } else {
            length.next_multiple_of(ALIGNMENT) - length
        };
        self.header.credits = credits;
        if !is_last {
            self.header.next_command = u32::try_from(length + padding).unwrap_or(u32::MAX);
        }
        if self.signature.key.is_some() || self.signature.claimed {
            self.header.flags |= proto::smb2::HeaderFlags::SIGNED;
        }
        let mut head =
            Vec::with_capacity(Piece::ROOM + HEADER_SIZE + self.body.len().min(COPIED_BODY));
        Piece::make_room(&mut head);
        self.header.encode(&mut head);
        if self.body.len() <= COPIED_BODY {
            head.append(&mut self.body);
        }
        let head = Piece::behind_room(head);
        let mut parts = match self.body.is_empty() && self.data.prepend(&head) {
            true => vec![self.data],
            false => vec![head, self.body.into(), self.data],
        };
        parts.retain(|part| !part.is_empty());
        if let Some(last) = parts.last_mut() {
            last.extend_from_slice(&[0; ALIGNMENT][..padding]);
        }
        if let Some(key) = &self.signature.key {
            sign(key, &mut parts, buffers);
        }
        if let Some(preauth) = &self.preauth {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            preauth.update(&parts);
        }
        pieces.append(&mut parts);
    }
}

/// Signs an element: where it lies if it is in one piece.
fn sign(key: &SigningKey, parts: &mut [Piece], buffers: &Buffers) {
    if let [whole] = parts {
        key.sign_whole(whole);
        return;
    }
    let length = parts.iter().fold(0, |sum, part| sum + part.len());
    let Some((head, rest)) = parts.split_first_mut() else {
        return;
    };
    let Some((header, behind)) = head.split_first_chunk_mut::<HEADER_SIZE>() else {
        return;
    };
    let mut signed: Vec<&[u8]> = vec![behind];
    signed.extend(rest.iter().map(|part| &**part));
    let mut gather = buffers.spare(length);
    key.sign_in_place(header, &signed, &mut gather);
    buffers.put(gather);
}

/// A message as one piece that begins with room for a transform header; without a copy if it is in
/// one piece already.
fn for_sealing(mut pieces: Vec<Piece>, buffers: &Buffers) -> Piece {
    if pieces.len() == 1
        && let Some(piece) = pieces.pop_if(|piece| piece.grow(TransformHeader::SIZE))
    {
        return piece;
    }
    let length = pieces
        .iter()
        .fold(Piece::ROOM, |sum, piece| sum + piece.len());
    let mut message = buffers.spare(length);
    message.reserve_exact(length);
    Piece::make_room(&mut message);
    for piece in pieces {
        message.extend_from_slice(&piece);
        buffers.put(piece.into_buffer());
    }
    let mut message = Piece::behind_room(message);
    message.grow(TransformHeader::SIZE);
    message
}

/// Sends what no request asked for; sealed where the session's messages must be, never signed
/// (MS-SMB2 3.3.4.1.1).
pub fn send_unsolicited(
    child: &Child,
    connection: &Connection,
    session: &Session,
    message: Vec<u8>,
) {
    let mut message = Piece::from(message);
    if let Some(cipher) = session.cipher.as_ref().filter(|_| session.encrypt_data) {
        message = for_sealing(vec![message], &child.buffers);
        if let Err(used_up) = cipher.seal(session.id, &mut message) {
            return connection.end(used_up.to_string());
        }
    }
    connection.channel.send(Outgoing {
        pieces: vec![message],
        writes: Vec::new(),
        invalidate: None,
    });
}

/// An error's response (MS-SMB2 2.2.2).
fn error_response(status: NtStatus) -> Response {
    let mut body = Vec::with_capacity(9);
    ErrorResponse::default().encode(&mut body);
    Response {
        status,
        body,
        ..Response::default()
    }
}

/// What a response asks the window for (MS-SMB2 3.3.1.2): the charge back, and what the client
/// wants beyond it, but nothing beyond it before a session is authenticated. Servers that grant
/// all that is asked for are what clients are tuned to.
fn credits_wanted(connection: &Connection, request: &Header, status: NtStatus) -> u16 {
    let charge = match connection.is_multi_credit() {
        true => request.credit_charge.max(1),
        false => 1,
    };
    let more = request.credits.max(1) - 1;
    match request.command() {
        Ok(Command::Negotiate) => charge,
        Ok(Command::SessionSetup) if status != NtStatus::SUCCESS => charge,
        _ => charge.saturating_add(more),
    }
}

#[cfg(test)]
mod tests;
