//! The three NTLM messages (MS-NLMP 2.2.1) between bytes and structs.
//!
//! Called by the acceptor and the initiator. Parsing never panics: each field is cut out of the
//! message with checked bounds. No cryptography here.

use bitflags::bitflags;
use thiserror::Error;

/// The eight bytes every NTLM message starts with.
pub const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// Offset of the MIC in an AUTHENTICATE message (MS-NLMP 2.2.1.3).
const MIC_OFFSET: usize = 72;
const MIC_LENGTH: usize = 16;
const CHALLENGE_HEADER: usize = 56;
const AUTHENTICATE_HEADER: usize = MIC_OFFSET + MIC_LENGTH;
/// Windows 6.1, NTLM revision 15: what a VERSION field has to carry to be taken seriously
/// (2.2.2.10).
const VERSION: [u8; 8] = [6, 1, 0, 0, 0, 0, 0, 15];

bitflags! {
    /// NEGOTIATE flags (MS-NLMP 2.2.2.5). Bits not named here are ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NegotiateFlags: u32 {
        const UNICODE = 0x0000_0001;
        const OEM = 0x0000_0002;
        const REQUEST_TARGET = 0x0000_0004;
        const SIGN = 0x0000_0010;
        const SEAL = 0x0000_0020;
        const LM_KEY = 0x0000_0080;
        const NTLM = 0x0000_0200;
        const ANONYMOUS = 0x0000_0800;
        const ALWAYS_SIGN = 0x0000_8000;
        const TARGET_TYPE_DOMAIN = 0x0001_0000;
        const TARGET_TYPE_SERVER = 0x0002_0000;
        const EXTENDED_SESSION_SECURITY = 0x0008_0000;
        const TARGET_INFO = 0x0080_0000;
        const VERSION = 0x0200_0000;
        const KEY_128 = 0x2000_0000;
        const KEY_EXCHANGE = 0x4000_0000;
        const KEY_56 = 0x8000_0000;
    }
}

/// A message that does not parse. Names the field, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed NTLM message: {field}")]
pub struct Malformed {
    pub field: &'static str,
}

pub(super) fn malformed<T>(field: &'static str) -> Result<T, Malformed> {
    Err(Malformed { field })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    Negotiate,
    Challenge,
    Authenticate,
}

impl MessageType {
    /// The type of an NTLM message, or `None` when the signature is not NTLM's.
    pub fn of(message: &[u8]) -> Option<MessageType> {
        let cursor = Fields { message };
        if message.get(..8)? != SIGNATURE {
            return None;
        }
        match cursor.u32_at(8, "MessageType").ok()? {
            1 => Some(MessageType::Negotiate),
            2 => Some(MessageType::Challenge),
            3 => Some(MessageType::Authenticate),
            _ => None,
        }
    }
}

/// NEGOTIATE_MESSAGE (MS-NLMP 2.2.1.1). The client's domain and workstation hints are not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    pub flags: NegotiateFlags,
}

impl Negotiate {
    pub fn parse(message: &[u8]) -> Result<Negotiate, Malformed> {
        expect(message, MessageType::Negotiate)?;
        let flags = Fields { message }.u32_at(12, "NegotiateFlags")?;
        Ok(Negotiate {
            flags: NegotiateFlags::from_bits_truncate(flags),
        })
    }

    pub fn build(&self) -> Vec<u8> {
        let mut message = header(1);
        put_u32(&mut message, self.flags.bits());
        let payload_start = 40;
        put_field(&mut message, 0, payload_start);
        put_field(&mut message, 0, payload_start);
        message.extend_from_slice(&VERSION);
        message
    }
}

/// CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub flags: NegotiateFlags,
    pub target_name: String,
    pub server_challenge: [u8; 8],
    /// AV pairs as they stand on the wire: a client echoes these very bytes.
    pub target_info: Vec<u8>,
}

impl Challenge {
    pub fn parse(message: &[u8]) -> Result<Challenge, Malformed> {
        expect(message, MessageType::Challenge)?;
        let fields = Fields { message };
        let flags = NegotiateFlags::from_bits_truncate(fields.u32_at(20, "NegotiateFlags")?);
        let server_challenge = fields.array_at::<8>(24, "ServerChallenge")?;
        let target_name = if flags.contains(NegotiateFlags::REQUEST_TARGET) {
            utf16_string(fields.payload(12, "TargetName")?, "TargetName")?
        } else {
            String::new()
        };
        let target_info = if flags.contains(NegotiateFlags::TARGET_INFO) {
            fields.payload(40, "TargetInfo")?.to_vec()
        } else {
            Vec::new()
        };
        Ok(Challenge {
            flags,
            target_name,
            server_challenge,
            target_info,
        })
    }

    pub fn build(&self) -> Vec<u8> {
        let target_name = utf16_bytes(&self.target_name);
        let mut message = header(2);
        put_field(&mut message, target_name.len(), CHALLENGE_HEADER);
        put_u32(&mut message, self.flags.bits());
        message.extend_from_slice(&self.server_challenge);
        message.extend_from_slice(&[0; 8]);
        put_field(
            &mut message,
            self.target_info.len(),
            CHALLENGE_HEADER + target_name.len(),
        );
        message.extend_from_slice(&VERSION);
        message.extend_from_slice(&target_name);
        message.extend_from_slice(&self.target_info);
        message
    }
}

/// AUTHENTICATE_MESSAGE (MS-NLMP 2.2.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    pub flags: NegotiateFlags,
    pub lm_response: Vec<u8>,
    pub nt_response: Vec<u8>,
    pub domain: String,
    pub user: String,
    pub workstation: String,
    pub encrypted_session_key: Vec<u8>,
    /// The 16 bytes where a MIC would be. Only an AV flag says whether they are one (3.2.5.1.2).
    pub mic: Option<[u8; 16]>,
}

impl Authenticate {
    pub fn parse(message: &[u8]) -> Result<Authenticate, Malformed> {
        expect(message, MessageType::Authenticate)?;
        let fields = Fields { message };
        let flags = NegotiateFlags::from_bits_truncate(fields.u32_at(60, "NegotiateFlags")?);
        let name = |offset, field| {
            let bytes = fields.payload(offset, field)?;
            if flags.contains(NegotiateFlags::UNICODE) {
                utf16_string(bytes, field)
            } else if bytes.is_ascii() {
                Ok(String::from_utf8_lossy(bytes).into_owned())
            } else {
                malformed(field)
            }
        };
        Ok(Authenticate {
            flags,
            lm_response: fields.payload(12, "LmChallengeResponse")?.to_vec(),
            nt_response: fields.payload(20, "NtChallengeResponse")?.to_vec(),
            domain: name(28, "DomainName")?,
            user: name(36, "UserName")?,
            workstation: name(44, "Workstation")?,
            encrypted_session_key: fields.payload(52, "EncryptedRandomSessionKey")?.to_vec(),
            mic: fields.array_at::<MIC_LENGTH>(MIC_OFFSET, "MIC").ok(),
        })
    }

    /// The message with a MIC of zeros when `mic` is `None`.
    pub fn build(&self) -> Vec<u8> {
        let domain = utf16_bytes(&self.domain);
        let user = utf16_bytes(&self.user);
        let workstation = utf16_bytes(&self.workstation);
        let parts: [&[u8]; 6] = [
            &self.lm_response,
            &self.nt_response,
            &domain,
            &user,
            &workstation,
            &self.encrypted_session_key,
        ];
        let mut message = header(3);
        let mut offset = AUTHENTICATE_HEADER;
        for part in parts {
            put_field(&mut message, part.len(), offset);
            offset += part.len();
        }
        put_u32(&mut message, self.flags.bits());
        message.extend_from_slice(&VERSION);
        message.extend_from_slice(&self.mic.unwrap_or_default());
        for part in parts {
            message.extend_from_slice(part);
        }
        message
    }

    /// The parts of `message` around its MIC: what is authenticated, with 16 zeros between them.
    pub fn around_mic(message: &[u8]) -> Option<(&[u8], &[u8])> {
        Some((
            message.get(..MIC_OFFSET)?,
            message.get(AUTHENTICATE_HEADER..)?,
        ))
    }

    /// Writes `mic` into a built message.
    pub fn set_mic(message: &mut [u8], mic: &[u8; 16]) {
        if let Some(place) = message.get_mut(MIC_OFFSET..AUTHENTICATE_HEADER) {
            place.copy_from_slice(mic);
        }
    }
}

/// UTF-16LE, the form of every string NTLM hashes or sends.
pub(super) fn utf16_bytes(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(super) fn utf16_string(bytes: &[u8], field: &'static str) -> Result<String, Malformed> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return malformed(field);
    }
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    String::from_utf16(&units).or_else(|_| malformed(field))
}

fn expect(message: &[u8], wanted: MessageType) -> Result<(), Malformed> {
    match MessageType::of(message) {
        Some(found) if found == wanted => Ok(()),
        Some(_) => malformed("MessageType"),
        None => malformed("Signature"),
    }
}

fn header(message_type: u32) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    put_u32(&mut message, message_type);
    message
}

fn put_u32(message: &mut Vec<u8>, value: u32) {
    message.extend_from_slice(&value.to_le_bytes());
}

/// Length, MaxLength, BufferOffset. A caller's strings are far below 64 KiB; a longer one is cut to
/// nothing.
fn put_field(message: &mut Vec<u8>, length: usize, offset: usize) {
    let length = u16::try_from(length).unwrap_or(0);
    message.extend_from_slice(&length.to_le_bytes());
    message.extend_from_slice(&length.to_le_bytes());
    put_u32(message, u32::try_from(offset).unwrap_or(0));
}

struct Fields<'a> {
    message: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array_at<const N: usize>(
        &self,
        offset: usize,
        field: &'static str,
    ) -> Result<[u8; N], Malformed> {
        self.message
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .ok_or(Malformed { field })
    }

    fn u32_at(&self, offset: usize, field: &'static str) -> Result<u32, Malformed> {
        self.array_at::<4>(offset, field).map(u32::from_le_bytes)
    }

    /// The payload a Length/MaxLength/BufferOffset triple at `offset` points to.
    fn payload(&self, offset: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let length = u64::from(u16::from_le_bytes(self.array_at::<2>(offset, field)?));
        // An absent field may carry any offset (2.2.1.1): only a length makes it mean something.
        if length == 0 {
            return Ok(&[]);
        }
        let start = u64::from(self.u32_at(offset + 4, field)?);
        let range = usize::try_from(start)
            .ok()
            .zip(usize::try_from(start + length).ok());
        range
            .and_then(|(start, end)| self.message.get(start..end))
            .ok_or(Malformed { field })
    }
}
