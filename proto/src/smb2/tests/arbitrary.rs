//! No decoder panics whatever arrives; what an encoder wrote comes back.

use super::element;
use crate::smb2::change_notify::{ChangeNotifyRequest, NotifyEntry};
use crate::smb2::close::{CloseRequest, CloseResponse};
use crate::smb2::compression::CompressedMessage;
use crate::smb2::create::{CreateRequest, CreateResponse};
use crate::smb2::create_context::{CreateContext, CreateContexts};
use crate::smb2::error::ErrorResponse;
use crate::smb2::flush::FlushRequest;
use crate::smb2::fsctl::{NetworkInterface, ValidateNegotiateRequest};
use crate::smb2::info::directory::{DirectoryClass, DirectoryEntry};
use crate::smb2::info::ea::{FullEa, requested_names};
use crate::smb2::info::file::{FileAllInfo, FileNameInfo, FileRenameInfo, FileStreamInfo};
use crate::smb2::info::file_system::{FsAttributeInfo, FsVolumeInfo};
use crate::smb2::ioctl::{IoctlRequest, IoctlResponse};
use crate::smb2::lease::LeaseContext;
use crate::smb2::lock::LockRequest;
use crate::smb2::logoff::LogoffRequest;
use crate::smb2::negotiate::{NegotiateRequest, NegotiateResponse};
use crate::smb2::negotiate_context::{self as nc};
use crate::smb2::notification::SessionClosed;
use crate::smb2::oplock_break::BreakMessage;
use crate::smb2::query_directory::{QueryDirectoryRequest, QueryDirectoryResponse};
use crate::smb2::query_info::QueryInfoRequest;
use crate::smb2::rdma_transform::RdmaTransform;
use crate::smb2::read::{ReadFlags, ReadRequest, ReadResponse};
use crate::smb2::session_setup::{SessionSetupRequest, SessionSetupResponse};
use crate::smb2::set_info::SetInfoRequest;
use crate::smb2::transform::TransformHeader;
use crate::smb2::tree_connect::{TreeConnectRequest, TreeConnectResponse};
use crate::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use crate::smb2::*;
use proptest::prelude::*;

/// Runs every decoder over `bytes` and walks whatever list it found.
fn decode_everything(bytes: &[u8]) -> usize {
    let mut decoded = 0;
    let mut count = |is_ok: bool| decoded += usize::from(is_ok);
    count(Header::decode(bytes).is_ok());
    count(Elements::new(bytes).all(|element| element.is_ok()));
    count(TransformHeader::decode(bytes).is_ok());
    count(CompressedMessage::decode(bytes).is_ok());
    count(NegotiateRequest::decode(bytes).is_ok_and(|request| {
        request.dialects().count() > 0 && request.contexts.iter().all(|context| context.is_ok())
    }));
    count(
        NegotiateResponse::decode(bytes)
            .is_ok_and(|response| response.contexts.iter().all(|context| context.is_ok())),
    );
    count(multi_protocol::MultiProtocolNegotiate::decode(bytes).is_ok());
    count(nc::PreauthIntegrity::decode(bytes).is_ok());
    count(nc::Compression::decode(bytes).is_ok());
    count(nc::decode_algorithms(bytes).is_ok());
    count(nc::decode_rdma_transforms(bytes).is_ok());
    count(RdmaTransform::decode(bytes).is_ok());
    count(SessionSetupRequest::decode(bytes).is_ok());
    count(SessionSetupResponse::decode(bytes).is_ok());
    count(LogoffRequest::decode(bytes).is_ok());
    count(SessionClosed::decode(bytes).is_ok());
    count(TreeConnectRequest::decode(bytes).is_ok());
    count(TreeConnectResponse::decode(bytes).is_ok());
    count(CreateRequest::decode(bytes).is_ok_and(|request| walk_contexts(request.contexts)));
    count(CreateResponse::decode(bytes).is_ok_and(|(_, contexts)| walk_contexts(contexts)));
    count(walk_contexts(CreateContexts(bytes)));
    count(LeaseContext::decode(bytes).is_ok());
    count(CloseRequest::decode(bytes).is_ok());
    count(CloseResponse::decode(bytes).is_ok());
    count(FlushRequest::decode(bytes).is_ok());
    count(ReadRequest::decode(bytes).is_ok_and(|request| request.descriptors().is_ok()));
    count(ReadResponse::decode(bytes).is_ok());
    count(WriteRequest::decode(bytes).is_ok_and(|request| request.descriptors().is_ok()));
    count(WriteResponse::decode(bytes).is_ok());
    count(LockRequest::decode(bytes).is_ok_and(|request| request.locks().count() > 0));
    count(IoctlRequest::decode(bytes).is_ok());
    count(IoctlResponse::decode(bytes).is_ok());
    count(NetworkInterface::decode_list(bytes).is_ok());
    count(ValidateNegotiateRequest::decode(bytes).is_ok());
    count(QueryDirectoryRequest::decode(bytes).is_ok());
    count(QueryDirectoryResponse::decode(bytes).is_ok());
    count(ChangeNotifyRequest::decode(bytes).is_ok());
    count(NotifyEntry::iter(bytes).all(|entry| entry.is_ok()));
    count(QueryInfoRequest::decode(bytes).is_ok());
    count(SetInfoRequest::decode(bytes).is_ok());
    count(BreakMessage::decode(bytes).is_ok());
    count(
        ErrorResponse::decode(bytes)
            .is_ok_and(|response| response.contexts().all(|context| context.is_ok())),
    );
    for class in 0..=u8::MAX {
        if let Ok(class) = DirectoryClass::try_from(class) {
            count(DirectoryEntry::iter(class, bytes).all(|entry| entry.is_ok()));
        }
    }
    count(FullEa::iter(bytes).all(|entry| entry.is_ok()));
    count(requested_names(bytes).all(|entry| entry.is_ok()));
    count(FileStreamInfo::iter(bytes).all(|entry| entry.is_ok()));
    count(FileAllInfo::decode(bytes).is_ok());
    count(FileNameInfo::decode(bytes).is_ok());
    count(FileRenameInfo::decode(bytes).is_ok());
    count(FsVolumeInfo::decode(bytes).is_ok());
    count(FsAttributeInfo::decode(bytes).is_ok());
    count(utf16::decode(bytes, "Text").is_ok());
    decoded
}

fn walk_contexts(contexts: CreateContexts<'_>) -> bool {
    contexts
        .iter()
        .all(|context| context.is_ok_and(|context| context.requested().is_ok()))
}

#[test]
fn empty_input_decodes_as_nothing_but_empty_lists_and_text() {
    // Empty: create contexts, notify entries, seven directory classes, two kinds of attribute
    // lists, streams and text are valid when empty; everything else needs bytes.
    assert_eq!(decode_everything(b""), 1 + 1 + 7 + 2 + 1 + 1);
}

proptest! {
    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode_everything(&bytes) < 40);
    }

    #[test]
    fn no_decoder_panics_behind_a_valid_header_and_structure_size(
        size in prop::sample::select(vec![
            2_u8, 4, 9, 16, 17, 24, 25, 32, 33, 36, 41, 44, 48, 49, 57, 60, 65, 89,
        ]),
        next in prop::sample::select(vec![0_u32, 64, 72, 128, 200]),
        // Small values make offsets and lengths that point inside the message likely.
        body in prop::collection::vec(prop_oneof![0_u8..4, 60_u8..140, any::<u8>()], 0..300),
    ) {
        let mut header = Header::request(Command::Create, MessageId(1));
        header.next_command = next;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.extend([size, 0]);
        bytes.extend(body);
        prop_assert!(decode_everything(&bytes) >= 1);
    }

    #[test]
    fn read_and_write_requests_round_trip(
        (length, offset, channel, remaining) in any::<(u32, u64, u32, u32)>(),
        (persistent, volatile, flags) in any::<(u64, u64, u32)>(),
        channel_info in prop::collection::vec(any::<u8>(), 0..=144),
        data in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let file_id = FileId { persistent, volatile };
        let read = ReadRequest {
            padding: flags as u8,
            flags: ReadFlags::from_bits_retain((flags >> 8) as u8),
            length,
            offset,
            file_id,
            minimum_count: remaining,
            channel,
            remaining_bytes: remaining,
            channel_info: &channel_info,
        };
        let mut body = Vec::new();
        read.encode(&mut body);
        let read_element = element(&body);
        prop_assert_eq!(ReadRequest::decode(&read_element), Ok(read));
        let write = WriteRequest {
            offset,
            file_id,
            channel,
            remaining_bytes: remaining,
            flags: WriteFlags::from_bits_retain(flags),
            channel_info: &channel_info,
            data: &data,
        };
        body.clear();
        write.encode(&mut body);
        let write_element = element(&body);
        prop_assert_eq!(WriteRequest::decode(&write_element), Ok(write));
    }

    #[test]
    fn create_context_lists_round_trip(
        list in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1..17), prop::collection::vec(any::<u8>(), 0..40)),
            0..6,
        ),
        name in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let contexts: Vec<_> = list
            .iter()
            .map(|(name, data)| CreateContext { name, data })
            .collect();
        let request = CreateRequest {
            requested_oplock_level: 0,
            impersonation_level: 0,
            desired_access: AccessMask::empty(),
            file_attributes: FileAttributes::empty(),
            share_access: ShareAccess::empty(),
            create_disposition: 0,
            create_options: CreateOptions::empty(),
            name: &name,
            contexts: CreateContexts::default(),
        };
        let mut body = Vec::new();
        request.encode(&contexts, &mut body);
        let element = element(&body);
        let decoded = CreateRequest::decode(&element).unwrap();
        prop_assert_eq!(decoded.name, &name[..]);
        let found: Result<Vec<_>, _> = decoded.contexts.iter().collect();
        prop_assert_eq!(found, Ok(contexts));
    }
}
