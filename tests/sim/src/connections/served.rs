//! One relay that a child serves: the real channel, and the simplest requests there are. What a WRITE
//! brought is looked at when it is there, and kept, as a file would be written from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use proto::relay::{INLINE_PREFERRED, MAX_MESSAGES, Outline, Word};
use proto::smb2::NtStatus;
use smbd::channel::{
    Channel, Followed, Outgoing, OutgoingPayload, Payload, Reading, RelayChannel, SharedRegion,
};

use super::request::{Kind, LENGTH_AT, PIECES_AT, REQUEST_SIZE, Request, pattern};
use crate::memory::RING_SIZE;
use crate::note;
use crate::run::{Sabotage, Stage};

/// A request under way.
struct Task {
    request: Request,
    memory: LocalBoxFuture<'static, Result<Payload, NtStatus>>,
    /// Its number on its connection.
    message: u64,
    is_new: bool,
}

/// What WRITEs brought, by client and request: the file system, which outlives every process.
pub(super) type Files = Rc<RefCell<BTreeMap<(u32, u32), Vec<u8>>>>;

/// A message with its number.
pub(super) type Message = (u64, Vec<u8>);

pub(super) struct Served {
    pub(super) client: u32,
    /// Which smbdirectd it is a connection of.
    pub(super) smbdirectd: u64,
    channel: RelayChannel,
    tasks: Vec<Task>,
    pub(super) ended: bool,
    /// The broker counts it.
    pub(super) is_claimed: bool,
}

impl Served {
    /// A relay as it comes from smbdirectd, or from the broker.
    pub(super) fn new(relay: OwnedFd, region: &Rc<SharedRegion>) -> Served {
        Served {
            client: 0,
            smbdirectd: 0,
            channel: RelayChannel::new(relay, Rc::clone(region)).expect("a channel"),
            tasks: Vec::new(),
            ended: false,
            is_claimed: false,
        }
    }

    /// Its first message, with what came along; no more is read for now.
    pub(super) fn first(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        self.receive(&mut messages);
        self.introduce();
        messages
    }

    /// What another process read is read again.
    pub(super) fn replay(&mut self, preface: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        let channel = &self.channel;
        let outcome = channel.replay(preface, &mut |message| {
            messages.push((channel.delivering(), message));
        });
        assert_eq!(outcome, Ok(()), "a preface");
        self.introduce();
        messages
    }

    /// The connection's number says whose it is.
    fn introduce(&mut self) {
        if let Some(number) = self.channel.gateway_connection() {
            (self.smbdirectd, self.client) = parties(number);
        }
    }

    /// For the broker: a duplicate, and what was read.
    pub(super) fn claimed(&self) -> (OwnedFd, Vec<u8>) {
        let duplicate = self.channel.descriptor().as_fd().try_clone_to_owned();
        (duplicate.expect("a duplicate"), self.channel.preface())
    }

    /// It is this process's to serve.
    pub(super) fn serve(&mut self, first: Vec<Message>, stage: &mut Stage, files: &Files) {
        self.channel.read_on(Reading::Freely);
        self.channel.authenticated();
        self.handle(first, stage, files);
    }

    pub(super) fn close(&self) {
        self.channel.close();
    }

    pub(super) fn hang_up(&self) {
        self.channel.hang_up();
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended && self.channel.is_drained()
    }

    /// Takes all there is before any of it is released.
    pub(super) fn catch_up(&mut self, stage: &mut Stage, files: &Files) {
        let mut messages = Vec::new();
        let mut before = None;
        while before != Some(messages.len()) && !self.ended {
            before = Some(messages.len());
            self.receive(&mut messages);
        }
        let lengths = messages.iter().map(|(_, message)| message.len() as u32);
        let in_ring: u32 = lengths.filter(|length| *length > INLINE_PREFERRED).sum();
        assert!(
            messages.len() <= MAX_MESSAGES as usize,
            "{} messages wait for the child of client {}",
            messages.len(),
            self.client
        );
        note!(
            "child of client {}: {} messages wait, {in_ring} bytes in the ring",
            self.client,
            messages.len()
        );
        assert!(in_ring <= RING_SIZE, "{in_ring} bytes wait in a ring");
        // Of inline ones it took before, smbdirectd is told when a quarter of the bound is.
        if messages.len() > (MAX_MESSAGES - MAX_MESSAGES / 4) as usize {
            stage
                .tally
                .add("children with as many messages as may wait", 1);
        }
        self.handle(messages, stage, files);
    }

    pub(super) fn turn(&mut self, stage: &mut Stage, files: &Files) {
        let mut messages = Vec::new();
        self.receive(&mut messages);
        self.handle(messages, stage, files);
    }

    /// Messages with their numbers.
    fn receive(&mut self, messages: &mut Vec<Message>) {
        let channel = &self.channel;
        let outcome =
            channel.receive(&mut |message| messages.push((channel.delivering(), message)));
        self.ended |= outcome.is_err();
    }

    fn handle(&mut self, messages: Vec<Message>, stage: &mut Stage, files: &Files) {
        for (number, message) in messages {
            self.begin(number, Request::decode(self.client, &message));
        }
        let mut context = Context::from_waker(Waker::noop());
        for mut task in std::mem::take(&mut self.tasks) {
            match task.memory.as_mut().poll(&mut context) {
                Poll::Pending => {
                    task.is_new = false;
                    self.tasks.push(task);
                }
                Poll::Ready(Ok(payload)) => {
                    if task.is_new && task.request.kind == Kind::Write {
                        stage.tally.add("payloads there with their requests", 1);
                    }
                    self.finish(&task, payload, stage, files);
                }
                // The connection is at its end.
                Poll::Ready(Err(NtStatus::CONNECTION_DISCONNECTED)) => {}
                Poll::Ready(Err(status)) => panic!("no memory for a payload: {status:?}"),
            }
        }
        if !self.ended {
            let _ = self.channel.flush();
        }
    }

    fn begin(&mut self, message: u64, request: Request) {
        note!("child of client {}: {request:?}", self.client);
        let memory = match request.kind {
            Kind::Echo => return self.reply(message, request, request.length, Vec::new()),
            // Some are refused, whatever was fetched for them.
            Kind::Write if request.is_refused() => {
                return self.reply(message, request, 8, Vec::new());
            }
            Kind::Write => {
                let channel = &self.channel;
                let accepted = async {
                    // Twice, so that one is enough.
                    for _ in 0..2 {
                        channel.expect(request.length, &|| Some(outline(request)));
                    }
                    Some(channel.fetch(request.descriptors(), request.length))
                };
                let followed = Followed::new(channel, message, accepted);
                followed
                    .now_or_never()
                    .flatten()
                    .expect("it waits for nothing")
            }
            Kind::Read => self.channel.payload(request.length),
        };
        self.tasks.push(Task {
            request,
            memory,
            message,
            is_new: true,
        });
    }

    fn finish(&mut self, task: &Task, payload: Payload, stage: &mut Stage, files: &Files) {
        let request = task.request;
        if request.kind == Kind::Write {
            let expected = pattern(self.client, request.number, request.length);
            let mut bytes = Vec::new();
            let copied = payload.slice().copy_out(request.length, &mut bytes);
            assert!(
                copied.is_ok() && bytes == expected,
                "client {}: WRITE {} brings other bytes",
                self.client,
                request.number
            );
            stage.tally.add("writes", 1);
            if !stage.goes_wrong(Sabotage::ForgottenWrite, 4) {
                let written = (self.client, request.number);
                files.borrow_mut().insert(written, bytes);
            }
            return self.reply(task.message, request, 8, Vec::new());
        }
        let bytes = match request.of == request.number {
            true => pattern(self.client, request.number, request.length),
            false => {
                stage.tally.add("writes read back", 1);
                let files = files.borrow();
                let written = files.get(&(self.client, request.of)).cloned();
                written.unwrap_or_else(|| {
                    panic!("client {}: WRITE {} is lost", self.client, request.of)
                })
            }
        };
        payload.slice().copy_in(&bytes).expect("room for a READ");
        stage.tally.add("reads", 1);
        let writes = vec![OutgoingPayload {
            payload,
            length: request.length,
            descriptors: request.descriptors(),
        }];
        self.reply(task.message, request, 8, writes);
    }

    fn reply(&mut self, message: u64, request: Request, length: u32, writes: Vec<OutgoingPayload>) {
        let mut answer = request.number.to_le_bytes().to_vec();
        answer.extend(pattern(self.client, request.number, length));
        let channel = &self.channel;
        let answered = async {
            channel.send(Outgoing {
                pieces: vec![answer.into()],
                writes,
                invalidate: request.invalidates.then_some(request.number),
            });
        };
        let sent = Followed::new(channel, message, answered).now_or_never();
        sent.expect("it waits for nothing");
    }
}

/// What WRITEs look like that are named in as many pieces.
fn outline(request: Request) -> Outline {
    let word = |at, value| Word {
        at,
        mask: 0xFF,
        value,
    };
    Outline {
        words: vec![
            word(0, request.first_byte().into()),
            word(PIECES_AT, request.pieces()),
        ],
        length_at: LENGTH_AT,
        descriptors_at: REQUEST_SIZE as u16,
        descriptors: request.pieces() as u16,
    }
}

/// A connection's number: which smbdirectd it is of, which one it is there, and its client.
pub(super) fn number(smbdirectd: u64, connection: u64, client: u32) -> u64 {
    smbdirectd << 32 | connection << 8 | u64::from(client)
}

fn parties(number: u64) -> (u64, u32) {
    (number >> 32, (number & 0xFF) as u32)
}
