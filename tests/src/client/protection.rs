//! Encrypted sessions, and payload that moves by RDMA signed or encrypted (MS-SMB2 3.2.4.6, 3.2.4.7,
//! 3.2.5.11). Tests take a sealed WRITE apart and put it together wrongly.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use proto::smb2::rdma_transform::{CryptoTransform, RdmaTransform, TransformType};
use proto::smb2::read::{RESPONSE_RDMA_TRANSFORM, ReadResponse};
use proto::smb2::transform::{TRANSFORM_PROTOCOL_ID, TransformHeader};
use proto::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use proto::smb2::{BufferDescriptorV1, Channel, Command, FileId, MessageId, SessionId};
use smbd::security::encryption::{End, SessionCipher};
use smbd::security::payload::{Opening, OpeningKey, Sealing};
use smbd::security::signing::SigningKey;

use super::{Access, ClientError, Connection, Reply, Session, Tree, read_body, split};

/// The ciphers of a connection's sessions.
#[derive(Default)]
pub(super) struct Encryption {
    known: HashMap<SessionId, Rc<SessionCipher>>,
    on: HashSet<SessionId>,
}

impl Encryption {
    pub fn know(&mut self, session: SessionId, cipher: SessionCipher) {
        self.known.insert(session, Rc::new(cipher));
    }

    pub fn is_on(&self, session: SessionId) -> bool {
        self.on.contains(&session)
    }

    /// The message as it leaves.
    pub fn seal(&self, session: SessionId, message: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        match self.known.get(&session).filter(|_| self.is_on(session)) {
            Some(cipher) => {
                let mut sealed = vec![0; TransformHeader::SIZE];
                sealed.extend_from_slice(&message);
                cipher
                    .seal(session, &mut sealed)
                    .map(|()| sealed)
                    .map_err(ClientError::protocol)
            }
            None => Ok(message),
        }
    }

    /// The message as it was meant, and whether it came encrypted.
    pub fn open(&self, mut message: Vec<u8>) -> Result<(Vec<u8>, bool), ClientError> {
        if !message.starts_with(&TRANSFORM_PROTOCOL_ID) {
            return Ok((message, false));
        }
        let header = TransformHeader::decode(&message).map_err(ClientError::protocol)?;
        let cipher = self
            .known
            .get(&header.session_id)
            .ok_or_else(|| ClientError::protocol("encrypted for no session of this connection"))?;
        cipher.open(&mut message).map_err(ClientError::protocol)?;
        Ok((message.split_off(TransformHeader::SIZE), true))
    }
}

/// What protects a payload by RDMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Signing,
    Encryption,
}

/// A payload sealed for a WRITE, in parts.
#[derive(Debug, Clone)]
pub struct SealedPayload {
    /// What the server fetches.
    pub payload: Vec<u8>,
    /// What the request says of it.
    pub transform_type: TransformType,
    pub signature: Vec<u8>,
    pub nonce: Vec<u8>,
}

impl SealedPayload {
    /// The request's channel information.
    pub fn information(&self, channel: Channel, descriptors: &[BufferDescriptorV1]) -> Vec<u8> {
        let mut list = Vec::new();
        descriptors.iter().for_each(|one| one.encode(&mut list));
        let mut information = Vec::new();
        RdmaTransform {
            channel,
            crypto: CryptoTransform {
                transform_type: self.transform_type,
                signature: &self.signature,
                nonce: &self.nonce,
            },
            descriptors: &list,
        }
        .encode(&mut information);
        information
    }
}

impl Connection {
    /// From now on requests of `session` are encrypted, and its replies must be.
    pub fn encrypt(&mut self, session: Session) -> Result<(), ClientError> {
        self.cipher(session.id)?;
        self.encryption.on.insert(session.id);
        Ok(())
    }

    /// Encrypts on this connection, a further channel, with the cipher that `first` has.
    pub fn encrypt_like(
        &mut self,
        session: Session,
        first: &Connection,
    ) -> Result<(), ClientError> {
        let cipher = first.cipher(session.id)?;
        self.encryption.known.insert(session.id, cipher);
        self.encrypt(session)
    }

    fn cipher(&self, session: SessionId) -> Result<Rc<SessionCipher>, ClientError> {
        let cipher = self.encryption.known.get(&session).cloned();
        cipher.ok_or_else(|| ClientError::Local("the session has no cipher".into()))
    }

    fn payload_key(&self, session: SessionId) -> Result<SigningKey, ClientError> {
        self.signing_key(session)
            .map(|key| SigningKey::clone(&key))
            .ok_or_else(|| ClientError::Local("the session has no signing key".into()))
    }

    /// Seals `data` as the payload of the WRITE that is message `message`.
    pub fn seal_payload(
        &self,
        session: SessionId,
        message: MessageId,
        protection: Protection,
        data: &[u8],
    ) -> Result<SealedPayload, ClientError> {
        let sealing = match protection {
            Protection::Signing => {
                let key = self.payload_key(session)?;
                let nonce = key.payload_nonce(message, End::Client);
                Sealing::Sign { key, nonce }
            }
            Protection::Encryption => Sealing::Encrypt(
                self.cipher(session)?
                    .payload_sealer()
                    .map_err(ClientError::protocol)?,
            ),
        };
        let mut payload = data.to_vec();
        let sealed = sealing.seal(&mut payload);
        let transform = sealed.transform();
        Ok(SealedPayload {
            payload,
            transform_type: transform.transform_type,
            signature: transform.signature.to_vec(),
            nonce: transform.nonce.to_vec(),
        })
    }

    /// Writes a sealed payload whose channel information `compose` makes of its parts and of the
    /// descriptors of the memory it lies in.
    pub fn write_sealed(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        data: &[u8],
        protection: Protection,
        compose: impl FnOnce(SealedPayload, BufferDescriptorV1) -> Vec<u8>,
    ) -> Result<Reply, ClientError> {
        let length = data.len() as u32;
        let header = self.header_for(Command::Write, Some(tree.session), tree.id, length);
        let sealed = self.seal_payload(tree.session, header.message_id, protection, data)?;
        let rdma = self.rdma()?;
        let memory = rdma.expose(&sealed.payload, Access::RemoteRead)?;
        let information = compose(sealed, memory.descriptor);
        let body = write_protected_body(file, offset, length, &information);
        let answer = self.exchange(header, &body);
        self.rdma()?.withdraw(memory)?;
        answer
    }

    /// Writes by RDMA with the payload signed or encrypted, split over `pieces` descriptors.
    pub fn write_protected(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        data: &[u8],
        protection: Protection,
        pieces: u32,
    ) -> Result<u32, ClientError> {
        let reply = self
            .write_sealed(tree, file, offset, data, protection, |sealed, whole| {
                sealed.information(Channel::RdmaV1, &split(whole, pieces))
            })?
            .check()?;
        let response = WriteResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        Ok(response.count)
    }

    /// Reads by RDMA what must come signed or encrypted, as `protection` says.
    pub fn read_protected(
        &mut self,
        tree: Tree,
        file: FileId,
        offset: u64,
        length: u32,
        protection: Protection,
        pieces: u32,
    ) -> Result<Vec<u8>, ClientError> {
        let rdma = self.rdma()?;
        let memory = rdma.expose(&vec![0xee; length as usize], Access::RemoteWrite)?;
        let descriptors = split(memory.descriptor, pieces);
        let body = read_body(file, offset, length, Channel::RdmaV1, &descriptors);
        let header = self.header_for(Command::Read, Some(tree.session), tree.id, length);
        let answer = self.exchange(header, &body).and_then(Reply::check);
        let mut contents = self.rdma()?.contents(memory)?;
        self.rdma()?.withdraw(memory)?;
        let reply = answer?;
        let response = ReadResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        if response.flags != RESPONSE_RDMA_TRANSFORM || response.data_remaining > length {
            return Err(ClientError::protocol(format!("{response:?}")));
        }
        let transform = RdmaTransform::decode(response.data).map_err(ClientError::protocol)?;
        let expected = match protection {
            Protection::Signing => TransformType::Signing,
            Protection::Encryption => TransformType::Encryption,
        };
        // Windows' own answer is 40 bytes without a nonce and 56 with one.
        let size = if transform.crypto.nonce.is_empty() {
            40
        } else {
            56
        };
        if transform.crypto.transform_type != expected
            || transform.channel != Channel::None
            || response.data.len() != size
        {
            return Err(ClientError::protocol(format!("{transform:?}")));
        }
        let moved = response.data_remaining as usize;
        if contents[moved..].iter().any(|byte| *byte != 0xee) {
            return Err(ClientError::protocol(
                "bytes behind DataRemaining were written",
            ));
        }
        contents.truncate(moved);
        let key = match protection {
            Protection::Signing => OpeningKey::Verify(self.payload_key(tree.session)?),
            Protection::Encryption => {
                OpeningKey::Decrypt(self.cipher(tree.session)?.payload_opener())
            }
        };
        Opening::new(key, &transform.crypto)
            .open(&mut contents)
            .map_err(ClientError::protocol)?;
        Ok(contents)
    }
}

/// WRITE's body with a payload that moves by RDMA, protected as `information` says.
pub fn write_protected_body(file: FileId, offset: u64, length: u32, information: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    WriteRequest {
        offset,
        file_id: file,
        channel: Channel::RdmaTransform.into(),
        remaining_bytes: length,
        flags: WriteFlags::empty(),
        channel_info: information,
        data: &[],
    }
    .encode(&mut body);
    body
}
