//! Logging on, binding further channels, tree connects, and what ends them.

use std::sync::Arc;

use proto::smb2::negotiate::{Capabilities, SecurityMode};
use proto::smb2::session_setup::{
    SessionFlags, SessionSetupFlags, SessionSetupRequest, SessionSetupResponse,
};
use proto::smb2::tree_connect::{TreeConnectFlags, TreeConnectRequest, TreeConnectResponse};
use proto::smb2::{Command, Dialect, NtStatus, SessionId, TreeId};
use smbd::security::encryption::{End, SessionCipher};
use smbd::security::keys::{KeySchedule, PreauthHash};
use smbd::security::ntlm::{Credentials, Initiator as Ntlm, InitiatorRandom, SessionKey};
use smbd::security::signing::SigningKey;
use smbd::security::spnego::{Initiator, InitiatorStep};

use super::connection::{assemble, assemble_signed};
use super::{ClientError, Connection};

/// An authenticated session of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What the server said of it.
    pub flags: SessionFlags,
}

/// A tree connect.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Its session.
    pub session: SessionId,
    /// Its id.
    pub id: TreeId,
    /// What the server said of it.
    pub response: TreeConnectResponse,
}

impl Connection {
    /// Logs on with NTLMv2 in SPNEGO. Requests of the session are signed from then on, unless the
    /// server made it a guest's.
    pub fn log_on(&mut self, user: &str, password: &str) -> Result<Session, ClientError> {
        self.log_on_with(
            Credentials::with_password(user, "WORKGROUP", password),
            true,
        )
    }

    /// As [`Connection::log_on`], with a choice: an unsigned session is what lets the server
    /// take bare RDMA payloads.
    pub fn log_on_with(
        &mut self,
        credentials: Credentials,
        signed: bool,
    ) -> Result<Session, ClientError> {
        let (session, key) = self.authenticate(credentials, None, SessionId(0))?;
        if let Some(key) = key.filter(|_| signed) {
            self.use_key(session.id, key);
        }
        Ok(session)
    }

    /// Logs on in place of a session that was lost with its connection (PreviousSessionId).
    pub fn log_on_after(
        &mut self,
        lost: Session,
        user: &str,
        password: &str,
    ) -> Result<Session, ClientError> {
        let credentials = Credentials::with_password(user, "WORKGROUP", password);
        let (session, key) = self.authenticate(credentials, None, lost.id)?;
        if let Some(key) = key {
            self.use_key(session.id, key);
        }
        Ok(session)
    }

    /// Makes this connection a further channel of a session that `first` has (MS-SMB2 3.2.4.2.3.1).
    pub fn bind(
        &mut self,
        session: Session,
        first: &Connection,
        user: &str,
        password: &str,
    ) -> Result<(), ClientError> {
        let key = first
            .signing_key(session.id)
            .ok_or_else(|| ClientError::Local("a session without a key can't be bound".into()))?;
        self.bind_with(session, key, user, password)
    }

    /// As [`Connection::bind`], with the key of a connection that is somewhere else.
    pub fn bind_with(
        &mut self,
        session: Session,
        key: Arc<SigningKey>,
        user: &str,
        password: &str,
    ) -> Result<(), ClientError> {
        let credentials = Credentials::with_password(user, "WORKGROUP", password);
        let (bound, key) = self.authenticate(credentials, Some((session.id, key)), SessionId(0))?;
        if bound.id != session.id {
            return Err(ClientError::protocol("another session was bound"));
        }
        if let Some(key) = key {
            self.use_key(session.id, key);
        }
        Ok(())
    }

    /// SESSION_SETUP to its end. With `binding` each request is signed with that session's key,
    /// and so is each reply but the last one, which has the channel's own (MS-SMB2 3.3.5.5.3).
    fn authenticate(
        &mut self,
        credentials: Credentials,
        binding: Option<(SessionId, Arc<SigningKey>)>,
        previous_session_id: SessionId,
    ) -> Result<(Session, Option<SigningKey>), ClientError> {
        let mut random = InitiatorRandom {
            client_challenge: [0; 8],
            session_key: [0; 16],
        };
        aws_lc_rs::rand::fill(&mut random.client_challenge).expect("random bytes");
        aws_lc_rs::rand::fill(&mut random.session_key).expect("random bytes");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let filetime = (now.as_secs() + 11_644_473_600) * 10_000_000;
        let ntlm = Ntlm::new(credentials, "TESTCLIENT", "cifs/server", random, filetime);
        let mut initiator = Initiator::new(ntlm);
        let mut token = initiator.first_token();
        let mut preauth = self.preauth.clone();
        let (mut id, session_key) = match binding {
            Some((id, key)) => (id, Some(key)),
            None => (SessionId(0), None),
        };
        loop {
            let mut body = Vec::new();
            SessionSetupRequest {
                flags: match session_key {
                    Some(_) => SessionSetupFlags::BINDING,
                    None => SessionSetupFlags::empty(),
                },
                security_mode: SecurityMode::SIGNING_ENABLED,
                capabilities: Capabilities::empty(),
                channel: 0,
                previous_session_id,
                security_buffer: &token,
            }
            .encode(&mut body);
            let header = self.header(Command::SessionSetup, Some(id), TreeId(0));
            let request = match &session_key {
                Some(key) => assemble_signed(header, &body, key),
                None => assemble(&header, &body),
            };
            preauth.update(&[&request]);
            self.send_raw(&request)?;
            let reply = self.wait(header.message_id)?;
            id = reply.header.session_id;
            let more = reply.header.status == NtStatus::MORE_PROCESSING_REQUIRED;
            if more {
                preauth.update(&[&reply.element]);
            } else if reply.header.status.is_error() {
                return Err(ClientError::Status(reply.header.status));
            }
            if let (true, Some(key)) = (more, &session_key) {
                self.check_signature(key, &reply)?;
            }
            let response =
                SessionSetupResponse::decode(&reply.element).map_err(ClientError::protocol)?;
            match initiator.step(response.security_buffer) {
                Ok(InitiatorStep::Continue(next)) if more => token = next,
                Ok(InitiatorStep::Done) if !more => {
                    let session = Session {
                        id,
                        flags: response.session_flags,
                    };
                    let unkeyed = SessionFlags::IS_GUEST | SessionFlags::IS_NULL;
                    if session.flags.intersects(unkeyed) {
                        return Ok((session, None));
                    }
                    let key = self.session_signing_key(&initiator, &preauth)?;
                    self.check_signature(&key, &reply)?;
                    if session_key.is_none() {
                        self.know_cipher(id, &initiator, &preauth)?;
                    }
                    return Ok((session, Some(key)));
                }
                other => return Err(ClientError::protocol(format!("{other:?}"))),
            }
        }
    }

    fn session_signing_key(
        &self,
        initiator: &Initiator,
        preauth: &PreauthHash,
    ) -> Result<SigningKey, ClientError> {
        let session_key = session_key(initiator)?;
        let key = self.key_schedule(preauth)?.signing_key(session_key);
        Ok(SigningKey::new(self.negotiated().signing, &key))
    }

    /// Makes the session's cipher, if one was negotiated: a channel that is bound has none of its own.
    fn know_cipher(
        &mut self,
        session: SessionId,
        initiator: &Initiator,
        preauth: &PreauthHash,
    ) -> Result<(), ClientError> {
        let Some(cipher) = self.negotiated().cipher else {
            return Ok(());
        };
        let schedule = self.key_schedule(preauth)?;
        if let Some(keys) = schedule.cipher_keys(session_key(initiator)?, cipher.key_length()) {
            let cipher = SessionCipher::new(cipher, &keys, End::Client);
            self.encryption.know(session, cipher);
        }
        Ok(())
    }

    fn key_schedule<'a>(&self, preauth: &'a PreauthHash) -> Result<KeySchedule<'a>, ClientError> {
        match self.negotiated().dialect {
            Dialect::Smb202 | Dialect::Smb210 => Ok(KeySchedule::Smb2),
            Dialect::Smb300 | Dialect::Smb302 => Ok(KeySchedule::Smb30),
            Dialect::Smb311 => Ok(KeySchedule::Smb311(preauth)),
            other => Err(ClientError::protocol(format!("dialect {other:?}"))),
        }
    }

    /// A SESSION_SETUP response that proves the server's key: in 3.1.1 it must be signed.
    fn check_signature(&self, key: &SigningKey, reply: &super::Reply) -> Result<(), ClientError> {
        let signed = reply
            .header
            .flags
            .contains(proto::smb2::HeaderFlags::SIGNED);
        let first: [u8; 64] = reply.element[..64].try_into().expect("a decoded header");
        match (signed, self.negotiated().dialect) {
            (true, _) if !key.verify(&first, &[&reply.element[64..]]) => Err(
                ClientError::protocol("wrong signature on a SESSION_SETUP response"),
            ),
            (false, Dialect::Smb311) => Err(ClientError::protocol(
                "unsigned SESSION_SETUP response in 3.1.1",
            )),
            _ => Ok(()),
        }
    }

    /// Connects to `share`.
    pub fn tree_connect(&mut self, session: Session, share: &str) -> Result<Tree, ClientError> {
        let path: Vec<u8> = format!("\\\\server\\{share}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let mut body = Vec::new();
        TreeConnectRequest {
            flags: TreeConnectFlags::empty(),
            path: &path,
        }
        .encode(&mut body);
        let header = self.header(Command::TreeConnect, Some(session.id), TreeId(0));
        let reply = self.exchange(header, &body)?.check()?;
        let response =
            TreeConnectResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        let proto::smb2::Addressing::Sync(id) = reply.header.addressing else {
            return Err(ClientError::protocol("asynchronous TREE_CONNECT response"));
        };
        Ok(Tree {
            session: session.id,
            id,
            response,
        })
    }

    /// Ends the session.
    pub fn log_off(&mut self, session: Session) -> Result<(), ClientError> {
        let header = self.header(Command::Logoff, Some(session.id), TreeId(0));
        self.exchange(header, &[4, 0, 0, 0])?.check()?;
        self.forget_key(session.id);
        Ok(())
    }

    /// Asks whether the server is there.
    pub fn echo(&mut self) -> Result<(), ClientError> {
        let header = self.header(Command::Echo, None, TreeId(0));
        self.exchange(header, &[4, 0, 0, 0])?.check()?;
        Ok(())
    }
}

fn session_key(initiator: &Initiator) -> Result<&SessionKey, ClientError> {
    initiator
        .session_key()
        .ok_or_else(|| ClientError::protocol("accepted without a key"))
}
