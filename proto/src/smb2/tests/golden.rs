//! Both directions of every message against golden bytes from MS-SMB2, cut off at each length.

use super::element;
use crate::smb2::access::{CreateAction, OplockLevel};
use crate::smb2::cancel::CancelRequest;
use crate::smb2::change_notify::{ChangeNotifyFlags, ChangeNotifyRequest, CompletionFilter};
use crate::smb2::close::{CloseFlags, CloseRequest, CloseResponse};
use crate::smb2::create::{CreateRequest, CreateResponse};
use crate::smb2::create_context::{CreateContext, CreateContexts};
use crate::smb2::echo::{EchoRequest, EchoResponse};
use crate::smb2::error::{ErrorContext, ErrorResponse};
use crate::smb2::flush::{FlushRequest, FlushResponse};
use crate::smb2::fsctl::CtlCode;
use crate::smb2::ioctl::{IoctlRequest, IoctlResponse};
use crate::smb2::lock::{LockElement, LockFlags, LockRequest, LockResponse};
use crate::smb2::logoff::{LogoffRequest, LogoffResponse};
use crate::smb2::negotiate::{
    Capabilities, NegotiateAnswer, NegotiateOffer, NegotiateRequest, NegotiateResponse,
    SecurityMode,
};
use crate::smb2::negotiate_context::{self as nc, ContextType, RawContext};
use crate::smb2::oplock_break::{
    BreakMessage, LeaseBreakAcknowledgment, LeaseBreakNotification, LeaseState, OplockBreak,
};
use crate::smb2::query_directory::{
    QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use crate::smb2::query_info::{QueryInfoFlags, QueryInfoRequest};
use crate::smb2::read::{ReadFlags, ReadRequest, ReadResponse, ReadResponseFixed};
use crate::smb2::session_setup::{
    SessionFlags, SessionSetupFlags, SessionSetupRequest, SessionSetupResponse,
};
use crate::smb2::set_info::{SetInfoRequest, SetInfoResponse};
use crate::smb2::tree_connect::{
    ShareCapabilities, ShareFlags, ShareType, TreeConnectFlags, TreeConnectRequest,
    TreeConnectResponse,
};
use crate::smb2::tree_disconnect::{TreeDisconnectRequest, TreeDisconnectResponse};
use crate::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use crate::smb2::*;
use crate::wire::WireError;

const FILE_ID: FileId = FileId {
    persistent: 0x1111_1111_1111_1111,
    volatile: 0x2222_2222_2222_2222,
};

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn utf16(text: &str) -> Vec<u8> {
    utf16::encode(text)
}

/// Both directions of one message against its golden body. `optional` bytes at the end may be
/// missing (the padding byte of an odd StructureSize); every shorter prefix must be an error.
macro_rules! golden {
    ($type:ident, $value:expr, $body:expr, optional: $optional:literal) => {{
        let (value, body): ($type, Vec<u8>) = ($value, $body);
        let mut encoded = vec![0x5A; 3];
        value.encode(&mut encoded);
        assert_eq!(&encoded[3..], &body[..]);
        let element = element(&body);
        assert_eq!($type::decode(&element), Ok(value));
        for length in 0..element.len() - $optional {
            let cut = $type::decode(&element[..length]);
            assert!(cut.is_err(), "length {length} gave {cut:?}");
        }
        let mut wrong_size = element.clone();
        wrong_size[HEADER_SIZE] ^= 1;
        assert_eq!(
            $type::decode(&wrong_size),
            Err(WireError::new("StructureSize", HEADER_SIZE))
        );
    }};
    ($type:ident, $value:expr, $body:expr) => {
        golden!($type, $value, $body, optional: 0)
    };
}

#[test]
fn messages_without_content() {
    golden!(LogoffRequest, LogoffRequest, vec![4, 0, 0, 0]);
    golden!(LogoffResponse, LogoffResponse, vec![4, 0, 0, 0]);
    golden!(
        TreeDisconnectRequest,
        TreeDisconnectRequest,
        vec![4, 0, 0, 0]
    );
    golden!(
        TreeDisconnectResponse,
        TreeDisconnectResponse,
        vec![4, 0, 0, 0]
    );
    golden!(EchoRequest, EchoRequest, vec![4, 0, 0, 0]);
    golden!(EchoResponse, EchoResponse, vec![4, 0, 0, 0]);
    golden!(CancelRequest, CancelRequest, vec![4, 0, 0, 0]);
    golden!(FlushResponse, FlushResponse, vec![4, 0, 0, 0]);
    golden!(LockResponse, LockResponse, vec![4, 0, 0, 0]);
    golden!(SetInfoResponse, SetInfoResponse, vec![2, 0]);
}

#[test]
fn negotiate_request_with_contexts() {
    let preauth = nc::PreauthIntegrity::data(&[nc::SHA_512], &[0x77; 5]);
    let ciphers = nc::algorithms_data(&[nc::cipher::AES_128_GCM]);
    let offer = NegotiateOffer {
        security_mode: SecurityMode::SIGNING_REQUIRED,
        capabilities: Capabilities::LARGE_MTU,
        client_guid: Guid([9; 16]),
        dialects: &[0x0302, 0x0311],
        contexts: &[
            RawContext {
                context_type: ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
                data: &preauth,
            },
            RawContext {
                context_type: ContextType::ENCRYPTION_CAPABILITIES,
                data: &ciphers,
            },
        ],
    };
    #[rustfmt::skip]
    let golden = bytes(&[
        &[36, 0, 2, 0, 2, 0, 0, 0, 4, 0, 0, 0], &[9; 16],
        &[104, 0, 0, 0, 2, 0, 0, 0], // NegotiateContextOffset, NegotiateContextCount
        &[0x02, 0x03, 0x11, 0x03], // Dialects end at 104, which is 8-aligned
        &[1, 0, 11, 0, 0, 0, 0, 0], // ContextType, DataLength, Reserved
        &[1, 0, 5, 0, 1, 0, 0x77, 0x77, 0x77, 0x77, 0x77], &[0; 5],
        &[2, 0, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0],
    ]);
    let mut encoded = Vec::new();
    offer.encode(&mut encoded);
    assert_eq!(encoded, golden);

    let element = element(&golden);
    let decoded = NegotiateRequest::decode(&element).unwrap();
    assert_eq!(decoded.security_mode, SecurityMode::SIGNING_REQUIRED);
    assert_eq!(decoded.capabilities, Capabilities::LARGE_MTU);
    assert_eq!(decoded.client_guid, Guid([9; 16]));
    assert!(decoded.dialects().eq([0x0302, 0x0311]));
    assert!(decoded.offers(Dialect::Smb311) && !decoded.offers(Dialect::Smb300));
    let contexts: Result<Vec<_>, _> = decoded.contexts.iter().collect();
    assert_eq!(contexts.as_deref(), Ok(offer.contexts));
    let hashes = nc::PreauthIntegrity::decode(&preauth).unwrap();
    assert!(hashes.hash_algorithms.contains(nc::SHA_512));
    assert_eq!(hashes.salt, [0x77; 5]);
    assert!(nc::decode_algorithms(&ciphers).unwrap().iter().eq([2]));

    for length in 0..element.len() {
        let cut = NegotiateRequest::decode(&element[..length])
            .and_then(|request| request.contexts.iter().collect::<Result<Vec<_>, _>>());
        assert!(cut.is_err(), "length {length}");
    }
}

#[test]
fn negotiate_request_before_311_has_a_start_time_and_no_contexts() {
    let mut golden = bytes(&[&[36, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[9; 16]]);
    golden.extend([0xFF; 8]); // ClientStartTime, which is no context list
    golden.extend([0x10, 0x02]);
    let element = element(&golden);
    let decoded = NegotiateRequest::decode(&element).unwrap();
    assert!(decoded.offers(Dialect::Smb210));
    assert_eq!(decoded.contexts.iter().count(), 0);
}

#[test]
fn negotiate_context_list_may_not_overlap_or_be_misaligned() {
    let mut golden = bytes(&[&[36, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[9; 16]]);
    golden.extend([0, 0, 0, 0, 1, 0, 0, 0, 0x11, 0x03, 0, 0]);
    golden.extend([8, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (offset, allowed) in [
        (104_u32, true),
        (96, false),
        (0, false),
        (106, false),
        (999, false),
    ] {
        let mut element = element(&golden);
        element[92..96].copy_from_slice(&offset.to_le_bytes());
        let decoded = NegotiateRequest::decode(&element);
        assert_eq!(decoded.is_ok(), allowed, "offset {offset}");
    }
}

#[test]
fn negotiate_response_with_token_and_context() {
    let data = nc::algorithms_data(&[nc::signing::AES_GMAC]);
    let answer = NegotiateAnswer {
        security_mode: SecurityMode::SIGNING_ENABLED,
        dialect: Dialect::Smb311,
        server_guid: Guid([8; 16]),
        capabilities: Capabilities::LARGE_MTU | Capabilities::MULTI_CHANNEL,
        max_transact_size: 0x10_0000,
        max_read_size: 0x20_0000,
        max_write_size: 0x30_0000,
        system_time: FileTime(5),
        server_start_time: FileTime(0),
        security_buffer: b"spn",
        contexts: &[RawContext {
            context_type: ContextType::SIGNING_CAPABILITIES,
            data: &data,
        }],
    };
    #[rustfmt::skip]
    let golden = bytes(&[
        &[65, 0, 1, 0, 0x11, 0x03, 1, 0], &[8; 16],
        &[0x0C, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0x30, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[128, 0, 3, 0, 136, 0, 0, 0], // SecurityBuffer, NegotiateContextOffset
        b"spn", &[0; 5],
        &[8, 0, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0],
    ]);
    let mut encoded = Vec::new();
    answer.encode(&mut encoded);
    assert_eq!(encoded, golden);

    let element = element(&golden);
    let decoded = NegotiateResponse::decode(&element).unwrap();
    assert_eq!(decoded.dialect_revision, 0x0311);
    assert_eq!(decoded.server_guid, answer.server_guid);
    assert_eq!(decoded.capabilities, answer.capabilities);
    assert_eq!(decoded.max_transact_size, answer.max_transact_size);
    assert_eq!(decoded.max_read_size, answer.max_read_size);
    assert_eq!(decoded.max_write_size, answer.max_write_size);
    assert_eq!(decoded.system_time, answer.system_time);
    assert_eq!(decoded.security_buffer, b"spn");
    let contexts: Result<Vec<_>, _> = decoded.contexts.iter().collect();
    assert_eq!(contexts.as_deref(), Ok(answer.contexts));
    for length in 0..element.len() {
        let cut = NegotiateResponse::decode(&element[..length])
            .and_then(|response| response.contexts.iter().collect::<Result<Vec<_>, _>>());
        assert!(cut.is_err(), "length {length}");
    }
}

#[test]
fn negotiate_context_data_survives_both_ways() {
    let transforms = nc::rdma_transforms_data(&[nc::rdma_transform::SIGNING]);
    assert_eq!(transforms, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    assert!(
        nc::decode_rdma_transforms(&transforms)
            .unwrap()
            .iter()
            .eq([2])
    );
    let compression =
        nc::Compression::data(nc::CompressionFlags::CHAINED, &[nc::compression::LZ77]);
    assert_eq!(compression, [1, 0, 0, 0, 1, 0, 0, 0, 2, 0]);
    let decoded = nc::Compression::decode(&compression).unwrap();
    assert_eq!(decoded.flags, nc::CompressionFlags::CHAINED);
    assert!(decoded.algorithms.iter().eq([2]));
    assert_eq!(
        nc::decode_transport(&[1, 0, 0, 0]),
        Ok(nc::TransportFlags::ACCEPT_TRANSPORT_LEVEL_SECURITY)
    );
    for length in 0..transforms.len() {
        assert!(nc::decode_rdma_transforms(&transforms[..length]).is_err());
        assert!(nc::Compression::decode(&compression[..length]).is_err());
    }
}

#[test]
fn session_setup() {
    golden!(
        SessionSetupRequest,
        SessionSetupRequest {
            flags: SessionSetupFlags::BINDING,
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::DFS,
            channel: 0,
            previous_session_id: SessionId(0x0807_0605_0403_0201),
            security_buffer: b"token",
        },
        bytes(&[
            &[25, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
            &[88, 0, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            b"token",
        ])
    );
    golden!(
        SessionSetupResponse,
        SessionSetupResponse {
            session_flags: SessionFlags::IS_GUEST,
            security_buffer: b"done",
        },
        bytes(&[&[9, 0, 1, 0, 72, 0, 4, 0], b"done"])
    );
}

#[test]
fn tree_connect() {
    let path = utf16(r"\\s\x");
    golden!(
        TreeConnectRequest,
        TreeConnectRequest {
            flags: TreeConnectFlags::empty(),
            path: &path,
        },
        bytes(&[&[9, 0, 0, 0, 72, 0, 10, 0], b"\\\0\\\0s\0\\\0x\0"])
    );
    golden!(
        TreeConnectResponse,
        TreeConnectResponse {
            share_type: ShareType::Pipe,
            share_flags: ShareFlags::NO_CACHING,
            capabilities: ShareCapabilities::SCALEOUT,
            maximal_access: AccessMask::FILE_ALL_ACCESS,
        },
        vec![
            16, 0, 2, 0, 0x30, 0, 0, 0, 0x20, 0, 0, 0, 0xFF, 0x01, 0x1F, 0
        ]
    );
}

#[test]
fn create_request_with_and_without_contexts() {
    let name = utf16("a.b");
    let request = CreateRequest {
        requested_oplock_level: OplockLevel::Lease.into(),
        impersonation_level: 2,
        desired_access: AccessMask::READ_DATA | AccessMask::SYNCHRONIZE,
        file_attributes: FileAttributes::NORMAL,
        share_access: ShareAccess::all(),
        create_disposition: CreateDisposition::OpenIf.into(),
        create_options: CreateOptions::NON_DIRECTORY_FILE,
        name: &name,
        contexts: CreateContexts::default(),
    };
    let fixed: [&[u8]; 6] = [
        &[57, 0, 0, 0xFF, 2, 0, 0, 0],
        &[0; 16],
        &[0x01, 0, 0x10, 0, 0x80, 0, 0, 0, 7, 0, 0, 0],
        &[3, 0, 0, 0, 0x40, 0, 0, 0, 120, 0, 6, 0],
        &[0; 8],
        b"a\0.\0b\0",
    ];
    let golden = bytes(&fixed);
    let mut encoded = Vec::new();
    request.encode(&[], &mut encoded);
    assert_eq!(encoded, golden);
    assert_eq!(CreateRequest::decode(&element(&golden)), Ok(request));

    let contexts = [CreateContext {
        name: b"QFid",
        data: b"",
    }];
    let mut golden = golden;
    golden[48..56].copy_from_slice(&[128, 0, 0, 0, 20, 0, 0, 0]);
    golden.extend([0, 0]);
    golden.extend([0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend(b"QFid");
    let mut encoded = Vec::new();
    request.encode(&contexts, &mut encoded);
    assert_eq!(encoded, golden);
    let element = element(&golden);
    let decoded = CreateRequest::decode(&element).unwrap();
    assert_eq!(decoded.name, request.name);
    let found: Result<Vec<_>, _> = decoded.contexts.iter().collect();
    assert_eq!(found.as_deref(), Ok(&contexts[..]));
    for length in 0..element.len() {
        assert!(CreateRequest::decode(&element[..length]).is_err());
    }
}

#[test]
fn opening_the_root_sends_one_byte_of_buffer() {
    let mut encoded = Vec::new();
    CreateRequest {
        requested_oplock_level: 0,
        impersonation_level: 2,
        desired_access: AccessMask::READ_ATTRIBUTES,
        file_attributes: FileAttributes::empty(),
        share_access: ShareAccess::READ,
        create_disposition: 1,
        create_options: CreateOptions::empty(),
        name: b"",
        contexts: CreateContexts::default(),
    }
    .encode(&[], &mut encoded);
    assert_eq!(encoded.len(), 57);
    assert_eq!(CreateRequest::decode(&element(&encoded)).unwrap().name, b"");
}

#[test]
fn create_response() {
    let response = CreateResponse {
        oplock_level: OplockLevel::Batch,
        flags: 0,
        create_action: CreateAction::Created,
        creation_time: FileTime(1),
        last_access_time: FileTime(2),
        last_write_time: FileTime(3),
        change_time: FileTime(4),
        allocation_size: 4096,
        end_of_file: 5,
        file_attributes: FileAttributes::ARCHIVE,
        file_id: FILE_ID,
    };
    #[rustfmt::skip]
    let golden = bytes(&[
        &[89, 0, 9, 0, 2, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0x10, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
        &[0x20, 0, 0, 0, 0, 0, 0, 0], &[0x11; 8], &[0x22; 8],
        &[152, 0, 0, 0, 32, 0, 0, 0],
        &[0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 24, 0, 8, 0, 0, 0],
        b"MxAc\0\0\0\0\x00\x00\x00\x00\xFF\x01\x1F\x00",
    ]);
    let contexts = [CreateContext {
        name: b"MxAc",
        data: b"\x00\x00\x00\x00\xFF\x01\x1F\x00",
    }];
    let mut encoded = Vec::new();
    response.encode(&contexts, &mut encoded);
    assert_eq!(encoded, golden);
    let element = element(&golden);
    let (decoded, found) = CreateResponse::decode(&element).unwrap();
    assert_eq!(decoded, response);
    let found: Result<Vec<_>, _> = found.iter().collect();
    assert_eq!(found.as_deref(), Ok(&contexts[..]));
    for length in 0..element.len() {
        assert!(CreateResponse::decode(&element[..length]).is_err());
    }
}

#[test]
fn close_and_flush() {
    golden!(
        CloseRequest,
        CloseRequest {
            flags: CloseFlags::POSTQUERY_ATTRIB,
            file_id: FILE_ID,
        },
        bytes(&[&[24, 0, 1, 0, 0, 0, 0, 0], &[0x11; 8], &[0x22; 8]])
    );
    golden!(
        CloseResponse,
        CloseResponse {
            flags: CloseFlags::POSTQUERY_ATTRIB,
            creation_time: FileTime(1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            allocation_size: 5,
            end_of_file: 6,
            file_attributes: FileAttributes::DIRECTORY,
        },
        bytes(&[
            &[60, 0, 1, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
            &[0x10, 0, 0, 0],
        ])
    );
    golden!(
        FlushRequest,
        FlushRequest { file_id: FILE_ID },
        bytes(&[&[24, 0, 0, 0, 0, 0, 0, 0], &[0x11; 8], &[0x22; 8]])
    );
}

const DESCRIPTOR: [u8; 16] = [
    0, 0x10, 0, 0, 0, 0x7F, 0, 0, 0x44, 0x33, 0x22, 0x11, 0, 0, 0x10, 0,
];

#[test]
fn read_request_inline_and_by_rdma() {
    let mut request = ReadRequest {
        padding: 0x50,
        flags: ReadFlags::empty(),
        length: 0x10_0000,
        offset: 0x2_0000,
        file_id: FILE_ID,
        minimum_count: 1,
        channel: Channel::None.into(),
        remaining_bytes: 0,
        channel_info: b"",
    };
    let mut golden = bytes(&[
        &[49, 0, 0x50, 0, 0, 0, 0x10, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        &[0x11; 8],
        &[0x22; 8],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0],
    ]);
    golden!(ReadRequest, request, golden.clone(), optional: 1);

    request.channel = Channel::RdmaV1Invalidate.into();
    request.channel_info = &DESCRIPTOR;
    golden.pop();
    golden[36] = 2;
    golden[44..48].copy_from_slice(&[112, 0, 16, 0]);
    golden.extend(DESCRIPTOR);
    golden!(ReadRequest, request, golden.clone());
    assert_eq!(request.channel(), Ok(Channel::RdmaV1Invalidate));
    let descriptors: Vec<_> = request.descriptors().unwrap().collect();
    let expected = BufferDescriptorV1 {
        offset: 0x7F00_0000_1000,
        token: 0x1122_3344,
        length: 0x10_0000,
    };
    assert_eq!(descriptors, [expected]);
}

#[test]
fn buffers_may_not_reach_into_the_fixed_part_or_past_the_end() {
    for (offset, length, allowed) in [
        (112_u16, 16_u16, true),
        (112, 17, false),
        (111, 16, false),
        (0, 16, false),
        (113, 16, false),
        (0xFFFF, 0xFFFF, false),
        (0xFFFF, 0, true),
    ] {
        let mut bytes = vec![0; 112 + 16];
        bytes[64] = 49;
        bytes[108..110].copy_from_slice(&offset.to_le_bytes());
        bytes[110..112].copy_from_slice(&length.to_le_bytes());
        let decoded = ReadRequest::decode(&bytes);
        assert_eq!(decoded.is_ok(), allowed, "{offset} {length}");
        if let Err(error) = decoded {
            assert_eq!(error, WireError::new("ReadChannelInfo", offset.into()));
        }
    }
}

#[test]
fn read_response_inline_and_by_rdma() {
    golden!(
        ReadResponse,
        ReadResponse {
            data_remaining: 0,
            flags: 0,
            data: b"data",
        },
        bytes(&[&[17, 0, 80, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"data"])
    );
    let mut fixed = Vec::new();
    ReadResponseFixed::rdma(0x1234).encode(&mut fixed);
    assert_eq!(
        fixed,
        [17, 0, 80, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]
    );
    let element = element(&fixed);
    let decoded = ReadResponse::decode(&element).unwrap();
    assert_eq!((decoded.data_remaining, decoded.data), (0x1234, &b""[..]));
    fixed.clear();
    ReadResponseFixed::inline(9).encode(&mut fixed);
    assert_eq!(fixed[2..8], [80, 0, 9, 0, 0, 0]);
}

#[test]
fn write_inline_and_by_rdma() {
    let mut request = WriteRequest {
        offset: 0x2_0000,
        file_id: FILE_ID,
        channel: 0,
        remaining_bytes: 0,
        flags: WriteFlags::WRITE_THROUGH,
        channel_info: b"",
        data: b"data",
    };
    let mut golden = bytes(&[
        &[49, 0, 112, 0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        &[0x11; 8],
        &[0x22; 8],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        b"data",
    ]);
    golden!(WriteRequest, request, golden.clone());

    request.channel = Channel::RdmaV1.into();
    request.channel_info = &DESCRIPTOR;
    request.data = b"";
    request.remaining_bytes = 0x10_0000;
    golden.truncate(48);
    golden[2..8].copy_from_slice(&[0; 6]);
    golden[32..44].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0x10, 0, 112, 0, 16, 0]);
    golden.extend(DESCRIPTOR);
    golden!(WriteRequest, request, golden.clone());
    assert_eq!(request.descriptors().unwrap().total_length(), 0x10_0000);
    golden!(
        WriteResponse,
        WriteResponse { count: 7 },
        vec![17, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn inline_write_data_may_start_at_most_0x100_bytes_into_the_message() {
    let mut body = vec![0; 0x101 + 4 - HEADER_SIZE];
    body[0] = 49;
    body[4] = 4;
    for (data_offset, expected) in [
        (0x100_u16, Ok(4)),
        (0x101, Err(WireError::new("DataOffset", HEADER_SIZE + 2))),
    ] {
        body[2..4].copy_from_slice(&data_offset.to_le_bytes());
        let element = element(&body);
        let decoded = WriteRequest::decode(&element);
        assert_eq!(decoded.map(|request| request.data.len()), expected);
    }
}

#[test]
fn lock_request() {
    let locks = [
        LockElement {
            offset: 1,
            length: 2,
            flags: LockFlags::EXCLUSIVE | LockFlags::FAIL_IMMEDIATELY,
        },
        LockElement {
            offset: u64::MAX,
            length: 0,
            flags: LockFlags::UNLOCK,
        },
    ];
    let golden = bytes(&[
        &[48, 0, 2, 0, 0x21, 0, 0, 0],
        &[0x11; 8],
        &[0x22; 8],
        &[
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x12, 0, 0, 0, 0, 0, 0, 0,
        ],
        &[0xFF; 8],
        &[0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
    ]);
    let mut encoded = Vec::new();
    LockRequest::encode(0x21, FILE_ID, &locks, &mut encoded);
    assert_eq!(encoded, golden);
    let element = element(&golden);
    let decoded = LockRequest::decode(&element).unwrap();
    assert_eq!((decoded.lock_sequence, decoded.file_id), (0x21, FILE_ID));
    assert!(decoded.locks().eq(locks));
    for length in 0..element.len() {
        assert!(LockRequest::decode(&element[..length]).is_err());
    }
}

#[test]
fn ioctl() {
    golden!(
        IoctlRequest,
        IoctlRequest {
            ctl_code: CtlCode::VALIDATE_NEGOTIATE_INFO,
            file_id: FileId::RELATED,
            input: b"in",
            max_input_response: 0,
            output: b"",
            max_output_response: 24,
            flags: IoctlRequest::IS_FSCTL,
        },
        bytes(&[
            &[57, 0, 0, 0, 0x04, 0x02, 0x14, 0],
            &[0xFF; 16],
            &[120, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            b"in",
        ])
    );
    golden!(
        IoctlResponse,
        IoctlResponse {
            ctl_code: CtlCode::QUERY_NETWORK_INTERFACE_INFO,
            file_id: FileId::RELATED,
            input: b"",
            output: b"out",
            flags: 0,
        },
        bytes(&[
            &[49, 0, 0, 0, 0xFC, 0x01, 0x14, 0],
            &[0xFF; 16],
            &[112, 0, 0, 0, 0, 0, 0, 0, 112, 0, 0, 0, 3, 0, 0, 0],
            &[0; 8],
            b"out",
        ])
    );
}

#[test]
fn query_directory() {
    golden!(
        QueryDirectoryRequest,
        QueryDirectoryRequest {
            file_information_class: 37,
            flags: QueryDirectoryFlags::RESTART_SCANS,
            file_index: 0,
            file_id: FILE_ID,
            pattern: b"*\0",
            output_buffer_length: 0x1_0000,
        },
        bytes(&[
            &[33, 0, 37, 1, 0, 0, 0, 0],
            &[0x11; 8],
            &[0x22; 8],
            &[96, 0, 2, 0, 0, 0, 1, 0],
            b"*\0",
        ])
    );
    golden!(
        QueryDirectoryResponse,
        QueryDirectoryResponse { output: b"entries" },
        bytes(&[&[9, 0, 72, 0, 7, 0, 0, 0], b"entries"])
    );
    golden!(
        QueryDirectoryResponse,
        QueryDirectoryResponse { output: b"" },
        vec![9, 0, 0, 0, 0, 0, 0, 0, 0],
        optional: 1
    );
}

#[test]
fn change_notify_request() {
    golden!(
        ChangeNotifyRequest,
        ChangeNotifyRequest {
            flags: ChangeNotifyFlags::WATCH_TREE,
            output_buffer_length: 0x1000,
            file_id: FILE_ID,
            completion_filter: CompletionFilter::FILE_NAME | CompletionFilter::SECURITY,
        },
        bytes(&[
            &[32, 0, 1, 0, 0, 0x10, 0, 0],
            &[0x11; 8],
            &[0x22; 8],
            &[1, 1, 0, 0, 0, 0, 0, 0],
        ])
    );
}

#[test]
fn query_info_and_set_info() {
    golden!(
        QueryInfoRequest,
        QueryInfoRequest {
            info_type: 1,
            file_info_class: 15,
            output_buffer_length: 0x1000,
            additional_information: 3,
            flags: QueryInfoFlags::RESTART_SCAN,
            file_id: FILE_ID,
            input: b"ea",
        },
        bytes(&[
            &[41, 0, 1, 15, 0, 0x10, 0, 0, 104, 0, 0, 0, 2, 0, 0, 0],
            &[3, 0, 0, 0, 1, 0, 0, 0],
            &[0x11; 8],
            &[0x22; 8],
            b"ea",
        ])
    );
    golden!(
        SetInfoRequest,
        SetInfoRequest {
            info_type: 1,
            file_info_class: 20,
            additional_information: 0,
            file_id: FILE_ID,
            buffer: b"12345678",
        },
        bytes(&[
            &[33, 0, 1, 20, 8, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0],
            &[0x11; 8],
            &[0x22; 8],
            b"12345678",
        ])
    );
}

#[test]
fn oplock_and_lease_breaks() {
    golden!(
        BreakMessage,
        BreakMessage::Oplock(OplockBreak {
            oplock_level: OplockLevel::LevelTwo.into(),
            file_id: FILE_ID,
        }),
        bytes(&[&[24, 0, 1, 0, 0, 0, 0, 0], &[0x11; 8], &[0x22; 8]])
    );
    golden!(
        BreakMessage,
        BreakMessage::LeaseNotification(LeaseBreakNotification {
            new_epoch: 2,
            flags: LeaseBreakNotification::ACK_REQUIRED,
            lease_key: [0x33; 16],
            current_lease_state: LeaseState::all(),
            new_lease_state: LeaseState::READ_CACHING,
        }),
        bytes(&[
            &[44, 0, 2, 0, 1, 0, 0, 0],
            &[0x33; 16],
            &[7, 0, 0, 0, 1, 0, 0, 0],
            &[0; 12]
        ])
    );
    golden!(
        BreakMessage,
        BreakMessage::LeaseAcknowledgment(LeaseBreakAcknowledgment {
            reserved: 0,
            flags: 0,
            lease_key: [0x33; 16],
            lease_state: LeaseState::READ_CACHING,
        }),
        bytes(&[
            &[36, 0, 0, 0, 0, 0, 0, 0],
            &[0x33; 16],
            &[1, 0, 0, 0],
            &[0; 8]
        ])
    );
}

#[test]
fn error_response_with_and_without_contexts() {
    golden!(
        ErrorResponse,
        ErrorResponse::default(),
        vec![9, 0, 0, 0, 0, 0, 0, 0, 0],
        optional: 1
    );
    let contexts = [
        ErrorContext {
            error_id: ErrorContext::ID_DEFAULT,
            data: b"need",
        },
        ErrorContext {
            error_id: ErrorContext::ID_SHARE_REDIRECT,
            data: b"go",
        },
    ];
    let data = ErrorResponse::contexts_data(&contexts);
    let response = ErrorResponse {
        context_count: 2,
        data: &data,
    };
    golden!(
        ErrorResponse,
        response,
        bytes(&[
            &[9, 0, 2, 0, 26, 0, 0, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0],
            b"need\0\0\0\0",
            &[2, 0, 0, 0, 0x53, 0x52, 0x64, 0x72],
            b"go",
        ])
    );
    assert!(response.contexts().map(Result::unwrap).eq(contexts));
    let overstated = ErrorResponse {
        context_count: 3,
        ..response
    };
    assert!(overstated.contexts().any(|context| context.is_err()));
}
