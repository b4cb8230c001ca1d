//! NEGOTIATE, SESSION_SETUP, TREE_CONNECT and the messages without content.

use super::{bytes, element};
use crate::smb2::cancel::CancelRequest;
use crate::smb2::echo::{EchoRequest, EchoResponse};
use crate::smb2::flush::FlushResponse;
use crate::smb2::lock::LockResponse;
use crate::smb2::logoff::{LogoffRequest, LogoffResponse};
use crate::smb2::negotiate::{
    Capabilities, NegotiateAnswer, NegotiateOffer, NegotiateRequest, NegotiateResponse,
    SecurityMode,
};
use crate::smb2::negotiate_context::{self as nc, ContextType, RawContext};
use crate::smb2::session_setup::{
    SessionFlags, SessionSetupFlags, SessionSetupRequest, SessionSetupResponse,
};
use crate::smb2::set_info::SetInfoResponse;
use crate::smb2::tree_connect::{
    ShareCapabilities, ShareFlags, ShareType, TreeConnectFlags, TreeConnectRequest,
    TreeConnectResponse,
};
use crate::smb2::tree_disconnect::{TreeDisconnectRequest, TreeDisconnectResponse};
use crate::smb2::{AccessMask, Dialect, FileTime, Guid, SessionId, utf16};

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
    let path = utf16::encode(r"\\s\x");
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
