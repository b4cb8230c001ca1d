//! Messages and fragments on a pipe: how they are cut, waited for, bounded, and what damaged ones do.

use std::task::{Context, Poll};

use futures::task::noop_waker_ref;
use proptest::prelude::*;

use super::*;
use crate::dispatch::Progress;

#[test]
fn a_request_in_fragments_is_answered_once_its_last_has_come() {
    let stub = share_enum(1, MAX_PREFERRED_LENGTH, None);
    let fragment = |stub: &[u8], flags| {
        Request {
            context_id: 0,
            opnum: srvsvc::NETR_SHARE_ENUM,
            stub,
        }
        .encode(2, flags)
    };
    let mut pipe = bound_pipe();
    pipe.write(&fragment(&stub[..8], PfcFlags::FIRST_FRAG))
        .unwrap();
    pipe.write(&fragment(&stub[8..16], PfcFlags::empty()))
        .unwrap();
    assert_eq!(pipe.read(1), Err(NtStatus::PIPE_EMPTY));
    let last = fragment(&stub[16..], PfcFlags::LAST_FRAG);
    let answer = pipe.transceive(&last, WHOLE_MESSAGE).unwrap();
    assert!(holds(&answer.data, "some files"));
}

#[test]
fn a_call_given_up_half_way_makes_room_for_the_next() {
    let mut pipe = bound_pipe();
    let begun = Request {
        context_id: 0,
        opnum: 15,
        stub: &[0; 8],
    };
    pipe.write(&begun.encode(2, PfcFlags::FIRST_FRAG)).unwrap();
    let orphaned = Pdu {
        kind: PduType::ORPHANED,
        flags: PfcFlags::WHOLE,
        call_id: 2,
        authenticated: false,
        body: &[],
    };
    pipe.write(&orphaned.encode()).unwrap();
    let list = share_enum(1, MAX_PREFERRED_LENGTH, None);
    assert!(holds(
        &call(&mut pipe, srvsvc::NETR_SHARE_ENUM, &list),
        "Data"
    ));
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let mut pipe = bound_pipe();
    let piece = Request {
        context_id: 0,
        opnum: 15,
        stub: &[0; 60_000],
    };
    pipe.write(&piece.encode(2, PfcFlags::FIRST_FRAG)).unwrap();
    let answer = pipe
        .transceive(&piece.encode(2, PfcFlags::empty()), WHOLE_MESSAGE)
        .unwrap();
    assert_eq!(fault(&answer), FaultStatus::REMOTE_NO_MEMORY);
    assert_eq!(pipe.write(&[]), Err(NtStatus::PIPE_DISCONNECTED));
}

#[test]
fn a_long_answer_comes_in_fragments_each_a_message_read_in_pieces() {
    let mut served = served();
    served.shares = (0..500)
        .map(|number| ServedShare {
            name: format!("share{number}"),
            comment: "x".repeat(40),
            share_type: ShareType::DISK,
            browseable: true,
        })
        .collect();
    let mut pipe = Pipe::open("srvsvc", served).unwrap();
    let small = Bind {
        max_recv_frag: 2000,
        ..bind(vec![context(0, srvsvc::INTERFACE, &[SyntaxId::NDR20])])
    };
    let ack = bind_results(&mut pipe, &small, PduType::BIND);
    assert_eq!(ack.max_xmit_frag, 2000);
    let list = share_enum(1, MAX_PREFERRED_LENGTH, None);
    let first = pipe
        .transceive(&request(srvsvc::NETR_SHARE_ENUM, &list), 1024)
        .unwrap();
    assert_eq!(first.status(), NtStatus::BUFFER_OVERFLOW);
    assert_eq!(first.data.len(), 1024);
    let rest = pipe.read(WHOLE_MESSAGE).unwrap();
    assert_eq!(rest.status(), NtStatus::SUCCESS);
    let length = first.data.len() + rest.data.len();
    assert!(length <= 2000, "a fragment of {length}");
    let whole = [first.data, rest.data].concat();
    assert!(pdu(&whole).flags.contains(PfcFlags::FIRST_FRAG));

    let busy = pipe.transceive(&request(15, &[]), 100);
    assert_eq!(busy, Err(NtStatus::PIPE_BUSY));
    let mut last = Vec::new();
    while let Ok(read) = pipe.read(WHOLE_MESSAGE) {
        assert!(!read.more);
        last = read.data;
    }
    assert!(pdu(&last).flags.contains(PfcFlags::LAST_FRAG));
    assert_eq!(pipe.unread(), 0);
}

#[test]
fn answers_left_unread_cost_the_pipe() {
    let mut pipe = bound_pipe();
    let list = request(
        srvsvc::NETR_SHARE_ENUM,
        &share_enum(1, MAX_PREFERRED_LENGTH, None),
    );
    for _ in 0..100_000 {
        if pipe.write(&list).is_err() {
            assert!(pipe.unread() < 2 << 20);
            return;
        }
    }
    panic!("{} bytes are kept", pipe.unread());
}

#[test]
fn a_read_waits_for_the_answer_another_write_causes() {
    let pipe = NamedPipe::open("srvsvc", served()).unwrap();
    let progress = Progress::default();
    let mut read = Box::pin(pipe.read(WHOLE_MESSAGE, &progress));
    let mut cx = Context::from_waker(noop_waker_ref());
    assert!(read.as_mut().poll(&mut cx).is_pending());
    pipe.write(&bind_srvsvc()).unwrap();
    let Poll::Ready(Ok(message)) = read.as_mut().poll(&mut cx) else {
        panic!("the read still waits");
    };
    assert_eq!(pdu(&message.data).kind, PduType::BIND_ACK);
}

#[test]
fn a_read_that_waits_ends_when_cancelled_or_closed() {
    let pipe = NamedPipe::open("srvsvc", served()).unwrap();
    let mut cx = Context::from_waker(noop_waker_ref());
    let cancelled = Progress::default();
    let mut read = Box::pin(pipe.read(1, &cancelled));
    assert!(read.as_mut().poll(&mut cx).is_pending());
    cancelled.cancel();
    assert_eq!(
        read.as_mut().poll(&mut cx),
        Poll::Ready(Err(NtStatus::CANCELLED))
    );
    let progress = Progress::default();
    let mut read = Box::pin(pipe.read(1, &progress));
    assert!(read.as_mut().poll(&mut cx).is_pending());
    pipe.close();
    assert_eq!(
        read.as_mut().poll(&mut cx),
        Poll::Ready(Err(NtStatus::PIPE_DISCONNECTED))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_pipe_panic(
        writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8),
        max in 0usize..100,
    ) {
        let mut pipe = bound_pipe();
        for bytes in writes {
            let _ = pipe.write(&bytes);
            let _ = pipe.read(max);
        }
    }

    #[test]
    fn damaged_requests_end_in_an_answer_or_the_pipes_end(
        damage in proptest::collection::vec((0usize..200, any::<u8>()), 1..6),
        opnum in 0u16..40, cut in 0usize..200,
    ) {
        let stub = share_enum(1, MAX_PREFERRED_LENGTH, Some(0));
        let mut bytes = request(opnum, &stub);
        for (offset, value) in damage {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = value;
            }
        }
        bytes.truncate(cut.max(16));
        let mut pipe = bound_pipe();
        let _ = pipe.write(&bytes);
        while let Ok(read) = pipe.read(WHOLE_MESSAGE) {
            prop_assert!(!read.more);
        }
    }

    #[test]
    fn writes_may_cut_fragments_anywhere(sizes in proptest::collection::vec(1usize..50, 1..40)) {
        let mut pipe = Pipe::open("srvsvc", served()).unwrap();
        let list = share_enum(1, MAX_PREFERRED_LENGTH, None);
        let bytes = [bind_srvsvc(), request(srvsvc::NETR_SHARE_ENUM, &list)].concat();
        let mut rest = bytes.as_slice();
        for size in sizes.into_iter().cycle() {
            let (piece, left) = rest.split_at(size.min(rest.len()));
            pipe.write(piece).unwrap();
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(pdu(&pipe.read(WHOLE_MESSAGE).unwrap().data).kind, PduType::BIND_ACK);
        prop_assert_eq!(pdu(&pipe.read(WHOLE_MESSAGE).unwrap().data).kind, PduType::RESPONSE);
        prop_assert_eq!(pipe.read(WHOLE_MESSAGE), Err(NtStatus::PIPE_EMPTY));
    }
}
