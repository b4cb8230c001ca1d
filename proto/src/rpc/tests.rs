use proptest::prelude::*;

use super::bind::*;
use super::pdu::*;
use super::srvsvc::server::*;
use super::srvsvc::session::SessionEnumRequest;
use super::srvsvc::share::*;
use super::wkssvc::*;
use super::*;
use crate::smb2::FileTime;

const SRVSVC_BYTES: [u8; 20] = [
    0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88,
    3, 0, 0, 0,
];
const NDR20_BYTES: [u8; 20] = [
    0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60,
    2, 0, 0, 0,
];
/// Windows' offer of features: both bits.
const FEATURES: SyntaxId = SyntaxId {
    uuid: Guid([
        0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45, 3, 0, 0, 0, 0, 0, 0, 0,
    ]),
    major: 1,
    minor: 0,
};

/// Little-endian words of 32 bits.
fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn utf16z(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn pdu(bytes: &[u8]) -> Pdu<'_> {
    let (pdu, length) = Pdu::decode(bytes).expect("well-formed").expect("complete");
    assert_eq!(length, bytes.len());
    pdu
}

/// Each shorter prefix of a stub is an error.
fn assert_no_prefix_decodes<T: std::fmt::Debug>(
    stub: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, WireError>,
) {
    for length in 0..stub.len() {
        let cut = decode(&stub[..length]);
        assert!(cut.is_err(), "length {length} gave {cut:?}");
    }
}

fn bind() -> Bind {
    Bind {
        max_xmit_frag: 4280,
        max_recv_frag: 4280,
        assoc_group_id: 0,
        contexts: vec![
            PresentationContext {
                id: 0,
                abstract_syntax: srvsvc::INTERFACE,
                transfer_syntaxes: vec![SyntaxId::NDR20],
            },
            PresentationContext {
                id: 1,
                abstract_syntax: srvsvc::INTERFACE,
                transfer_syntaxes: vec![FEATURES],
            },
        ],
    }
}

#[test]
fn a_bind_is_laid_out_as_c706_says() {
    let golden = [
        &[5, 0, 11, 3, 0x10, 0, 0, 0, 116, 0, 0, 0, 7, 0, 0, 0][..],
        &[0xB8, 0x10, 0xB8, 0x10, 0, 0, 0, 0, 2, 0, 0, 0],
        &[0, 0, 1, 0],
        &SRVSVC_BYTES,
        &NDR20_BYTES,
        &[1, 0, 1, 0],
        &SRVSVC_BYTES,
        &[0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45],
        &[3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ]
    .concat();
    assert_eq!(bind().encode(PduType::BIND, 7), golden);
    let pdu = pdu(&golden);
    assert_eq!((pdu.kind, pdu.call_id), (PduType::BIND, 7));
    let decoded = Bind::decode(&pdu).unwrap();
    assert_eq!(decoded, bind());
    assert_eq!(decoded.contexts[0].features(), None);
    assert_eq!(decoded.contexts[1].features(), Some(3));
    assert_no_prefix_decodes(pdu.body, |body| Bind::decode(&Pdu { body, ..pdu }));
}

#[test]
fn a_bind_ack_aligns_its_results_behind_the_address() {
    let ack = BindAck {
        max_xmit_frag: 4280,
        max_recv_frag: 4280,
        assoc_group_id: 0x1234,
        secondary_address: "\\PIPE\\srvsvc".into(),
        results: vec![
            ContextResult::Accepted(SyntaxId::NDR20),
            ContextResult::Rejected(RejectReason::TransferSyntaxesNotSupported),
            ContextResult::Features(2),
        ],
    };
    let golden = [
        &[5, 0, 12, 3, 0x10, 0, 0, 0, 116, 0, 0, 0, 7, 0, 0, 0][..],
        &[0xB8, 0x10, 0xB8, 0x10, 0x34, 0x12, 0, 0],
        &[13, 0],
        b"\\PIPE\\srvsvc\0",
        &[0],
        &[3, 0, 0, 0],
        &[0, 0, 0, 0],
        &NDR20_BYTES,
        &[2, 0, 2, 0],
        &[0; 20],
        &[3, 0, 2, 0],
        &[0; 20],
    ]
    .concat();
    assert_eq!(ack.encode(PduType::BIND_ACK, 7), golden);
    let pdu = pdu(&golden);
    assert_eq!(BindAck::decode(&pdu), Ok(ack));
    assert_no_prefix_decodes(pdu.body, |body| BindAck::decode(&Pdu { body, ..pdu }));
}

#[test]
fn an_answer_to_alter_context_has_no_address() {
    let ack = BindAck {
        max_xmit_frag: 4280,
        max_recv_frag: 4280,
        assoc_group_id: 1,
        secondary_address: String::new(),
        results: vec![ContextResult::Accepted(SyntaxId::NDR20)],
    };
    let bytes = ack.encode(PduType::ALTER_CONTEXT_RESPONSE, 1);
    assert_eq!(bytes[24..32], [0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(BindAck::decode(&pdu(&bytes)), Ok(ack));
}

#[test]
fn a_bind_nak_names_the_version_spoken() {
    assert_eq!(
        NakReason::AuthenticationTypeNotRecognized.encode(3),
        [
            5, 0, 13, 3, 0x10, 0, 0, 0, 21, 0, 0, 0, 3, 0, 0, 0, 8, 0, 1, 5, 0
        ]
    );
}

#[test]
fn a_request_leaves_its_object_and_its_security_trailer_out_of_the_stub() {
    let golden = [
        5, 0, 0, 3, 0x10, 0, 0, 0, 27, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 2, 0, 15, 0, 1, 2, 3,
    ];
    let request = Request {
        context_id: 2,
        opnum: 15,
        stub: &[1, 2, 3],
    };
    assert_eq!(request.encode(9, PfcFlags::WHOLE), golden);
    assert_eq!(Request::decode(&pdu(&golden)), Ok(request));

    let mut with_object = golden.to_vec();
    with_object[3] |= PfcFlags::OBJECT_UUID.bits();
    with_object.splice(24..24, [0xEE; 16]);
    // Padding, trailer of 8 bytes, token of 4.
    with_object.extend_from_slice(&[0xAA; 12]);
    with_object[8] = u8::try_from(with_object.len()).unwrap();
    with_object[10] = 4;
    let pdu = pdu(&with_object);
    assert!(pdu.authenticated);
    assert_eq!(Request::decode(&pdu), Ok(request));
}

#[test]
fn headers_that_are_wrong_are_refused_and_short_ones_waited_for() {
    let golden = bind().encode(PduType::BIND, 1);
    for length in 0..golden.len() {
        assert_eq!(Pdu::decode(&golden[..length]), Ok(None), "{length}");
    }
    let with = |offset: usize, value: u8| {
        let mut bytes = golden.clone();
        bytes[offset] = value;
        Pdu::decode(&bytes).map(|_| ())
    };
    assert_eq!(with(0, 4), Err(WireError::new("rpc_vers", 0)));
    assert_eq!(with(4, 0), Err(WireError::new("packed_drep", 4)));
    assert_eq!(with(8, 15), Err(WireError::new("frag_length", 8)));
    assert_eq!(with(11, 1), Err(WireError::new("frag_length", 8)));
}

#[test]
fn a_long_response_is_cut_into_fragments_that_end_on_eight_bytes() {
    let stub: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    let response = Response {
        context_id: 3,
        stub: &stub,
    };
    let fragments = response.encode(5, 1433);
    assert_eq!(
        fragments.iter().map(Vec::len).collect::<Vec<_>>(),
        [1432, 1432, 1432, 1432, 1432, 1432, 1432, 168]
    );
    let mut joined = Vec::new();
    for (number, fragment) in fragments.iter().enumerate() {
        let pdu = pdu(fragment);
        assert_eq!(pdu.flags.contains(PfcFlags::FIRST_FRAG), number == 0);
        assert_eq!(pdu.flags.contains(PfcFlags::LAST_FRAG), number == 7);
        joined.extend_from_slice(Response::decode(&pdu).unwrap().stub);
    }
    assert_eq!(joined, stub);
    let empty = Response {
        context_id: 0,
        stub: &[],
    };
    assert_eq!(empty.encode(1, 4280).len(), 1);
}

#[test]
fn a_fault_says_that_nothing_was_carried_out() {
    let fault = Fault {
        context_id: 1,
        status: FaultStatus::OP_RANGE_ERROR,
    };
    let golden = [
        5, 0, 3, 0x23, 0x10, 0, 0, 0, 32, 0, 0, 0, 4, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1,
        0x1C, 0, 0, 0, 0,
    ];
    assert_eq!(fault.encode(4), golden);
    assert_eq!(Fault::decode(&pdu(&golden)), Ok(fault));
}

fn share_enum() -> ShareEnumRequest {
    ShareEnumRequest {
        server_name: Some("ab".into()),
        level: 1,
        preferred_maximum_length: MAX_PREFERRED_LENGTH,
        resume_handle: Some(0),
    }
}

#[test]
fn share_enum_is_laid_out_as_the_interface_says() {
    let golden = [
        words(&[0x20000, 3, 0, 3]),
        utf16z("ab"),
        vec![0, 0],
        words(&[1, 1, 0x20004, 0, 0, u32::MAX, 0x20008, 0]),
    ]
    .concat();
    assert_eq!(share_enum().encode(), golden);
    assert_eq!(ShareEnumRequest::decode(&golden), Ok(share_enum()));
    assert_no_prefix_decodes(&golden, ShareEnumRequest::decode);
}

#[test]
fn share_enum_with_entries_of_the_clients_own_is_refused() {
    let with_buffer = |count| words(&[0, 1, 1, 0x20004, count, 0x20008, count, u32::MAX, 0]);
    assert!(ShareEnumRequest::decode(&with_buffer(0)).is_ok());
    assert!(ShareEnumRequest::decode(&with_buffer(1)).is_err());
    let discriminant_differs = words(&[0, 1, 2, 0, u32::MAX, 0]);
    assert!(ShareEnumRequest::decode(&discriminant_differs).is_err());
}

const SHARES: [ShareInfo<'static>; 2] = [
    ShareInfo {
        name: "a",
        share_type: ShareType::DISK,
        remark: "xyz",
    },
    ShareInfo {
        name: "b$",
        share_type: ShareType::IPC.special(),
        remark: "",
    },
];

#[test]
fn listed_shares_have_their_strings_behind_the_array() {
    let response = ShareEnumResponse {
        level: ShareLevel::Info1,
        entries: &SHARES,
        total_entries: 2,
        resume_handle: Some(0),
        error: Win32Error::SUCCESS,
    };
    let golden = [
        words(&[1, 1, 0x20000, 2, 0x20004, 2]),
        words(&[0x20008, 0, 0x2000C]),
        words(&[0x20010, 0x8000_0003, 0x20014]),
        words(&[2, 0, 2]),
        utf16z("a"),
        words(&[4, 0, 4]),
        utf16z("xyz"),
        words(&[3, 0, 3]),
        utf16z("b$"),
        vec![0, 0],
        words(&[1, 0, 1]),
        utf16z(""),
        vec![0, 0],
        words(&[2, 0x20018, 0, 0]),
    ]
    .concat();
    assert_eq!(response.encode(), golden);
}

#[test]
fn a_list_without_shares_has_no_array() {
    let response = ShareEnumResponse {
        level: ShareLevel::Info502,
        entries: &[],
        total_entries: 0,
        resume_handle: None,
        error: Win32Error::SUCCESS,
    };
    assert_eq!(
        response.encode(),
        words(&[502, 502, 0x20000, 0, 0, 0, 0, 0])
    );
    assert_eq!(
        share_enum().encode_failure(Win32Error::INVALID_LEVEL),
        words(&[1, 1, 0, 0, 0x20000, 0, 124])
    );
}

#[test]
fn each_level_of_a_share_has_its_own_fields() {
    let fixed = |level: u32| {
        let level = ShareLevel::of(level).unwrap();
        let stub = ShareGetInfoRequest::encode_answer(level, &SHARES[0]);
        stub.as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect::<Vec<_>>()
    };
    let name = [2, 0, 2, u32::from(b'a')];
    let remark = [4, 0, 4, 0x0079_0078, 0x0000_007A];
    let path = [1, 0, 1, 0];
    let strings = [&name[..], &remark].concat();
    let golden = |level: u32, fields: &[u32], strings: &[u32]| {
        [&[level, 0x20000], fields, strings, &[0]].concat()
    };
    assert_eq!(fixed(0), golden(0, &[0x20004], &name));
    assert_eq!(fixed(1), golden(1, &[0x20004, 0, 0x20008], &strings));
    assert_eq!(fixed(501), golden(501, &[0x20004, 0, 0x20008, 0], &strings));
    let all = [&strings[..], &path].concat();
    let two = [0x20004, 0, 0x20008, 0, u32::MAX, 0, 0x2000C, 0];
    assert_eq!(fixed(2), golden(2, &two, &all));
    assert_eq!(fixed(502), golden(502, &[&two[..], &[0, 0]].concat(), &all));
    assert_eq!(fixed(1005), golden(1005, &[0], &[]));
    assert_eq!(ShareLevel::of(3), None);
}

#[test]
fn share_get_info_carries_the_name_without_a_pointer() {
    let request = ShareGetInfoRequest {
        server_name: None,
        net_name: "IPC$".into(),
        level: 1,
    };
    let golden = [
        words(&[0, 5, 0, 5]),
        utf16z("IPC$"),
        vec![0, 0],
        words(&[1]),
    ]
    .concat();
    assert_eq!(request.encode(), golden);
    assert_eq!(ShareGetInfoRequest::decode(&golden), Ok(request.clone()));
    assert_no_prefix_decodes(&golden, ShareGetInfoRequest::decode);
    assert_eq!(
        request.encode_failure(Win32Error::NET_NAME_NOT_FOUND),
        words(&[1, 0, 2310])
    );
}

#[test]
fn the_server_is_described_at_three_levels() {
    let info = ServerInfo {
        name: "S",
        version_major: 6,
        version_minor: 1,
        software: SoftwareType::SERVER,
        comment: "c",
    };
    let text = |letter: u8| words(&[2, 0, 2, u32::from(letter)]);
    assert_eq!(
        info.encode(ServerLevel::Info100),
        [
            words(&[100, 0x20000, 500, 0x20004]),
            text(b'S'),
            words(&[0])
        ]
        .concat()
    );
    assert_eq!(
        info.encode(ServerLevel::Info101),
        [
            words(&[101, 0x20000, 500, 0x20004, 6, 1, 2, 0x20008]),
            text(b'S'),
            text(b'c'),
            words(&[0]),
        ]
        .concat()
    );
    assert_eq!(
        info.encode(ServerLevel::Info102),
        [
            words(&[102, 0x20000, 500, 0x20004, 6, 1, 2, 0x20008]),
            words(&[u32::MAX, 15, 0, 240, 3000, 0, 0x2000C]),
            text(b'S'),
            text(b'c'),
            words(&[4, 0, 4, 0x003A_0043, 0x0000_005C]),
            words(&[0]),
        ]
        .concat()
    );
    let request = ServerGetInfoRequest {
        server_name: Some("\\\\S".into()),
        level: 101,
    };
    assert_eq!(
        ServerGetInfoRequest::decode(&request.encode()),
        Ok(request.clone())
    );
    assert_no_prefix_decodes(&request.encode(), ServerGetInfoRequest::decode);
}

#[test]
fn the_time_of_day_is_told_in_utc() {
    // 2024-02-29 13:45:59.5, a Thursday.
    let now = FileTime::from_unix(1_709_214_359, 500_000_000);
    assert_eq!(
        encode_remote_tod(now, 9),
        words(&[
            0x20000,
            1_709_214_359,
            9,
            13,
            45,
            59,
            50,
            0,
            310,
            29,
            2,
            2024,
            4,
            0
        ])
    );
}

#[test]
fn a_workstation_is_described_and_sessions_are_refused() {
    let info = WkstaInfo100 {
        platform_id: 500,
        computer_name: "S",
        lan_group: "G",
        version_major: 6,
        version_minor: 1,
    };
    let text = |letter: u8| words(&[2, 0, 2, u32::from(letter)]);
    assert_eq!(
        info.encode(),
        [
            words(&[100, 0x20000, 500, 0x20004, 0x20008, 6, 1]),
            text(b'S'),
            text(b'G'),
            words(&[0]),
        ]
        .concat()
    );
    let sessions = words(&[0, 0, 0, 10, 10, 0x20000, 0, 0, u32::MAX, 0]);
    let request = SessionEnumRequest::decode(&sessions).unwrap();
    assert_eq!(
        request.encode_failure(Win32Error::ACCESS_DENIED),
        words(&[10, 10, 0x20000, 0, 0, 0, 0, 5])
    );
}

#[test]
fn an_older_minor_version_is_served_and_no_other() {
    let interface = SyntaxId {
        major: 3,
        minor: 2,
        ..srvsvc::INTERFACE
    };
    assert!(interface.serves(&srvsvc::INTERFACE));
    assert!(!srvsvc::INTERFACE.serves(&interface));
    assert!(!interface.serves(&SyntaxId {
        major: 2,
        ..interface
    }));
    assert!(!interface.serves(&wkssvc::INTERFACE));
}

proptest! {
    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ShareEnumRequest::decode(&bytes);
        let _ = ShareGetInfoRequest::decode(&bytes);
        let _ = ServerGetInfoRequest::decode(&bytes);
        let _ = SessionEnumRequest::decode(&bytes);
        let _ = WkstaGetInfoRequest::decode(&bytes);
        let _ = decode_remote_tod(&bytes);
        if let Ok(Some((pdu, length))) = Pdu::decode(&bytes) {
            prop_assert!(length <= bytes.len());
            prop_assert!(pdu.body.len() <= length);
        }
        for flags in [PfcFlags::WHOLE, PfcFlags::OBJECT_UUID] {
            let pdu = Pdu {
                kind: PduType::BIND,
                flags,
                call_id: 0,
                authenticated: false,
                body: &bytes,
            };
            let _ = Bind::decode(&pdu);
            let _ = BindAck::decode(&pdu);
            let _ = Request::decode(&pdu);
            let _ = Response::decode(&pdu);
            let _ = Fault::decode(&pdu);
        }
    }

    #[test]
    fn a_damaged_header_never_reaches_beyond_the_bytes(
        offset in 0usize..16, value: u8, extra in 0usize..40,
    ) {
        let mut bytes = bind().encode(PduType::BIND, 1);
        bytes[offset] = value;
        bytes.resize(bytes.len() + extra, 0);
        if let Ok(Some((pdu, length))) = Pdu::decode(&bytes) {
            prop_assert!(pdu.body.len() + HEADER_SIZE <= length && length <= bytes.len());
        }
    }
}
