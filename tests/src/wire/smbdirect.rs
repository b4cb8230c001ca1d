//! The three messages of SMB Direct (MS-SMBD 2.2), as `proto::smbdirect` decodes them.

use proto::smbdirect::messages::{
    DataTransferHeader, NegotiateRequest, NegotiateResponse, RESPONSE_REQUESTED, TooShort,
};

use super::flags::Bits;
use super::meaning::Meaning;
use super::shown::Layer;

const FLAGS: Bits = &[(
    "smb_direct.flags.response_requested",
    RESPONSE_REQUESTED as u64,
)];

/// Which of the three it is the bytes do not say: that is the connection's to know, and tshark's here.
pub fn message(bytes: &[u8], layer: &Layer, meaning: &mut Meaning) -> Result<String, TooShort> {
    let is = |name| layer.field(name).is_some();
    let (name, whole) = if is("smb_direct.negotiate_request") {
        negotiate_request(&NegotiateRequest::decode(bytes)?, meaning);
        ("smb_direct.negotiate_request", bytes)
    } else if is("smb_direct.negotiate_response") {
        negotiate_response(&NegotiateResponse::decode(bytes)?, meaning);
        ("smb_direct.negotiate_response", bytes)
    } else {
        let header = DataTransferHeader::decode(bytes)?;
        data_transfer(&header, meaning);
        // Up to the payload; without one there is no padding.
        let end = match header.data_length {
            0 => DataTransferHeader::SIZE,
            _ => header.data_offset as usize,
        };
        ("smb_direct.data_message", bytes.get(..end).unwrap_or(bytes))
    };
    meaning.bytes(name, whole);
    Ok(name.to_owned())
}

fn negotiate_request(request: &NegotiateRequest, meaning: &mut Meaning) {
    meaning.number("smb_direct.version.min", request.min_version);
    meaning.number("smb_direct.version.max", request.max_version);
    meaning.number("smb_direct.credits.requested", request.credits_requested);
    meaning.number(
        "smb_direct.preferred_send_size",
        request.preferred_send_size,
    );
    meaning.number("smb_direct.max_receive_size", request.max_receive_size);
    meaning.number(
        "smb_direct.max_fragmented_size",
        request.max_fragmented_size,
    );
}

fn negotiate_response(response: &NegotiateResponse, meaning: &mut Meaning) {
    meaning.number("smb_direct.version.min", response.min_version);
    meaning.number("smb_direct.version.max", response.max_version);
    meaning.number("smb_direct.version.negotiated", response.negotiated_version);
    meaning.number("smb_direct.credits.requested", response.credits_requested);
    meaning.number("smb_direct.credits.granted", response.credits_granted);
    meaning.number("smb_direct.status", response.status);
    meaning.number(
        "smb_direct.max_read_write_size",
        response.max_read_write_size,
    );
    meaning.number(
        "smb_direct.preferred_send_size",
        response.preferred_send_size,
    );
    meaning.number("smb_direct.max_receive_size", response.max_receive_size);
    meaning.number(
        "smb_direct.max_fragmented_size",
        response.max_fragmented_size,
    );
}

fn data_transfer(header: &DataTransferHeader, meaning: &mut Meaning) {
    meaning.number("smb_direct.credits.requested", header.credits_requested);
    meaning.number("smb_direct.credits.granted", header.credits_granted);
    meaning.flags("smb_direct.flags", header.flags, FLAGS);
    meaning.number("smb_direct.remaining_length", header.remaining_data_length);
    meaning.number("smb_direct.data_offset", header.data_offset);
    meaning.number("smb_direct.data_length", header.data_length);
}
