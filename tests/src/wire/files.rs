//! What is done with an open file: CREATE with its contexts, CLOSE, READ and WRITE with their buffer descriptors,
//! FLUSH, LOCK, CHANGE_NOTIFY (MS-SMB2 2.2.13 to 2.2.36).

use proto::smb2::change_notify::ChangeNotifyRequest;
use proto::smb2::close::{CloseRequest, CloseResponse};
use proto::smb2::create::{CreateRequest, CreateResponse};
use proto::smb2::create_context::{
    CreateContext, CreateContexts, DurableV2, MaximalAccessResponse, RequestedContext, name,
};
use proto::smb2::flush::FlushRequest;
use proto::smb2::lease::LeaseContext;
use proto::smb2::lock::LockRequest;
use proto::smb2::rdma::Descriptors;
use proto::smb2::read::{ReadRequest, ReadResponse};
use proto::smb2::write::{WriteRequest, WriteResponse};
use proto::smb2::{BufferDescriptorV1, Command, FileId, FileTime, Guid, Header};
use proto::wire::WireError;

use super::flags;
use super::meaning::{Meaning, offset_in};
use super::smb2::Element;

pub fn create(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = CreateRequest::decode(element.bytes)?;
        meaning.number("smb2.create.oplock", request.requested_oplock_level);
        meaning.number("smb2.impersonation.level", request.impersonation_level);
        // SmbCreateFlags (2.2.13): reserved, 0 of us.
        meaning.number("smb2.create_flags", 0u8);
        let access = request.desired_access.bits();
        meaning.flags("smb.access_mask", access, flags::ACCESS);
        let attributes = request.file_attributes.bits();
        meaning.flags("smb2.file_attribute", attributes, flags::ATTRIBUTES);
        let share = request.share_access.bits();
        meaning.flags("smb.share_access", share, flags::SHARE_ACCESS);
        meaning.number("smb2.create.disposition", request.create_disposition);
        let options = request.create_options.bits();
        meaning.flags("smb.create_options", options, flags::CREATE_OPTIONS);
        meaning.utf16("smb2.filename", request.name);
        meaning.buffer(element.bytes, request.name);
        return contexts(element, request.contexts, meaning);
    }
    let (response, answered) = CreateResponse::decode(element.bytes)?;
    meaning.number("smb2.create.oplock", u8::from(response.oplock_level));
    meaning.number("smb2.create.rep_flags", response.flags);
    meaning.number("smb2.create.rep_flags.reparse_point", response.flags & 1);
    meaning.number("smb2.create.action", u32::from(response.create_action));
    times(
        [
            response.creation_time,
            response.last_access_time,
            response.last_write_time,
            response.change_time,
        ],
        meaning,
    );
    meaning.number("smb2.allocation_size", response.allocation_size);
    meaning.number("smb2.eof", response.end_of_file);
    let attributes = response.file_attributes.bits();
    meaning.flags("smb2.file_attribute", attributes, flags::ATTRIBUTES);
    meaning.file_id(response.file_id);
    contexts(element, answered, meaning)
}

pub fn times(times: [FileTime; 4], meaning: &mut Meaning) {
    let names = [
        "smb2.create.time",
        "smb2.last_access.time",
        "smb2.last_write.time",
        "smb2.last_change.time",
    ];
    for (name, time) in names.into_iter().zip(times) {
        meaning.time(name, time);
    }
}

fn contexts(
    element: &Element<'_>,
    contexts: CreateContexts<'_>,
    meaning: &mut Meaning,
) -> Result<(), WireError> {
    meaning.buffer(element.bytes, contexts.0);
    meaning.bytes("smb2.create.extrainfo", contexts.0);
    let found: Vec<CreateContext<'_>> = contexts.iter().collect::<Result<_, _>>()?;
    for (at, context) in found.iter().enumerate() {
        // Every context's name stands behind its 16 bytes of header.
        let next = found
            .get(at + 1)
            .map(|next| offset_in(context.name, next.name));
        meaning.number("smb2.create.chain_offset", next.unwrap_or(0));
        meaning.number("smb2.olb.offset", 16u8);
        meaning.number("smb2.olb.length", context.name.len() as u64);
        meaning.text("smb2.tag", String::from_utf8_lossy(context.name));
        match context.data.is_empty() {
            true => meaning.anything("smb2.olb.offset"),
            false => {
                let offset = offset_in(context.name, context.data) + 16;
                meaning.number("smb2.olb.offset", offset);
            }
        }
        meaning.number("smb2.olb.length", context.data.len() as u64);
        meaning.bytes("smb2.create.chain_data", context.data);
        match element.header.is_response() {
            true => answered_context(context, meaning)?,
            false => requested_context(context, meaning)?,
        }
    }
    Ok(())
}

fn requested_context(context: &CreateContext<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    match context.requested()? {
        // Sixteen reserved bytes, which tshark shows as a FileId.
        RequestedContext::Durable => meaning.file_id(FileId {
            persistent: 0,
            volatile: 0,
        }),
        RequestedContext::Lease(lease) => self::lease(&lease, meaning),
        RequestedContext::DurableV2(DurableV2 {
            timeout_ms,
            flags,
            create_guid,
        }) => {
            meaning.number("smb2.dh2x.timeout", timeout_ms);
            meaning.number("smb2.dh2x.flags", flags);
            meaning.guid("smb2.dh2x.create_guid", create_guid);
        }
        _ => {}
    }
    Ok(())
}

fn answered_context(context: &CreateContext<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    match context.name {
        name::MAXIMAL_ACCESS => {
            let answer = MaximalAccessResponse::decode(context.data)?;
            meaning.number("smb2.mxac_status", answer.query_status.0);
            let access = answer.maximal_access.bits();
            meaning.flags("smb.access_mask", access, flags::ACCESS);
        }
        name::QUERY_ON_DISK_ID => meaning.bytes("smb2.qfid_fid", context.data),
        name::LEASE => lease(&LeaseContext::decode(context.data)?, meaning),
        _ => {}
    }
    Ok(())
}

fn lease(context: &LeaseContext, meaning: &mut Meaning) {
    meaning.guid("smb2.lease.lease_key", Guid(context.lease.key));
    let state = context.lease.state.bits();
    meaning.flags("smb2.lease.lease_state", state, flags::LEASE_STATE);
    meaning.flags(
        "smb2.lease.lease_flags",
        context.lease.flags.bits(),
        flags::LEASE,
    );
    meaning.number("smb2.lease.lease_duration", 0u8);
}

pub fn close(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = CloseRequest::decode(element.bytes)?;
        meaning.flags("smb2.close.flags", request.flags.bits(), flags::CLOSE);
        meaning.file_id(request.file_id);
        return Ok(());
    }
    let response = CloseResponse::decode(element.bytes)?;
    meaning.flags("smb2.close.flags", response.flags.bits(), flags::CLOSE);
    times(
        [
            response.creation_time,
            response.last_access_time,
            response.last_write_time,
            response.change_time,
        ],
        meaning,
    );
    meaning.number("smb2.allocation_size", response.allocation_size);
    meaning.number("smb2.eof", response.end_of_file);
    let attributes = response.file_attributes.bits();
    meaning.flags("smb2.file_attribute", attributes, flags::ATTRIBUTES);
    Ok(())
}

pub fn read(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = ReadRequest::decode(element.bytes)?;
        meaning.number("smb2.read_padding", request.padding);
        meaning.flags("smb2.read_flags", request.flags.bits(), flags::READ);
        meaning.number("smb2.read_length", request.length);
        meaning.number("smb2.file_offset", request.offset);
        meaning.file_id(request.file_id);
        meaning.number("smb2.min_count", request.minimum_count);
        meaning.number("smb2.channel", request.channel);
        meaning.number("smb2.remaining_bytes", request.remaining_bytes);
        return channel_information(element, request.channel_info, meaning);
    }
    let response = ReadResponse::decode(element.bytes)?;
    meaning.number("smb2.read_remaining", response.data_remaining);
    meaning.buffer(element.bytes, response.data);
    meaning.bytes("smb2.read.blob", response.data);
    data(response.data, meaning);
    Ok(())
}

/// What is in a file tshark shows as a protocol of its own.
fn data(data: &[u8], meaning: &mut Meaning) {
    if !data.is_empty() {
        meaning.bytes("data.data", data);
        meaning.number("data.len", data.len() as u64);
    }
}

pub fn write(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = WriteRequest::decode(element.bytes)?;
        meaning.offset("smb2.data_offset", element.bytes, request.data);
        meaning.number("smb2.write_length", request.data.len() as u64);
        meaning.number("smb2.file_offset", request.offset);
        meaning.file_id(request.file_id);
        meaning.number("smb2.channel", request.channel);
        meaning.number("smb2.remaining_bytes", request.remaining_bytes);
        meaning.flags("smb2.write.flags", request.flags.bits(), flags::WRITE);
        channel_information(element, request.channel_info, meaning)?;
        if request.data.is_empty() {
            meaning.bytes("smb2.write_data", request.data);
        }
        data(request.data, meaning);
        return Ok(());
    }
    let response = WriteResponse::decode(element.bytes)?;
    meaning.number("smb2.write.count", response.count);
    // Remaining and WriteChannelInfo (2.2.22): unused, 0.
    meaning.number("smb2.write.remaining", 0u8);
    meaning.number("smb2.channel_info_offset", 0u8);
    meaning.number("smb2.channel_info_length", 0u8);
    Ok(())
}

/// The buffer descriptors of an RDMA channel (MS-SMBD 2.2.3.1).
fn channel_information(
    element: &Element<'_>,
    information: &[u8],
    meaning: &mut Meaning,
) -> Result<(), WireError> {
    meaning.buffer(element.bytes, information);
    meaning.bytes("smb2.channel_info_blob", information);
    for descriptor in Descriptors::new(information)? {
        meaning.number("smb2.buffer_descriptor.offset", descriptor.offset);
        meaning.number("smb2.buffer_descriptor.token", descriptor.token);
        meaning.number("smb2.buffer_descriptor.length", descriptor.length);
    }
    Ok(())
}

/// Of a READ or WRITE request; none of any other message.
pub fn descriptors(element: &[u8]) -> Vec<BufferDescriptorV1> {
    let found = match Header::decode(element) {
        Ok(header) if header.is_response() => return Vec::new(),
        Ok(header) if header.command() == Ok(Command::Read) => {
            ReadRequest::decode(element).and_then(|request| request.descriptors())
        }
        Ok(header) if header.command() == Ok(Command::Write) => {
            WriteRequest::decode(element).and_then(|request| request.descriptors())
        }
        _ => return Vec::new(),
    };
    found.map(Iterator::collect).unwrap_or_default()
}

pub fn flush(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        meaning.file_id(FlushRequest::decode(element.bytes)?.file_id);
    }
    Ok(())
}

pub fn lock(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if element.header.is_response() {
        return Ok(());
    }
    let request = LockRequest::decode(element.bytes)?;
    meaning.number("smb2.lock_count", request.locks().len() as u64);
    meaning.file_id(request.file_id);
    // Elements of 24 bytes behind the 24 of the fixed part and the header's 64.
    let elements = element.bytes.get(88..).unwrap_or_default().chunks_exact(24);
    for (lock, bytes) in request.locks().zip(elements) {
        meaning.bytes("smb2.lock_info", bytes);
        meaning.number("smb2.file_offset", lock.offset);
        meaning.number("smb2.lock_length", lock.length);
        meaning.flags("smb2.lock_flags", lock.flags.bits(), flags::LOCK);
    }
    Ok(())
}

pub fn change_notify(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if element.header.is_response() {
        return Ok(());
    }
    let request = ChangeNotifyRequest::decode(element.bytes)?;
    meaning.flags("smb2.notify.flags", request.flags.bits(), flags::NOTIFY);
    meaning.number("smb2.output_buffer_len", request.output_buffer_length);
    meaning.file_id(request.file_id);
    let filter = request.completion_filter.bits();
    meaning.flags(
        "smb.nt.notify.completion_filter",
        filter,
        flags::COMPLETION_FILTER,
    );
    Ok(())
}
