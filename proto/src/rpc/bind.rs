//! How an association begins: bind, alter_context and their answers (C706 12.6.4.1 to 12.6.4.5),
//! with the feature negotiation that hides in a transfer syntax (MS-RPCE 3.3.1.5.3).

use super::SyntaxId;
use super::pdu::{Pdu, PduType, PfcFlags};
use crate::wire::{Reader, WireError, Writer, length_u16};

/// The body of bind and of alter_context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub max_xmit_frag: u16,
    pub max_recv_frag: u16,
    /// 0 asks for a new association group.
    pub assoc_group_id: u32,
    pub contexts: Vec<PresentationContext>,
}

/// p_cont_elem_t: an interface under the number requests will name it by, and the encodings the
/// client would speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentationContext {
    pub id: u16,
    pub abstract_syntax: SyntaxId,
    pub transfer_syntaxes: Vec<SyntaxId>,
}

/// The body of bind_ack and of alter_context_resp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAck {
    pub max_xmit_frag: u16,
    pub max_recv_frag: u16,
    pub assoc_group_id: u32,
    /// The pipe's name after a bind; empty after an alter_context.
    pub secondary_address: String,
    /// One for each context, in the same order.
    pub results: Vec<ContextResult>,
}

/// p_result_t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextResult {
    Accepted(SyntaxId),
    Rejected(RejectReason),
    /// negotiate_ack: which of the client's features apply (MS-RPCE 2.2.2.4).
    Features(u16),
}

/// p_provider_reason_t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    NotSpecified = 0,
    AbstractSyntaxNotSupported = 1,
    TransferSyntaxesNotSupported = 2,
    LocalLimitExceeded = 3,
}

/// Why a bind as a whole is refused (MS-RPCE 2.2.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NakReason {
    NotSpecified = 0,
    LocalLimitExceeded = 2,
    AuthenticationTypeNotRecognized = 8,
}

const ACCEPTANCE: u16 = 0;
const PROVIDER_REJECTION: u16 = 2;
const NEGOTIATE_ACK: u16 = 3;

/// The beginning of a transfer syntax that stands for features (MS-RPCE 3.3.1.5.3).
const FEATURE_PREFIX: [u8; 8] = [0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45];

impl PresentationContext {
    /// The feature bits, where this element negotiates features and no interface.
    pub fn features(&self) -> Option<u16> {
        let [syntax] = self.transfer_syntaxes.as_slice() else {
            return None;
        };
        let bits = syntax.uuid.0.strip_prefix(&FEATURE_PREFIX)?;
        let (low, _) = bits.split_first_chunk::<2>()?;
        (syntax.major == 1 && syntax.minor == 0).then(|| u16::from_le_bytes(*low))
    }
}

impl Bind {
    /// SecurityContextMultiplexingSupported (MS-RPCE 2.2.2.14).
    pub const SECURITY_CONTEXT_MULTIPLEXING: u16 = 1;
    /// KeepConnectionOnOrphanSupported.
    pub const KEEP_CONNECTION_ON_ORPHAN: u16 = 2;

    pub fn decode(pdu: &Pdu<'_>) -> Result<Self, WireError> {
        let mut reader = Reader::new(pdu.body);
        let max_xmit_frag = reader.u16("max_xmit_frag")?;
        let max_recv_frag = reader.u16("max_recv_frag")?;
        let assoc_group_id = reader.u32("assoc_group_id")?;
        let count = reader.u8("n_context_elem")?;
        reader.skip(3, "reserved")?;
        let contexts = (0..count)
            .map(|_| PresentationContext::decode(&mut reader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            max_xmit_frag,
            max_recv_frag,
            assoc_group_id,
            contexts,
        })
    }

    /// `kind` is [`PduType::BIND`] or [`PduType::ALTER_CONTEXT`].
    pub fn encode(&self, kind: PduType, call_id: u32) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer
            .u16(self.max_xmit_frag)
            .u16(self.max_recv_frag)
            .u32(self.assoc_group_id)
            .u8(length_u8(self.contexts.len()))
            .zeros(3);
        for context in &self.contexts {
            writer
                .u16(context.id)
                .u8(length_u8(context.transfer_syntaxes.len()))
                .u8(0);
            context.abstract_syntax.encode(&mut writer);
            for syntax in &context.transfer_syntaxes {
                syntax.encode(&mut writer);
            }
        }
        whole(kind, call_id, &body)
    }
}

impl PresentationContext {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let id = reader.u16("p_cont_id")?;
        let count = reader.u8("n_transfer_syn")?;
        reader.skip(1, "reserved")?;
        Ok(Self {
            id,
            abstract_syntax: SyntaxId::decode(reader)?,
            transfer_syntaxes: (0..count)
                .map(|_| SyntaxId::decode(reader))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl BindAck {
    pub fn decode(pdu: &Pdu<'_>) -> Result<Self, WireError> {
        let mut reader = Reader::new(pdu.body);
        let max_xmit_frag = reader.u16("max_xmit_frag")?;
        let max_recv_frag = reader.u16("max_recv_frag")?;
        let assoc_group_id = reader.u32("assoc_group_id")?;
        let length = usize::from(reader.u16("sec_addr")?);
        let address = reader.bytes(length, "sec_addr")?;
        let address = address.strip_suffix(&[0]).unwrap_or(address);
        let padding = reader.offset().next_multiple_of(4) - reader.offset();
        reader.skip(padding, "pad2")?;
        let count = reader.u8("n_results")?;
        reader.skip(3, "reserved")?;
        Ok(Self {
            max_xmit_frag,
            max_recv_frag,
            assoc_group_id,
            secondary_address: String::from_utf8_lossy(address).into_owned(),
            results: (0..count)
                .map(|_| ContextResult::decode(&mut reader))
                .collect::<Result<_, _>>()?,
        })
    }

    /// `kind` is [`PduType::BIND_ACK`] or [`PduType::ALTER_CONTEXT_RESPONSE`].
    pub fn encode(&self, kind: PduType, call_id: u32) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer
            .u16(self.max_xmit_frag)
            .u16(self.max_recv_frag)
            .u32(self.assoc_group_id);
        if self.secondary_address.is_empty() {
            writer.u16(0);
        } else {
            writer
                .u16(length_u16(self.secondary_address.len() + 1))
                .bytes(self.secondary_address.as_bytes())
                .u8(0);
        }
        writer.align(4).u8(length_u8(self.results.len())).zeros(3);
        for result in &self.results {
            result.encode(&mut writer);
        }
        whole(kind, call_id, &body)
    }
}

impl ContextResult {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let offset = reader.offset();
        let result = reader.u16("result")?;
        let reason = reader.u16("reason")?;
        let syntax = SyntaxId::decode(reader)?;
        match (result, reason) {
            (ACCEPTANCE, _) => Ok(Self::Accepted(syntax)),
            (NEGOTIATE_ACK, bits) => Ok(Self::Features(bits)),
            (PROVIDER_REJECTION, 0) => Ok(Self::Rejected(RejectReason::NotSpecified)),
            (PROVIDER_REJECTION, 1) => Ok(Self::Rejected(RejectReason::AbstractSyntaxNotSupported)),
            (PROVIDER_REJECTION, 2) => {
                Ok(Self::Rejected(RejectReason::TransferSyntaxesNotSupported))
            }
            (PROVIDER_REJECTION, 3) => Ok(Self::Rejected(RejectReason::LocalLimitExceeded)),
            _ => Err(WireError::new("result", offset)),
        }
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        let (result, reason, syntax) = match *self {
            Self::Accepted(syntax) => (ACCEPTANCE, 0, syntax),
            Self::Rejected(reason) => (PROVIDER_REJECTION, reason as u16, SyntaxId::NONE),
            Self::Features(bits) => (NEGOTIATE_ACK, bits, SyntaxId::NONE),
        };
        writer.u16(result).u16(reason);
        syntax.encode(writer);
    }
}

impl NakReason {
    /// bind_nak (C706 12.6.4.5), naming version 5.0 as the one spoken.
    pub fn encode(self, call_id: u32) -> Vec<u8> {
        let mut body = Vec::new();
        Writer::new(&mut body).u16(self as u16).u8(1).u8(5).u8(0);
        whole(PduType::BIND_NAK, call_id, &body)
    }
}

fn whole(kind: PduType, call_id: u32, body: &[u8]) -> Vec<u8> {
    Pdu {
        kind,
        flags: PfcFlags::WHOLE,
        call_id,
        authenticated: false,
        body,
    }
    .encode()
}

/// A count of elements this side composed.
fn length_u8(count: usize) -> u8 {
    u8::try_from(count).expect("a list outgrew its 8-bit count")
}
