//! A child process: forked for a relay of which nobody knows yet whose it is, it claims it, serves it or
//! hands it over, and takes what the broker passes. Its link to the broker and its rule of when a passed
//! connection is served are the real ones; `served` has what it does with a relay.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use proto::control::ConnectionKind;
use smbd::channel::SharedRegion;
use smbd::child::passes::{Occupancy, Passes};
use smbd::messaging::{Broker, Claim, ClaimRequest};

use super::served::{Files, Message, Served};
use crate::note;
use crate::run::{Sabotage, Stage};

/// The relay it was forked for, until it is known whose it is.
struct First {
    served: Served,
    /// Its first messages, and what the broker makes of it.
    claim: Option<(Vec<Message>, LocalBoxFuture<'static, Claim>)>,
}

pub(super) struct Child {
    pub(super) number: u64,
    /// Which client of the broker's, by its ClientGuid.
    pub(super) group: u8,
    /// It serves the client over TCP too, and does not end.
    has_tcp: bool,
    broker: Broker,
    passes: Passes,
    region: Rc<SharedRegion>,
    files: Files,
    first: Option<First>,
    pub(super) served: Vec<Served>,
}

impl Child {
    pub(super) fn new(
        number: u64,
        group: u8,
        has_tcp: bool,
        broker: OwnedFd,
        relay: OwnedFd,
        files: &Files,
    ) -> Child {
        let region = Rc::default();
        Child {
            number,
            group,
            has_tcp,
            broker: Broker::new(broker),
            passes: Passes::default(),
            first: Some(First {
                served: Served::new(relay, &region),
                claim: None,
            }),
            region,
            files: files.clone(),
            served: Vec::new(),
        }
    }

    /// Its first turn after it took nothing: no more waits than may.
    pub(super) fn resume(&mut self, stage: &mut Stage) {
        for served in &mut self.served {
            served.catch_up(stage, &self.files);
        }
    }

    /// False when it has nothing left to do.
    pub(super) fn turn(&mut self, stage: &mut Stage) -> bool {
        self.hear_broker();
        self.serve_told(stage);
        self.negotiate();
        self.decide(stage);
        for served in &mut self.served {
            served.turn(stage, &self.files);
        }
        // What has ended and is drained is let go.
        let all = std::mem::take(&mut self.served).into_iter();
        let (over, served): (Vec<Served>, Vec<Served>) = all.partition(Served::is_over);
        self.served = served;
        for _ in over.iter().filter(|served| served.is_claimed) {
            self.broker.channel_closed();
        }
        self.broker.flush();
        let is_idle = self.served.is_empty() && self.passes.is_empty() && self.first.is_none();
        self.has_tcp || !is_idle
    }

    pub(super) fn serves(&self, client: u32) -> bool {
        self.served.iter().any(|served| served.client == client)
    }

    /// The broker counts what this process serves.
    pub(super) fn check_count(&self) {
        let claimed = self.served.iter().filter(|served| served.is_claimed);
        assert_eq!(
            self.broker.channels() as usize,
            claimed.count(),
            "child {}: the broker counts other connections than it serves",
            self.number
        );
    }

    /// Ends a connection in order.
    pub(super) fn close(&mut self, client: u32) {
        let mut served = self.served.iter();
        if let Some(served) = served.find(|served| served.client == client) {
            served.close();
        }
    }

    /// Has no more of a connection; whether it had it.
    pub(super) fn hang_up(&mut self, client: u32, smbdirectd: u64) -> bool {
        let mut served = self.served.iter();
        let found = served.find(|one| one.client == client && one.smbdirectd == smbdirectd);
        let found = found.filter(|one| !one.ended);
        if let Some(served) = found {
            served.hang_up();
        }
        found.is_some()
    }

    fn hear_broker(&mut self) {
        for passed in self.broker.on_readable() {
            let occupancy = Occupancy {
                connections: self.served.len() + self.passes.len(),
                unauthenticated: 0,
                ending: false,
            };
            note!("child {}: is passed a relay", self.number);
            self.passes.answer(&self.broker, passed, occupancy.judge());
        }
    }

    fn serve_told(&mut self, stage: &mut Stage) {
        for passed in self.passes.told(&self.broker) {
            let mut served = Served::new(passed.connection, &self.region);
            let first = served.replay(&passed.preface);
            served.is_claimed = true;
            note!("child {}: serves client {}", self.number, served.client);
            stage.tally.add("relays handed over", 1);
            served.serve(first, stage, &self.files);
            self.served.push(served);
        }
    }

    /// The first message on its first relay is here: whose is it?
    fn negotiate(&mut self) {
        let Some(first) = &mut self.first else {
            return;
        };
        if first.claim.is_some() {
            return;
        }
        match first.served.first() {
            messages if !messages.is_empty() => {
                let (duplicate, preface) = first.served.claimed();
                let mut client_guid = [0; 16];
                client_guid[15] = self.group + 1;
                let request = ClaimRequest {
                    client_guid,
                    dialect: 0x0311,
                    kind: ConnectionKind::Relay,
                    preface,
                };
                note!("child {}: claims a relay", self.number);
                let claim = self.broker.claim(request, duplicate);
                first.claim = Some((messages, claim.boxed_local()));
            }
            _ if first.served.ended => self.first = None,
            _ => {}
        }
    }

    /// What became of the claim.
    fn decide(&mut self, stage: &mut Stage) {
        let Some(First {
            claim: Some((_, claim)),
            ..
        }) = &mut self.first
        else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(claim) = claim.poll_unpin(&mut context) else {
            return;
        };
        let Some(First {
            mut served,
            claim: Some((messages, _)),
        }) = self.first.take()
        else {
            return;
        };
        match claim {
            Claim::Owner(_) => {
                note!("child {}: owns client {}", self.number, served.client);
                served.is_claimed = true;
            }
            Claim::HandedOver if stage.goes_wrong(Sabotage::ServedTwice, 1) => {}
            Claim::HandedOver => return,
            Claim::Refused(reason, _) => panic!("a relay is refused: {reason}"),
        }
        served.serve(messages, stage, &self.files);
        self.served.push(served);
    }
}
