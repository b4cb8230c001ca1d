//! CREATE, CLOSE, FLUSH and the commands on an open that move no file data.

use super::{FILE_ID, bytes, element};
use crate::smb2::access::{CreateAction, OplockLevel};
use crate::smb2::change_notify::{ChangeNotifyFlags, ChangeNotifyRequest, CompletionFilter};
use crate::smb2::close::{CloseFlags, CloseRequest, CloseResponse};
use crate::smb2::create::{CreateRequest, CreateResponse};
use crate::smb2::create_context::{CreateContext, CreateContexts};
use crate::smb2::error::{ErrorContext, ErrorResponse};
use crate::smb2::flush::FlushRequest;
use crate::smb2::fsctl::CtlCode;
use crate::smb2::ioctl::{IoctlRequest, IoctlResponse};
use crate::smb2::lock::{LockElement, LockFlags, LockRequest};
use crate::smb2::notification::SessionClosed;
use crate::smb2::oplock_break::{
    BreakMessage, LeaseBreakAcknowledgment, LeaseBreakNotification, LeaseState, OplockBreak,
};
use crate::smb2::query_directory::{
    QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use crate::smb2::query_info::{QueryInfoFlags, QueryInfoRequest};
use crate::smb2::set_info::SetInfoRequest;
use crate::smb2::{
    AccessMask, CreateDisposition, CreateOptions, FileAttributes, FileId, FileTime, ShareAccess,
    utf16,
};

#[test]
fn create_request_with_and_without_contexts() {
    let name = utf16::encode("a.b");
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
fn session_closed_notification() {
    let golden = vec![12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    golden!(SessionClosed, SessionClosed, golden.clone());
    let mut another_type = element(&golden);
    another_type[crate::smb2::HEADER_SIZE + 4] = 1;
    assert_eq!(
        SessionClosed::decode(&another_type).unwrap_err().field,
        "NotificationType"
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
