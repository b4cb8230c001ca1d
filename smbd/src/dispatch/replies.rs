//! The replies to one chain: gathered, padded, linked, signed, granted credits, handed to the
//! channel (MS-SMB2 3.3.4.1). A chain may be answered in several messages: where the next reply
//! would exceed what the peer takes, and where its last request goes asynchronous.

use std::rc::Rc;

use proto::relay::MAX_WRITES;
use proto::smb2::error::ErrorResponse;
use proto::smb2::transform::TransformHeader;
use proto::smb2::{Addressing, AsyncId, Command, HEADER_SIZE, Header, NtStatus};

use crate::channel::{Buffers, Outgoing, OutgoingPayload};
use crate::child::Child;
use crate::handlers::{Data, PreauthTarget, Response};
use crate::security::signing::SigningKey;
use crate::state::{Connection, Session};

/// Bodies up to this size are copied behind their header; longer ones stay a piece of their own.
const COPIED_BODY: usize = 4096;
const ALIGNMENT: usize = 8;

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
    data: Vec<u8>,
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
            data: Vec::new(),
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
            data: Vec::new(),
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
        let waiting = std::mem::take(&mut self.waiting);
        self.size = 0;
        let writes = std::mem::take(&mut self.writes);
        let invalidate = self.invalidate.take();
        if waiting.is_empty() || self.connection.ended().is_some() {
            return;
        }
        let wanted = waiting
            .iter()
            .fold(0u16, |sum, reply| sum.saturating_add(reply.credits));
        let granted = self.connection.window.borrow_mut().grant(wanted);
        let mut pieces = Vec::with_capacity(waiting.len());
        let count = waiting.len();
        for (index, reply) in waiting.into_iter().enumerate() {
            let is_last = index + 1 == count;
            let credits = if is_last { granted } else { 0 };
            reply.finish(credits, is_last, self.buffers, &mut pieces);
        }
        if let Some(session) = self.encryption {
            let plain = std::mem::take(&mut pieces);
            let length = plain
                .iter()
                .fold(TransformHeader::SIZE, |sum, piece| sum + piece.len());
            let sealed = session
                .cipher
                .as_ref()
                .map(|cipher| cipher.seal(session.id, &plain, self.buffers.spare(length)));
            plain.into_iter().for_each(|piece| self.buffers.put(piece));
            match sealed {
                Some(Ok(message)) => pieces = vec![message],
                Some(Err(used_up)) => return self.connection.end(used_up.to_string()),
                None => return self.connection.end("a reply of a session without a cipher"),
            }
        }
        self.connection.channel.send(Outgoing {
            pieces,
            writes,
            invalidate,
        });
    }
}

impl Reply {
    fn finish(mut self, credits: u16, is_last: bool, buffers: &Buffers, pieces: &mut Vec<Vec<u8>>) {
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
        let tail = if !self.data.is_empty() {
            &mut self.data
        } else {
            &mut self.body
        };
        tail.resize(tail.len() + padding, 0);
        let mut head = Vec::with_capacity(HEADER_SIZE + self.body.len().min(COPIED_BODY));
        self.header.encode(&mut head);
        if let (Some(key), Some(header)) =
            (&self.signature.key, head.first_chunk_mut::<HEADER_SIZE>())
        {
            let mut gather = buffers.spare(length);
            key.sign_in_place(header, &[&self.body, &self.data], &mut gather);
            buffers.put(gather);
        }
        if let Some(preauth) = &self.preauth {
            preauth.update(&[&head, &self.body, &self.data]);
        }
        if self.body.len() <= COPIED_BODY {
            head.extend_from_slice(&self.body);
            self.body = Vec::new();
        }
        pieces.extend(
            [head, self.body, self.data]
                .into_iter()
                .filter(|piece| !piece.is_empty()),
        );
    }
}

/// Sends what no request asked for; sealed where the session's messages must be, never signed
/// (MS-SMB2 3.3.4.1.1).
pub fn send_unsolicited(
    child: &Child,
    connection: &Connection,
    session: &Session,
    message: Vec<u8>,
) {
    let mut pieces = vec![message];
    if let Some(cipher) = session.cipher.as_ref().filter(|_| session.encrypt_data) {
        match cipher.seal(session.id, &pieces, child.buffers.spare(0)) {
            Ok(sealed) => pieces = vec![sealed],
            Err(used_up) => return connection.end(used_up.to_string()),
        }
    }
    connection.channel.send(Outgoing {
        pieces,
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
