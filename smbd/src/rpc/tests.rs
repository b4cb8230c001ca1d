//! The pipes as a client sees them: bytes in, messages out. The client's half comes from the same
//! encoders, which have golden bytes of their own.

use proto::rpc::bind::{Bind, BindAck, ContextResult, PresentationContext, RejectReason};
use proto::rpc::pdu::{Fault, Pdu, PduType, PfcFlags, Request, Response};
use proto::rpc::srvsvc::server::ServerGetInfoRequest;
use proto::rpc::srvsvc::session::SessionEnumRequest;
use proto::rpc::srvsvc::share::{
    MAX_PREFERRED_LENGTH, ShareEnumRequest, ShareGetInfoRequest, ShareType,
};
use proto::rpc::wkssvc::WkstaGetInfoRequest;
use proto::rpc::{FaultStatus, SyntaxId, Win32Error, srvsvc, wkssvc};
use proto::smb2::{FileTime, NtStatus, utf16};

use super::*;
use crate::config::Config;

mod messages;

const WHOLE_MESSAGE: usize = 65_535;

fn served() -> Served {
    let share = |name: &str, comment: &str, browseable| ServedShare {
        name: name.into(),
        comment: comment.into(),
        share_type: ShareType::DISK,
        browseable,
    };
    Served {
        server_name: "SERVER".into(),
        comment: "a server".into(),
        workgroup: "GROUP".into(),
        shares: vec![
            share("Data", "some files", true),
            share("secret", "not listed", false),
            share("more", "", true),
        ],
        now: || FileTime::from_unix(0, 0),
    }
}

fn context(id: u16, interface: SyntaxId, transfer: &[SyntaxId]) -> PresentationContext {
    PresentationContext {
        id,
        abstract_syntax: interface,
        transfer_syntaxes: transfer.to_vec(),
    }
}

fn bind(contexts: Vec<PresentationContext>) -> Bind {
    Bind {
        max_xmit_frag: 4280,
        max_recv_frag: 4280,
        assoc_group_id: 0,
        contexts,
    }
}

fn bind_srvsvc() -> Vec<u8> {
    bind(vec![context(0, srvsvc::INTERFACE, &[SyntaxId::NDR20])]).encode(PduType::BIND, 1)
}

fn bound_pipe() -> Pipe {
    let mut pipe = Pipe::open("srvsvc", served()).unwrap();
    let ack = pipe.transceive(&bind_srvsvc(), WHOLE_MESSAGE).unwrap();
    assert!(!ack.more);
    pipe
}

fn request(opnum: u16, stub: &[u8]) -> Vec<u8> {
    let request = Request {
        context_id: 0,
        opnum,
        stub,
    };
    request.encode(2, PfcFlags::WHOLE)
}

fn pdu(bytes: &[u8]) -> Pdu<'_> {
    let (pdu, length) = Pdu::decode(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len(), "a message is one fragment");
    pdu
}

fn bind_results(pipe: &mut Pipe, bind: &Bind, kind: PduType) -> BindAck {
    let answer = pipe
        .transceive(&bind.encode(kind, 1), WHOLE_MESSAGE)
        .unwrap();
    BindAck::decode(&pdu(&answer.data)).unwrap()
}

/// The stub of a response to a call, all its fragments joined.
fn call(pipe: &mut Pipe, opnum: u16, stub: &[u8]) -> Vec<u8> {
    pipe.write_to_transceive(&request(opnum, stub)).unwrap();
    let mut joined = Vec::new();
    loop {
        let message = pipe.read(WHOLE_MESSAGE).unwrap();
        let pdu = pdu(&message.data);
        assert_eq!((pdu.kind, pdu.call_id), (PduType::RESPONSE, 2));
        joined.extend_from_slice(Response::decode(&pdu).unwrap().stub);
        if pdu.flags.contains(PfcFlags::LAST_FRAG) {
            return joined;
        }
    }
}

fn fault(message: &PipeRead) -> FaultStatus {
    let pdu = pdu(&message.data);
    assert_eq!(pdu.kind, PduType::FAULT);
    Fault::decode(&pdu).unwrap().status
}

fn share_enum(level: u32, preferred_maximum_length: u32, resume_handle: Option<u32>) -> Vec<u8> {
    ShareEnumRequest {
        server_name: Some("\\\\server".into()),
        level,
        preferred_maximum_length,
        resume_handle,
    }
    .encode()
}

fn holds(stub: &[u8], text: &str) -> bool {
    let text = utf16::encode(text);
    stub.windows(text.len()).any(|window| window == text)
}

fn last_word(stub: &[u8]) -> u32 {
    u32::from_le_bytes(*stub.last_chunk().unwrap())
}

#[test]
fn only_the_two_pipes_can_be_opened_in_any_case() {
    for name in ["srvsvc", "SrvSvc", "\\wkssvc"] {
        assert!(Pipe::exists(name));
        assert!(Pipe::open(name, served()).is_ok(), "{name}");
    }
    for name in ["samr", "", "srvsvc\\", "pipe\\srvsvc2"] {
        assert!(!Pipe::exists(name));
        let refused = Pipe::open(name, served()).map(|_| ());
        assert_eq!(refused, Err(NtStatus::OBJECT_NAME_NOT_FOUND), "{name}");
    }
}

#[test]
fn ndr20_is_accepted_and_everything_else_rejected_one_by_one() {
    let features = SyntaxId {
        uuid: proto::smb2::Guid([
            0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45, 3, 0, 0, 0, 0, 0, 0, 0,
        ]),
        major: 1,
        minor: 0,
    };
    let mut pipe = Pipe::open("srvsvc", served()).unwrap();
    let offer = bind(vec![
        context(0, srvsvc::INTERFACE, &[SyntaxId::NDR20]),
        context(1, srvsvc::INTERFACE, &[SyntaxId::NDR64]),
        context(2, srvsvc::INTERFACE, &[features]),
        context(3, wkssvc::INTERFACE, &[SyntaxId::NDR20]),
    ]);
    let ack = bind_results(&mut pipe, &offer, PduType::BIND);
    assert_eq!(
        ack.results,
        [
            ContextResult::Accepted(SyntaxId::NDR20),
            ContextResult::Rejected(RejectReason::TransferSyntaxesNotSupported),
            ContextResult::Features(Bind::KEEP_CONNECTION_ON_ORPHAN),
            ContextResult::Rejected(RejectReason::AbstractSyntaxNotSupported),
        ]
    );
    assert_eq!(ack.secondary_address, "\\PIPE\\srvsvc");
    assert_ne!(ack.assoc_group_id, 0);
}

#[test]
fn a_context_added_later_can_be_called() {
    let mut pipe = bound_pipe();
    let more = bind(vec![context(9, srvsvc::INTERFACE, &[SyntaxId::NDR20])]);
    let ack = bind_results(&mut pipe, &more, PduType::ALTER_CONTEXT);
    assert_eq!(ack.results, [ContextResult::Accepted(SyntaxId::NDR20)]);
    let request = Request {
        context_id: 9,
        opnum: srvsvc::NETR_SHARE_ENUM,
        stub: &share_enum(0, MAX_PREFERRED_LENGTH, None),
    };
    let answer = pipe
        .transceive(&request.encode(5, PfcFlags::WHOLE), WHOLE_MESSAGE)
        .unwrap();
    assert_eq!(pdu(&answer.data).kind, PduType::RESPONSE);
}

#[test]
fn contexts_are_bounded() {
    let mut pipe = bound_pipe();
    let many = bind(
        (1..100)
            .map(|id| context(id, srvsvc::INTERFACE, &[SyntaxId::NDR20]))
            .collect(),
    );
    let ack = bind_results(&mut pipe, &many, PduType::ALTER_CONTEXT);
    assert_eq!(ack.results.len(), 99);
    assert_eq!(
        ack.results.last(),
        Some(&ContextResult::Rejected(RejectReason::LocalLimitExceeded))
    );
}

#[test]
fn a_bind_with_a_token_is_refused() {
    let mut bytes = bind_srvsvc();
    bytes.extend_from_slice(&[10, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    bytes[8] = u8::try_from(bytes.len()).unwrap();
    bytes[10] = 4;
    let mut pipe = Pipe::open("srvsvc", served()).unwrap();
    let answer = pipe.transceive(&bytes, WHOLE_MESSAGE).unwrap();
    let nak = pdu(&answer.data);
    assert_eq!((nak.kind, nak.body[0]), (PduType::BIND_NAK, 8));
    // Without one it may try again.
    let answer = pipe.transceive(&bind_srvsvc(), WHOLE_MESSAGE).unwrap();
    assert_eq!(pdu(&answer.data).kind, PduType::BIND_ACK);
}

#[test]
fn browseable_shares_are_listed_with_their_comments() {
    let mut pipe = bound_pipe();
    for level in [1, 2, 501, 502] {
        let stub = share_enum(level, MAX_PREFERRED_LENGTH, Some(0));
        let list = call(&mut pipe, srvsvc::NETR_SHARE_ENUM, &stub);
        assert!(holds(&list, "Data") && holds(&list, "some files") && holds(&list, "more"));
        assert!(
            !holds(&list, "secret"),
            "level {level} lists a hidden share"
        );
        assert_eq!(last_word(&list), Win32Error::SUCCESS.0);
    }
    let unknown = share_enum(7, MAX_PREFERRED_LENGTH, None);
    let answer = call(&mut pipe, srvsvc::NETR_SHARE_ENUM, &unknown);
    assert_eq!(last_word(&answer), Win32Error::INVALID_LEVEL.0);
}

#[test]
fn a_list_longer_than_preferred_is_told_in_parts() {
    let mut pipe = bound_pipe();
    let first = call(
        &mut pipe,
        srvsvc::NETR_SHARE_ENUM,
        &share_enum(1, 10, Some(0)),
    );
    assert!(holds(&first, "Data") && !holds(&first, "more"));
    assert_eq!(last_word(&first), Win32Error::MORE_DATA.0);
    let resume = last_word(&first[..first.len() - 4]);
    let rest = call(
        &mut pipe,
        srvsvc::NETR_SHARE_ENUM,
        &share_enum(1, 10_000, Some(resume)),
    );
    assert!(!holds(&rest, "Data") && holds(&rest, "more"));
    assert_eq!(last_word(&rest), Win32Error::SUCCESS.0);
}

#[test]
fn a_hidden_share_is_described_to_who_knows_its_name() {
    let mut pipe = bound_pipe();
    let mut ask = |name: &str| {
        let request = ShareGetInfoRequest {
            server_name: None,
            net_name: name.into(),
            level: 1,
        };
        call(&mut pipe, srvsvc::NETR_SHARE_GET_INFO, &request.encode())
    };
    assert!(holds(&ask("SECRET"), "not listed"));
    assert_eq!(last_word(&ask("absent")), Win32Error::NET_NAME_NOT_FOUND.0);
}

#[test]
fn the_server_and_its_clock_are_described_and_other_users_are_not() {
    let mut pipe = bound_pipe();
    let about = ServerGetInfoRequest {
        server_name: None,
        level: 101,
    };
    let answer = call(&mut pipe, srvsvc::NETR_SERVER_GET_INFO, &about.encode());
    assert!(holds(&answer, "SERVER") && holds(&answer, "a server"));
    let time = call(&mut pipe, srvsvc::NETR_REMOTE_TOD, &[0; 4]);
    assert_eq!(time[36..44], [1, 0, 0, 0, 1, 0, 0, 0], "the 1st of January");
    let sessions = SessionEnumRequest {
        server_name: None,
        client_name: None,
        user_name: None,
        level: 10,
    };
    let answer = sessions.encode_failure(Win32Error::ACCESS_DENIED);
    let stub = [0u32, 0, 0, 10, 10, 0x20000, 0, 0, u32::MAX, 0]
        .map(u32::to_le_bytes)
        .concat();
    assert_eq!(call(&mut pipe, srvsvc::NETR_SESSION_ENUM, &stub), answer);
}

#[test]
fn the_workstation_is_described_on_its_own_pipe() {
    let mut pipe = Pipe::open("wkssvc", served()).unwrap();
    let offer = bind(vec![context(0, wkssvc::INTERFACE, &[SyntaxId::NDR20])]);
    bind_results(&mut pipe, &offer, PduType::BIND);
    let mut ask = |level| {
        let request = WkstaGetInfoRequest {
            server_name: None,
            level,
        };
        call(&mut pipe, wkssvc::NETR_WKSTA_GET_INFO, &request.encode())
    };
    assert!(holds(&ask(100), "SERVER") && holds(&ask(100), "GROUP"));
    assert_eq!(last_word(&ask(102)), Win32Error::ACCESS_DENIED.0);
    assert_eq!(last_word(&ask(9)), Win32Error::INVALID_LEVEL.0);
}

#[test]
fn calls_nobody_can_carry_out_fault_and_the_next_one_works() {
    let mut pipe = bound_pipe();
    let fault_of =
        |pipe: &mut Pipe, bytes: &[u8]| fault(&pipe.transceive(bytes, WHOLE_MESSAGE).unwrap());
    assert_eq!(
        fault_of(&mut pipe, &request(200, &[])),
        FaultStatus::OP_RANGE_ERROR
    );
    assert_eq!(
        fault_of(&mut pipe, &request(srvsvc::NETR_SHARE_ENUM, &[1])),
        FaultStatus::BAD_STUB_DATA
    );
    let unbound = Request {
        context_id: 5,
        opnum: 15,
        stub: &[],
    };
    assert_eq!(
        fault_of(&mut pipe, &unbound.encode(1, PfcFlags::WHOLE)),
        FaultStatus::UNKNOWN_INTERFACE
    );
    let list = share_enum(1, MAX_PREFERRED_LENGTH, None);
    assert!(holds(
        &call(&mut pipe, srvsvc::NETR_SHARE_ENUM, &list),
        "Data"
    ));
}

#[test]
fn what_breaks_the_protocol_faults_once_and_ends_the_pipe() {
    let second_bind = bind_srvsvc();
    let continued = Request {
        context_id: 0,
        opnum: 15,
        stub: &[],
    }
    .encode(3, PfcFlags::LAST_FRAG);
    for bytes in [&second_bind, &continued] {
        let mut pipe = bound_pipe();
        let answer = pipe.transceive(bytes, WHOLE_MESSAGE).unwrap();
        assert_eq!(fault(&answer), FaultStatus::PROTOCOL_ERROR);
        assert_eq!(pipe.write(bytes), Err(NtStatus::PIPE_DISCONNECTED));
        assert_eq!(pipe.read(1), Err(NtStatus::PIPE_DISCONNECTED));
    }
    let mut unbound = Pipe::open("srvsvc", served()).unwrap();
    let answer = unbound
        .transceive(&request(15, &[]), WHOLE_MESSAGE)
        .unwrap();
    assert_eq!(fault(&answer), FaultStatus::PROTOCOL_ERROR);
    let mut garbled = bound_pipe();
    assert_eq!(garbled.write(&[0xFF; 16]), Ok(()));
    assert_eq!(garbled.read(1), Err(NtStatus::PIPE_DISCONNECTED));
}

#[test]
fn what_is_served_comes_from_the_configuration() {
    let text = "[global]\n netbios name = files\n server string = the files\n workgroup = OFFICE\n\
        [data]\n path = /a\n comment = some data\n\
        [admin$]\n path = /b\n browseable = no\n\
        [off]\n path = /c\n available = no\n";
    let config = Config::parse("smb.conf".as_ref(), text).unwrap();
    let served = Served::of(&config, || FileTime(0));
    assert_eq!(
        (&*served.server_name, &*served.workgroup),
        ("FILES", "OFFICE")
    );
    let shares: Vec<_> = served
        .shares
        .iter()
        .map(|share| {
            (
                &*share.name,
                &*share.comment,
                share.share_type,
                share.browseable,
            )
        })
        .collect();
    assert_eq!(
        shares,
        [
            ("data", "some data", ShareType::DISK, true),
            ("admin$", "", ShareType::DISK.special(), false),
            (
                "IPC$",
                "IPC Service (the files)",
                ShareType::IPC.special(),
                true
            ),
        ]
    );
}
