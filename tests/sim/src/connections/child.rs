//! A child: the real relay channels of its connections over one region, and the simplest requests there
//! are. What a WRITE brought is looked at when it is there, as a file would be written from it.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::future::LocalBoxFuture;
use proto::relay::Descriptor;
use proto::smb2::NtStatus;
use smbd::channel::{
    Channel, Outgoing, OutgoingPayload, Payload, Reading, RelayChannel, SharedRegion,
};

use super::client::{Kind, Request, pattern};
use crate::note;
use crate::run::Stage;

/// A request under way.
struct Task {
    request: Request,
    memory: LocalBoxFuture<'static, Result<Payload, NtStatus>>,
}

pub(super) struct Served {
    pub(super) client: u32,
    channel: RelayChannel,
    tasks: Vec<Task>,
    pub(super) ended: bool,
    /// A first message is here.
    began: bool,
}

#[derive(Default)]
pub(super) struct Child {
    region: Rc<SharedRegion>,
    pub(super) served: Vec<Served>,
}

impl Child {
    pub(super) fn serve(&mut self, client: u32, socket: OwnedFd) {
        let channel = RelayChannel::new(socket, Rc::clone(&self.region)).expect("a channel");
        self.served.push(Served {
            client,
            channel,
            tasks: Vec::new(),
            ended: false,
            began: false,
        });
    }

    pub(super) fn turn(&mut self, stage: &mut Stage) {
        for served in &mut self.served {
            served.turn(stage);
        }
        // What has ended and is drained is let go.
        self.served
            .retain(|served| !(served.ended && served.channel.is_drained()));
    }

    /// Ends a connection in order.
    pub(super) fn close(&mut self, client: u32) {
        let mut served = self.served.iter();
        if let Some(served) = served.find(|served| served.client == client) {
            served.channel.close();
        }
    }
}

impl Served {
    fn turn(&mut self, stage: &mut Stage) {
        let mut messages = Vec::new();
        let outcome = self.channel.receive(&mut |message| messages.push(message));
        if outcome.is_err() {
            self.ended = true;
        }
        if !self.began && !messages.is_empty() {
            self.began = true;
            self.channel.read_on(Reading::Freely);
            self.channel.authenticated();
        }
        for message in messages {
            self.begin(Request::decode(self.client, &message));
        }
        let mut context = Context::from_waker(Waker::noop());
        for mut task in std::mem::take(&mut self.tasks) {
            match task.memory.as_mut().poll(&mut context) {
                Poll::Pending => self.tasks.push(task),
                Poll::Ready(Ok(payload)) => self.finish(task.request, payload, stage),
                // The connection is at its end.
                Poll::Ready(Err(NtStatus::CONNECTION_DISCONNECTED)) => {}
                Poll::Ready(Err(status)) => panic!("no memory for a payload: {status:?}"),
            }
        }
        if !self.ended {
            let _ = self.channel.flush();
        }
    }

    fn begin(&mut self, request: Request) {
        note!("child of client {}: {request:?}", self.client);
        let memory = match request.kind {
            Kind::Echo => return self.reply(request, request.length, Vec::new()),
            Kind::Write => self.channel.fetch(descriptors(request), request.length),
            Kind::Read => self.channel.payload(request.length),
        };
        self.tasks.push(Task { request, memory });
    }

    fn finish(&mut self, request: Request, payload: Payload, stage: &mut Stage) {
        let expected = pattern(self.client, request.number, request.length);
        if request.kind == Kind::Write {
            let mut bytes = Vec::new();
            let copied = payload.slice().copy_out(request.length, &mut bytes);
            assert!(
                copied.is_ok() && bytes == expected,
                "client {}: WRITE {} brings other bytes",
                self.client,
                request.number
            );
            stage.tally.add("writes", 1);
            return self.reply(request, 8, Vec::new());
        }
        payload.slice().copy_in(&expected).expect("room for a READ");
        stage.tally.add("reads", 1);
        let writes = vec![OutgoingPayload {
            payload,
            length: request.length,
            descriptors: descriptors(request),
        }];
        self.reply(request, 8, writes);
    }

    fn reply(&mut self, request: Request, length: u32, writes: Vec<OutgoingPayload>) {
        let mut message = request.number.to_le_bytes().to_vec();
        message.extend(pattern(self.client, request.number, length));
        self.channel.send(Outgoing {
            pieces: vec![message.into()],
            writes,
            invalidate: None,
        });
    }
}

/// The request's memory: its number is the token. It is named in up to 24 pieces, more than some
/// devices take WRITEs at a time.
fn descriptors(request: Request) -> Vec<Descriptor> {
    let pieces = request.length.min(1 + request.message_length % 24);
    let longest = request.length.div_ceil(pieces);
    let starts = (0..request.length).step_by(longest as usize);
    let piece = |start: u32| Descriptor {
        offset: u64::from(start).into(),
        token: request.number.into(),
        length: longest.min(request.length - start).into(),
    };
    starts.map(piece).collect()
}
