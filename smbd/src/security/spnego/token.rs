//! NegTokenInit and NegTokenResp between DER and structs (RFC 4178 4.2, MS-SPNG 2.2.1).
//!
//! Called by the authenticator and the initiator. Unknown context fields are skipped, broken ones
//! refused.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::security::ntlm::Refusal;

const SPNEGO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.2");
pub const NTLMSSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.2.10");
pub const KERBEROS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113554.1.2.2");
/// Kerberos with the wrong number Windows 2000 gave it; still offered first by Windows.
pub const MS_KERBEROS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.48018.1.2.2");

/// More mechanisms than any client has.
const MAX_MECHANISMS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegState {
    AcceptCompleted = 0,
    AcceptIncomplete = 1,
    Reject = 2,
    RequestMic = 3,
}

/// A client's first token, or a server's hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegTokenInit {
    pub mechanisms: Vec<ObjectIdentifier>,
    /// The mechanism list's own encoding: what a mechListMIC signs (RFC 4178 5).
    pub mechanism_list: Vec<u8>,
    pub mech_token: Option<Vec<u8>>,
}

impl NegTokenInit {
    pub fn new(mechanisms: &[ObjectIdentifier], mech_token: Option<Vec<u8>>) -> NegTokenInit {
        let mechanism_list = encode_mechanisms(mechanisms);
        NegTokenInit {
            mechanisms: mechanisms.to_vec(),
            mechanism_list,
            mech_token,
        }
    }

    /// Reads a token within its initial framing (RFC 2743 3.1).
    pub fn parse(token: &[u8]) -> Result<NegTokenInit, Refusal> {
        let body = only(
            token,
            Tag::Application {
                constructed: true,
                number: TagNumber(0),
            },
            "framing",
        )?;
        let mut reader = reader(body, "framing")?;
        let oid = AnyRef::decode(&mut reader).or(broken("thisMech"))?;
        if oid.tag() != Tag::ObjectIdentifier || oid.value() != SPNEGO.as_bytes() {
            return broken("thisMech");
        }
        let choice = AnyRef::decode(&mut reader).or(broken("NegTokenInit"))?;
        if choice.tag() != context(0) {
            return broken("NegTokenInit");
        }
        let mut init = NegTokenInit {
            mechanisms: Vec::new(),
            mechanism_list: Vec::new(),
            mech_token: None,
        };
        for (number, value) in fields(only(choice.value(), Tag::Sequence, "NegTokenInit")?)? {
            match number {
                0 => {
                    init.mechanisms = parse_mechanisms(value)?;
                    init.mechanism_list = value.to_vec();
                }
                2 => init.mech_token = Some(only(value, Tag::OctetString, "mechToken")?.to_vec()),
                _ => {}
            }
        }
        if init.mechanisms.is_empty() {
            return broken("mechTypes");
        }
        Ok(init)
    }

    pub fn build(&self) -> Vec<u8> {
        let mut body = tlv(context(0), &self.mechanism_list);
        if let Some(token) = &self.mech_token {
            body.extend(tlv(context(2), &tlv(Tag::OctetString, token)));
        }
        frame_init(&body)
    }
}

/// Every token after a client's first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NegTokenResp {
    pub state: Option<NegState>,
    pub mechanism: Option<ObjectIdentifier>,
    pub response_token: Option<Vec<u8>>,
    pub mech_list_mic: Option<Vec<u8>>,
}

impl NegTokenResp {
    pub fn parse(token: &[u8]) -> Result<NegTokenResp, Refusal> {
        let body = only(token, context(1), "NegTokenResp")?;
        let mut response = NegTokenResp::default();
        for (number, value) in fields(only(body, Tag::Sequence, "NegTokenResp")?)? {
            match number {
                0 => response.state = Some(parse_state(only(value, Tag::Enumerated, "negState")?)?),
                1 => {
                    let oid = only(value, Tag::ObjectIdentifier, "supportedMech")?;
                    response.mechanism =
                        Some(ObjectIdentifier::from_bytes(oid).or(broken("supportedMech"))?);
                }
                2 => {
                    response.response_token =
                        Some(only(value, Tag::OctetString, "responseToken")?.to_vec());
                }
                3 => {
                    response.mech_list_mic =
                        Some(only(value, Tag::OctetString, "mechListMIC")?.to_vec());
                }
                _ => {}
            }
        }
        Ok(response)
    }

    pub fn build(&self) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(state) = self.state {
            body.extend(tlv(context(0), &tlv(Tag::Enumerated, &[state as u8])));
        }
        if let Some(mechanism) = &self.mechanism {
            body.extend(tlv(
                context(1),
                &tlv(Tag::ObjectIdentifier, mechanism.as_bytes()),
            ));
        }
        if let Some(token) = &self.response_token {
            body.extend(tlv(context(2), &tlv(Tag::OctetString, token)));
        }
        if let Some(mic) = &self.mech_list_mic {
            body.extend(tlv(context(3), &tlv(Tag::OctetString, mic)));
        }
        tlv(context(1), &tlv(Tag::Sequence, &body))
    }
}

/// The token a server sends in its NEGOTIATE response: what it has, best first. The negHints of MS-SPNG
/// 2.2.1, whose only content asks to be ignored, are optional and left out: what is left is a
/// NegTokenInit of RFC 4178 4.2.1 too, and readers that expect one there (Wireshark, over anything
/// but TCP) take negHints for a broken mechListMIC.
pub fn negotiate_hint(kerberos: bool, ntlm: bool) -> Vec<u8> {
    let mut mechanisms = Vec::new();
    if kerberos {
        mechanisms.extend([MS_KERBEROS, KERBEROS]);
    }
    if ntlm {
        mechanisms.push(NTLMSSP);
    }
    NegTokenInit::new(&mechanisms, None).build()
}

fn frame_init(body: &[u8]) -> Vec<u8> {
    let mut framed = tlv(Tag::ObjectIdentifier, SPNEGO.as_bytes());
    framed.extend(tlv(context(0), &tlv(Tag::Sequence, body)));
    tlv(
        Tag::Application {
            constructed: true,
            number: TagNumber(0),
        },
        &framed,
    )
}

fn encode_mechanisms(mechanisms: &[ObjectIdentifier]) -> Vec<u8> {
    let list: Vec<u8> = mechanisms
        .iter()
        .flat_map(|mechanism| tlv(Tag::ObjectIdentifier, mechanism.as_bytes()))
        .collect();
    tlv(Tag::Sequence, &list)
}

/// Mechanisms with numbers too long for us are not ours: they are skipped, the list's bytes stay as
/// they are.
fn parse_mechanisms(list: &[u8]) -> Result<Vec<ObjectIdentifier>, Refusal> {
    let mut reader = reader(only(list, Tag::Sequence, "mechTypes")?, "mechTypes")?;
    let mut mechanisms = Vec::new();
    while !reader.is_finished() {
        let element = AnyRef::decode(&mut reader).or(broken("mechTypes"))?;
        if element.tag() != Tag::ObjectIdentifier || mechanisms.len() == MAX_MECHANISMS {
            return broken("mechTypes");
        }
        mechanisms.push(ObjectIdentifier::from_bytes(element.value()).or(broken("mechTypes"))?);
    }
    Ok(mechanisms)
}

fn parse_state(value: &[u8]) -> Result<NegState, Refusal> {
    match value {
        [0] => Ok(NegState::AcceptCompleted),
        [1] => Ok(NegState::AcceptIncomplete),
        [2] => Ok(NegState::Reject),
        [3] => Ok(NegState::RequestMic),
        _ => broken("negState"),
    }
}

/// The context fields of a sequence, by number.
fn fields(sequence: &[u8]) -> Result<Vec<(u32, &[u8])>, Refusal> {
    let mut reader = reader(sequence, "fields")?;
    let mut fields = Vec::new();
    while !reader.is_finished() {
        let element = AnyRef::decode(&mut reader).or(broken("fields"))?;
        let Tag::ContextSpecific {
            constructed: true,
            number,
        } = element.tag()
        else {
            return broken("fields");
        };
        fields.push((number.value(), element.value()));
    }
    Ok(fields)
}

/// The value of the one element `bytes` hold.
fn only<'a>(bytes: &'a [u8], tag: Tag, field: &'static str) -> Result<&'a [u8], Refusal> {
    match AnyRef::from_der(bytes) {
        Ok(element) if element.tag() == tag => Ok(element.value()),
        _ => broken(field),
    }
}

fn reader<'a>(bytes: &'a [u8], field: &'static str) -> Result<SliceReader<'a>, Refusal> {
    SliceReader::new(bytes).or(broken(field))
}

fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

fn tlv(tag: Tag, value: &[u8]) -> Vec<u8> {
    AnyRef::new(tag, value)
        .and_then(|element| element.to_der())
        .expect("a token this program builds is far below DER's largest length")
}

fn broken<T>(field: &'static str) -> Result<T, Refusal> {
    Err(Refusal::MalformedToken { field })
}
