//! SMB2's header (MS-SMB2 2.2.1), which body is behind it, and error responses (2.2.2).

use proto::smb2::error::ErrorResponse;
use proto::smb2::{Addressing, Command, Header, NtStatus};
use proto::wire::WireError;

use super::meaning::Meaning;
use super::shown::Layer;
use super::{Requests, connecting, files, flags, information, interfaces};

/// An SMB2 message and what it answers.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    pub header: Header,
    pub bytes: &'a [u8],
    /// Of a response, where it answers anything.
    pub request: Option<&'a [u8]>,
}

impl Element<'_> {
    /// The request, or an error that says that it is missing.
    pub fn answered(&self) -> Result<&[u8], WireError> {
        self.request.ok_or(WireError::new("MessageId", 24))
    }
}

/// One element of a compound, without those behind it.
pub fn message(
    bytes: &[u8],
    layer: &Layer,
    requests: &Requests,
    meaning: &mut Meaning,
) -> Result<String, WireError> {
    let header = Header::decode(bytes)?;
    let answers = layer.field("smb2.response_to");
    let answers = answers.and_then(|field| field.text.parse().ok());
    let found = answers.and_then(|frame: u64| requests.get(&(frame, header.message_id.0)));
    let element = Element {
        header,
        bytes,
        request: found.map(Vec::as_slice),
    };
    if header.is_response() && header.command_code != u16::from(Command::OplockBreak) {
        let asked = Header::decode(element.answered()?)?.command_code;
        // A CANCEL, which has no answer, has the MessageId of what it cancels (3.2.4.24).
        if asked != header.command_code && asked != u16::from(Command::Cancel) {
            return Err(WireError::new("Command", 12));
        }
        meaning.number("smb2.response_to", answers.unwrap_or_default());
    }
    common(&element, meaning);
    let what = format!(
        "{:?} {}",
        header.command()?,
        if header.is_response() {
            "response"
        } else {
            "request"
        }
    );
    if header.is_response() && has_error_body(header.status) {
        error(&element, meaning)?;
        return Ok(format!("{what}, error"));
    }
    match header.command()? {
        Command::Negotiate => connecting::negotiate(&element, meaning)?,
        Command::SessionSetup => connecting::session_setup(&element, meaning)?,
        Command::TreeConnect => connecting::tree_connect(&element, meaning)?,
        Command::Create => files::create(&element, meaning)?,
        Command::Close => files::close(&element, meaning)?,
        Command::Read => files::read(&element, meaning)?,
        Command::Write => files::write(&element, meaning)?,
        Command::Flush => files::flush(&element, meaning)?,
        Command::Lock => files::lock(&element, meaning)?,
        Command::ChangeNotify => files::change_notify(&element, meaning)?,
        Command::QueryDirectory => information::query_directory(&element, meaning)?,
        Command::QueryInfo => information::query_info(&element, meaning)?,
        Command::SetInfo => information::set_info(&element, meaning)?,
        Command::Ioctl => interfaces::ioctl(&element, meaning)?,
        // Nothing but a reserved field.
        Command::Logoff | Command::TreeDisconnect | Command::Echo | Command::Cancel => {}
        Command::OplockBreak | Command::ServerToClientNotification => {}
    }
    Ok(what)
}

fn common(element: &Element<'_>, meaning: &mut Meaning) {
    let header = &element.header;
    meaning.bytes("smb2.protocol_id", &proto::smb2::header::PROTOCOL_ID);
    meaning.number("smb2.header_len", 64u8);
    meaning.number("smb2.credit.charge", header.credit_charge);
    if header.is_response() {
        meaning.number("smb2.nt_status", header.status.0);
        meaning.number("smb2.credits.granted", header.credits);
    } else {
        meaning.number("smb2.channel_sequence", header.channel_sequence());
        meaning.number("smb2.credits.requested", header.credits);
    }
    meaning.number("smb2.cmd", header.command_code);
    meaning.flags("smb2.flags", header.flags.bits(), flags::HEADER);
    meaning.number("smb2.chain_offset", header.next_command);
    meaning.number("smb2.msg_id", header.message_id.0);
    match header.addressing {
        Addressing::Async(id) => meaning.number("smb2.aid", id.0),
        Addressing::Sync(tree) => {
            // Reserved, once a process id: a client may say what it likes, a server says nothing.
            match header.is_response() {
                true => meaning.number("smb2.pid", 0u8),
                false => meaning.anything("smb2.pid"),
            }
            meaning.number("smb2.tid", tree.0);
        }
    }
    meaning.number("smb2.sesid", header.session_id.0);
    meaning.bytes("smb2.signature", &header.signature);
    // StructureSize: what the decoders of the bodies insist on.
    let body = element.bytes.get(64..66).unwrap_or_default();
    let size = body
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    meaning.number("smb2.buffer_code", size);
    meaning.number("smb2.buffer_code.length", size >> 1);
    meaning.number("smb2.buffer_code.dynamic", size & 1);
}

/// Two statuses that are no success have the ordinary body (MS-SMB2 3.3.4.4).
fn has_error_body(status: NtStatus) -> bool {
    let ordinary = [
        NtStatus::SUCCESS,
        NtStatus::MORE_PROCESSING_REQUIRED,
        NtStatus::BUFFER_OVERFLOW,
    ];
    !ordinary.contains(&status)
}

fn error(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    let error = ErrorResponse::decode(element.bytes)?;
    meaning.number("smb2.error.context_count", error.context_count);
    meaning.number("smb2.error.byte_count", error.data.len() as u64);
    // Without data there is one byte, of no meaning.
    match error.data.is_empty() {
        true => meaning.bytes("smb2.error.data", &[0]),
        false => meaning.bytes("smb2.error.data", error.data),
    }
    // Shown again from the request.
    match element.header.command()? {
        Command::QueryInfo | Command::SetInfo => information::class_of_request(element, meaning)?,
        Command::QueryDirectory => information::level_of_request(element, meaning)?,
        _ => {}
    }
    Ok(())
}
