//! One connection: negotiation, message ids and credits, sending, matching replies, signatures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::smb2::header::PROTOCOL_ID;
use proto::smb2::multi_protocol::MultiProtocolNegotiate;
use proto::smb2::negotiate::{Capabilities, NegotiateOffer, NegotiateResponse, SecurityMode};
use proto::smb2::negotiate_context::{
    Compression as CompressionCapabilities, CompressionFlags, ContextType, PreauthIntegrity,
    RawContext, SHA_512, algorithms_data, decode_algorithms, decode_rdma_transforms,
    rdma_transforms_data,
};
use proto::smb2::{
    Addressing, Command, Dialect, Guid, Header, HeaderFlags, MessageId, NtStatus, SessionId, TreeId,
};
use smbd::security::encryption::Cipher;
use smbd::security::keys::PreauthHash;
use smbd::security::signing::{SigningAlgorithm, SigningKey};

use super::protection::Encryption;
use super::{ClientError, Compression, PATIENCE, RdmaTransport, Transport};

/// What the client offers in NEGOTIATE.
#[derive(Debug, Clone)]
pub struct Offer {
    /// ClientGuid.
    pub client_guid: Guid,
    /// Dialect revisions.
    pub dialects: Vec<u16>,
    /// SecurityMode.
    pub security_mode: SecurityMode,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// SigningAlgorithms of a 3.1.1 offer, best first; empty sends no such context.
    pub signing: Vec<SigningAlgorithm>,
    /// Ciphers, likewise.
    pub ciphers: Vec<Cipher>,
    /// RDMATransformIds, likewise.
    pub rdma_transforms: Vec<u16>,
    /// CompressionAlgorithms, likewise.
    pub compression: Vec<u16>,
    /// Of the compression context.
    pub chained_compression: bool,
}

impl Default for Offer {
    fn default() -> Self {
        let mut guid = [0u8; 16];
        aws_lc_rs::rand::fill(&mut guid).expect("the system has random bytes");
        Offer {
            client_guid: Guid(guid),
            dialects: [
                Dialect::Smb210,
                Dialect::Smb300,
                Dialect::Smb302,
                Dialect::Smb311,
            ]
            .map(u16::from)
            .to_vec(),
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::LARGE_MTU | Capabilities::MULTI_CHANNEL,
            signing: vec![SigningAlgorithm::AesCmac],
            ciphers: Vec::new(),
            rdma_transforms: Vec::new(),
            compression: Vec::new(),
            chained_compression: false,
        }
    }
}

impl Offer {
    /// This dialect alone.
    pub fn only(dialect: Dialect) -> Offer {
        Offer {
            dialects: vec![dialect.into()],
            ..Offer::default()
        }
    }
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// The dialect.
    pub dialect: Dialect,
    /// Server's capabilities.
    pub capabilities: Capabilities,
    /// Server's security mode.
    pub security_mode: SecurityMode,
    /// MaxReadSize.
    pub max_read_size: u32,
    /// MaxWriteSize.
    pub max_write_size: u32,
    /// MaxTransactSize.
    pub max_transact_size: u32,
    /// ServerGuid.
    pub server_guid: Guid,
    /// The server's first token.
    pub security_buffer: Vec<u8>,
    /// How 3.x sessions sign.
    pub signing: SigningAlgorithm,
    /// How 3.x sessions encrypt, if they may.
    pub cipher: Option<Cipher>,
    /// RDMATransformIds of the answer; `None` without that context.
    pub rdma_transforms: Option<Vec<u16>>,
    /// CompressionAlgorithms of the answer, and whether chained; `None` without that context.
    pub compression: Option<(Vec<u16>, bool)>,
}

/// One element of a reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// The element, header included, without the padding's meaning.
    pub element: Vec<u8>,
}

impl Reply {
    /// Its status as a result: errors, and only errors, are `Err`.
    pub fn check(self) -> Result<Reply, ClientError> {
        if self.header.status.is_error() {
            return Err(ClientError::Status(self.header.status));
        }
        Ok(self)
    }
}

/// A connection to the server.
pub struct Connection {
    transport: Box<dyn Transport>,
    pub(super) offer: Offer,
    pub(super) negotiated: Option<Negotiated>,
    pub(super) preauth: PreauthHash,
    next_message: u64,
    credits: u32,
    /// Replies that came while another was waited for.
    early: HashMap<MessageId, Vec<Reply>>,
    /// Keys to verify and sign with, by session.
    keys: HashMap<SessionId, Arc<SigningKey>>,
    /// See `client::protection`.
    pub(super) encryption: Encryption,
    /// See `client::compression`.
    pub compression: Compression,
    /// Interim replies seen: the AsyncId by message.
    pub pending: HashMap<MessageId, proto::smb2::AsyncId>,
}

impl Connection {
    /// A connection on which nothing was said yet.
    pub fn new(transport: impl Transport + 'static) -> Connection {
        Connection {
            transport: Box::new(transport),
            offer: Offer::default(),
            negotiated: None,
            preauth: PreauthHash::default(),
            next_message: 0,
            credits: 1,
            early: HashMap::new(),
            keys: HashMap::new(),
            encryption: Encryption::default(),
            compression: Compression::default(),
            pending: HashMap::new(),
        }
    }

    /// A connection on which `offer` was negotiated.
    pub fn negotiate(
        transport: impl Transport + 'static,
        offer: Offer,
    ) -> Result<Connection, ClientError> {
        let mut connection = Connection::new(transport);
        connection.exchange_negotiate(offer)?;
        Ok(connection)
    }

    /// What was negotiated.
    ///
    /// # Panics
    /// Before a successful negotiation.
    pub fn negotiated(&self) -> &Negotiated {
        self.negotiated.as_ref().expect("nothing was negotiated")
    }

    /// What was offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The RDMA side of the transport.
    pub fn rdma(&mut self) -> Result<&mut dyn RdmaTransport, ClientError> {
        self.transport
            .rdma()
            .ok_or_else(|| ClientError::Local("this transport has no RDMA".into()))
    }

    /// Replies that came and that nobody asked for.
    pub fn strays(&self) -> usize {
        self.early.values().map(Vec::len).sum()
    }

    /// Credits the server has granted since the beginning, used or not.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Sends NEGOTIATE and takes its answer, keeping the preauthentication hash.
    pub fn exchange_negotiate(&mut self, offer: Offer) -> Result<(), ClientError> {
        let mut body = Vec::new();
        encode_offer(&offer, &mut body);
        self.offer = offer;
        let header = self.header(Command::Negotiate, None, TreeId(0));
        let request = assemble(&header, &body);
        self.preauth.update(&[&request]);
        self.send_raw(&request)?;
        let reply = self.wait(header.message_id)?.check()?;
        self.preauth.update(&[&reply.element]);
        self.take_negotiated(&reply.element)
    }

    /// Sends an SMB1 NEGOTIATE with these dialect strings, as the first message. An answer of 2.0.2
    /// settles everything; behind [`Dialect::Wildcard`] belongs [`Connection::exchange_negotiate`].
    pub fn exchange_multi_protocol(&mut self, dialects: &[&str]) -> Result<Dialect, ClientError> {
        self.send_raw(&MultiProtocolNegotiate::request(dialects))?;
        let message = MessageId(self.next_message);
        self.next_message += 1;
        let reply = self.wait(message)?.check()?;
        self.offer = Offer::only(Dialect::Smb202);
        self.take_negotiated(&reply.element)?;
        Ok(self.negotiated().dialect)
    }

    fn take_negotiated(&mut self, element: &[u8]) -> Result<(), ClientError> {
        let response = NegotiateResponse::decode(element).map_err(ClientError::protocol)?;
        let dialect =
            Dialect::try_from(response.dialect_revision).map_err(ClientError::protocol)?;
        let mut signing = match dialect {
            Dialect::Smb202 | Dialect::Smb210 | Dialect::Wildcard => SigningAlgorithm::HmacSha256,
            _ => SigningAlgorithm::AesCmac,
        };
        let mut cipher = response
            .capabilities
            .contains(Capabilities::ENCRYPTION)
            .then_some(Cipher::Aes128Ccm);
        let mut rdma_transforms = None;
        let mut compression = None;
        for context in response.contexts.iter() {
            let context = context.map_err(ClientError::protocol)?;
            let chosen = || decode_algorithms(context.data).map_err(ClientError::protocol);
            match context.context_type {
                ContextType::SIGNING_CAPABILITIES => {
                    let id = chosen()?.iter().next().unwrap_or(u16::MAX);
                    signing = SigningAlgorithm::from_id(id)
                        .ok_or_else(|| ClientError::protocol(format!("signing algorithm {id}")))?;
                }
                ContextType::ENCRYPTION_CAPABILITIES => {
                    cipher = chosen()?.iter().next().and_then(Cipher::from_id);
                }
                ContextType::RDMA_TRANSFORM_CAPABILITIES => {
                    let ids =
                        decode_rdma_transforms(context.data).map_err(ClientError::protocol)?;
                    rdma_transforms = Some(ids.iter().collect());
                }
                ContextType::COMPRESSION_CAPABILITIES => {
                    let chosen = CompressionCapabilities::decode(context.data)
                        .map_err(ClientError::protocol)?;
                    let ids: Vec<u16> = chosen.algorithms.iter().collect();
                    let chained = chosen.flags.contains(CompressionFlags::CHAINED);
                    self.compression.negotiated =
                        smbd::compression::Compression::choose(ids.iter().copied(), chained);
                    compression = Some((ids, chained));
                }
                _ => {}
            }
        }
        self.negotiated = Some(Negotiated {
            dialect,
            capabilities: response.capabilities,
            security_mode: response.security_mode,
            max_read_size: response.max_read_size,
            max_write_size: response.max_write_size,
            max_transact_size: response.max_transact_size,
            server_guid: response.server_guid,
            security_buffer: response.security_buffer.to_vec(),
            signing,
            cipher,
            rdma_transforms,
            compression,
        });
        Ok(())
    }

    /// A request header with the next message id, one credit, asking for many.
    pub fn header(&mut self, command: Command, session: Option<SessionId>, tree: TreeId) -> Header {
        let mut header = Header::request(command, MessageId(self.next_message));
        header.credit_charge = u16::from(self.uses_multi_credit());
        header.credits = 64;
        header.addressing = Addressing::Sync(tree);
        header.session_id = session.unwrap_or(SessionId(0));
        if command != Command::Cancel {
            self.next_message += 1;
        }
        header
    }

    /// As [`Connection::header`] with the credits that `bytes` of payload cost (MS-SMB2 3.1.5.2).
    pub fn header_for(
        &mut self,
        command: Command,
        session: Option<SessionId>,
        tree: TreeId,
        bytes: u32,
    ) -> Header {
        let mut header = self.header(command, session, tree);
        if self.uses_multi_credit() {
            let charge = bytes.saturating_sub(1) / 65536 + 1;
            header.credit_charge = charge as u16;
            header.credits = header.credits.max(charge as u16);
            self.next_message += u64::from(charge - 1);
        }
        header
    }

    fn uses_multi_credit(&self) -> bool {
        self.negotiated.as_ref().is_some_and(|negotiated| {
            negotiated.dialect != Dialect::Smb202
                && negotiated.capabilities.contains(Capabilities::LARGE_MTU)
        })
    }

    /// From now on requests of `session` are signed, and its replies must be.
    pub fn use_key(&mut self, session: SessionId, key: SigningKey) {
        self.keys.insert(session, Arc::new(key));
    }

    /// The key this connection signs a session's requests with.
    pub fn signing_key(&self, session: SessionId) -> Option<Arc<SigningKey>> {
        self.keys.get(&session).cloned()
    }

    /// Forgets a session's key.
    pub fn forget_key(&mut self, session: SessionId) {
        self.keys.remove(&session);
    }

    /// Sends a request without waiting for its reply.
    pub fn submit(&mut self, header: Header, body: &[u8]) -> Result<MessageId, ClientError> {
        self.submit_chain(vec![(header, body.to_vec())])?;
        Ok(header.message_id)
    }

    /// Sends a compound of requests, each padded to 8 bytes and signed if its session signs.
    pub fn submit_chain(&mut self, elements: Vec<(Header, Vec<u8>)>) -> Result<(), ClientError> {
        let mut message = Vec::new();
        let count = elements.len();
        let mut session = SessionId(0);
        for (index, (mut header, body)) in elements.into_iter().enumerate() {
            if header.session_id != SessionId::RELATED {
                session = header.session_id;
            }
            let mut element = assemble(&header, &body);
            if index + 1 < count {
                element.resize(element.len().next_multiple_of(8), 0);
                header.next_command = element.len() as u32;
            }
            let encrypted = self.encryption.is_on(session);
            if let Some(key) = self.keys.get(&session).filter(|_| !encrypted) {
                header.flags |= HeaderFlags::SIGNED;
                let mut encoded = header_bytes(&header);
                key.sign_in_place(&mut encoded, &[&element[64..]], &mut Vec::new());
                element[..64].copy_from_slice(&encoded);
            } else {
                element[..64].copy_from_slice(&header_bytes(&header));
            }
            message.extend_from_slice(&element);
        }
        let message = self.compression.pack(message);
        let message = self.encryption.seal(session, message)?;
        self.send_raw(&message)
    }

    /// Sends bytes as one message, whatever they are.
    pub fn send_raw(&mut self, message: &[u8]) -> Result<(), ClientError> {
        self.transport.send(message)
    }

    /// Sends a request and waits for its final reply, whatever its status.
    pub fn exchange(&mut self, header: Header, body: &[u8]) -> Result<Reply, ClientError> {
        let message = self.submit(header, body)?;
        self.wait(message)
    }

    /// The final reply to `message`; interim replies are recorded in `pending`.
    pub fn wait(&mut self, message: MessageId) -> Result<Reply, ClientError> {
        self.wait_for(message, PATIENCE)
    }

    /// As [`Connection::wait`], not longer than `patience`.
    pub fn wait_for(
        &mut self,
        message: MessageId,
        patience: Duration,
    ) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(replies) = self.early.get_mut(&message) {
                let reply = replies.remove(0);
                if replies.is_empty() {
                    self.early.remove(&message);
                }
                return Ok(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Silence(patience));
            }
            self.receive(left)?;
        }
    }

    /// Waits until the server closes the connection; any message meanwhile is dropped.
    pub fn wait_closed(&mut self, patience: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.transport.receive(left.max(Duration::from_millis(1))) {
                Ok(_) => continue,
                Err(ClientError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes one message from the transport and files its elements.
    pub fn receive(&mut self, patience: Duration) -> Result<(), ClientError> {
        let message = self.transport.receive(patience)?;
        let (message, encrypted) = self.encryption.open(message)?;
        let message = self.compression.unpack(message)?;
        let mut rest = &message[..];
        loop {
            let header = Header::decode(rest).map_err(ClientError::protocol)?;
            let length = match header.next_command {
                0 => rest.len(),
                next => next as usize,
            };
            let element = rest
                .get(..length)
                .ok_or_else(|| ClientError::protocol("NextCommand points outside"))?;
            self.take_element(header, element, encrypted)?;
            if header.next_command == 0 {
                return Ok(());
            }
            rest = &rest[length..];
        }
    }

    fn take_element(
        &mut self,
        header: Header,
        element: &[u8],
        encrypted: bool,
    ) -> Result<(), ClientError> {
        if element.get(..4) != Some(&PROTOCOL_ID)
            || !header.flags.contains(HeaderFlags::SERVER_TO_REDIR)
        {
            return Err(ClientError::protocol("not a response"));
        }
        if encrypted != self.encryption.is_on(header.session_id) {
            return Err(ClientError::protocol(format!(
                "a reply is encrypted: {encrypted}, and its session the other way"
            )));
        }
        if !encrypted {
            self.verify(&header, element)?;
        }
        self.credits += u32::from(header.credits);
        if let (Addressing::Async(id), NtStatus::PENDING) = (header.addressing, header.status) {
            self.pending.insert(header.message_id, id);
            return Ok(());
        }
        self.early
            .entry(header.message_id)
            .or_default()
            .push(Reply {
                header,
                element: element.to_vec(),
            });
        Ok(())
    }

    /// A session with a key expects signed replies; interim and oplock messages may be unsigned
    /// (MS-SMB2 3.2.5.1.3).
    fn verify(&self, header: &Header, element: &[u8]) -> Result<(), ClientError> {
        let Some(key) = self.keys.get(&header.session_id) else {
            return Ok(());
        };
        if !header.flags.contains(HeaderFlags::SIGNED) {
            let exempt = header.status == NtStatus::PENDING
                || header.message_id == MessageId::UNSOLICITED
                || header.status == NtStatus::USER_SESSION_DELETED;
            return if exempt {
                Ok(())
            } else {
                Err(ClientError::protocol(format!(
                    "unsigned reply {:?} to message {:?}",
                    header.status, header.message_id
                )))
            };
        }
        let first: [u8; 64] = element[..64].try_into().expect("a header was decoded");
        if key.verify(&first, &[&element[64..]]) {
            Ok(())
        } else {
            Err(ClientError::protocol(format!(
                "wrong signature on the reply to message {:?}",
                header.message_id
            )))
        }
    }
}

/// Header and body as one message.
pub fn assemble(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 + body.len());
    header.encode(&mut message);
    message.extend_from_slice(body);
    message
}

/// Header and body as one signed message.
pub fn assemble_signed(mut header: Header, body: &[u8], key: &SigningKey) -> Vec<u8> {
    header.flags |= HeaderFlags::SIGNED;
    let mut head = header_bytes(&header);
    key.sign_in_place(&mut head, &[body], &mut Vec::new());
    [&head, body].concat()
}

fn header_bytes(header: &Header) -> [u8; 64] {
    let mut bytes = Vec::with_capacity(64);
    header.encode(&mut bytes);
    bytes.try_into().expect("a header has 64 bytes")
}

fn encode_offer(offer: &Offer, body: &mut Vec<u8>) {
    let preauth = PreauthIntegrity::data(&[SHA_512], &[0x5a; 32]);
    let ids: Vec<u16> = offer.signing.iter().map(|one| one.id()).collect();
    let signing = algorithms_data(&ids);
    let ciphers: Vec<u16> = offer.ciphers.iter().map(|one| one.id()).collect();
    let ciphers = algorithms_data(&ciphers);
    let transforms = rdma_transforms_data(&offer.rdma_transforms);
    let mut contexts = vec![RawContext {
        context_type: ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
        data: &preauth,
    }];
    if !offer.ciphers.is_empty() {
        contexts.push(RawContext {
            context_type: ContextType::ENCRYPTION_CAPABILITIES,
            data: &ciphers,
        });
    }
    if !offer.rdma_transforms.is_empty() {
        contexts.push(RawContext {
            context_type: ContextType::RDMA_TRANSFORM_CAPABILITIES,
            data: &transforms,
        });
    }
    if !offer.signing.is_empty() {
        contexts.push(RawContext {
            context_type: ContextType::SIGNING_CAPABILITIES,
            data: &signing,
        });
    }
    let mut flags = CompressionFlags::empty();
    flags.set(CompressionFlags::CHAINED, offer.chained_compression);
    let compression = CompressionCapabilities::data(flags, &offer.compression);
    if !offer.compression.is_empty() {
        contexts.push(RawContext {
            context_type: ContextType::COMPRESSION_CAPABILITIES,
            data: &compression,
        });
    }
    NegotiateOffer {
        security_mode: offer.security_mode,
        capabilities: offer.capabilities,
        client_guid: offer.client_guid,
        dialects: &offer.dialects,
        contexts: &contexts,
    }
    .encode(body);
}
