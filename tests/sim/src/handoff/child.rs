//! A child process: what its loop does with its connections, step by step, around the real link to the
//! broker (`smbd::messaging::Broker`) and the real rule of when a passed connection is served
//! (`smbd::child::passes`). It says one thing on a connection: its own number.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proto::control::broker::Refusal;
use shm::link::{Datagram, LinkError};
use smbd::child::passes::{Occupancy, Passes};
use smbd::messaging::{Broker, Claim, ClaimRequest};

use super::KIND;
use crate::note;
use crate::run::{Sabotage, Stage};

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// It had nothing left to do.
    Ended,
    /// In the middle of it.
    Dies,
}

struct Served {
    client: usize,
    connection: OwnedFd,
    /// The broker counts it.
    claimed: bool,
}

/// The connection it was forked for, until it is known whose it is.
struct First {
    client: usize,
    /// None once the client has left.
    connection: Option<OwnedFd>,
    claim: Option<Pin<Box<dyn Future<Output = Claim>>>>,
}

pub(super) struct Child {
    pub(super) id: u64,
    pub(super) guid: u8,
    /// Its loop does not run any more.
    pub(super) hangs: bool,
    broker: Broker,
    /// A restarted broker's link, from the supervisor.
    link: Option<OwnedFd>,
    passes: Passes,
    first: Option<First>,
    served: Vec<Served>,
    owns: bool,
    ending: bool,
    /// It has had the first word on a passed connection since somebody looked.
    spoke: bool,
    kept: Vec<OwnedFd>,
    datagram: Datagram,
}

impl Child {
    /// A turn has so many places to die at.
    pub(super) const STEPS: u64 = 6;

    pub(super) fn new(
        id: u64,
        broker: OwnedFd,
        connection: OwnedFd,
        client: usize,
        guid: u8,
    ) -> Child {
        Child {
            id,
            guid,
            hangs: false,
            broker: Broker::new(broker),
            link: None,
            passes: Passes::default(),
            first: Some(First {
                client,
                connection: Some(connection),
                claim: None,
            }),
            served: Vec::new(),
            owns: false,
            ending: false,
            spoke: false,
            kept: Vec::new(),
            datagram: Datagram::new(),
        }
    }

    pub(super) fn relink(&mut self, link: OwnedFd) {
        self.link = Some(link);
    }

    /// As at a shutdown: what it serves ends, and it takes nothing more.
    pub(super) fn stop(&mut self) {
        self.ending = true;
    }

    pub(super) fn has_just_spoken(&mut self) -> bool {
        std::mem::take(&mut self.spoke)
    }

    pub(super) fn owns(&self) -> bool {
        self.owns && !self.hangs
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.hangs && (self.first.is_some() || !self.passes.is_empty())
    }

    pub(super) fn serves(&self, client: usize) -> bool {
        self.served.iter().any(|served| served.client == client)
            || self
                .first
                .as_ref()
                .is_some_and(|first| first.client == client)
    }

    pub(super) fn summary(&self) -> (u64, usize, bool, usize, bool) {
        (
            self.id,
            self.served.len(),
            self.first.is_some(),
            self.passes.len(),
            self.link.is_some(),
        )
    }

    /// The broker counts what this process serves for its client.
    pub(super) fn check_count(&self) {
        let claimed = self.served.iter().filter(|served| served.claimed).count();
        assert_eq!(
            self.broker.channels() as usize,
            claimed,
            "child {}: the broker counts other connections than it serves",
            self.id
        );
    }

    /// One turn of its loop; with a step of death it ends there.
    pub(super) fn turn(&mut self, stage: &mut Stage, step_of_death: Option<u64>) -> Fate {
        if self.hangs {
            return Fate::Lives;
        }
        for step in 0..Self::STEPS {
            if step_of_death == Some(step) {
                return Fate::Dies;
            }
            match step {
                0 => self.hear_supervisor(),
                1 => self.hear_broker(stage),
                2 => self.hear_clients(stage),
                3 => self.negotiate(),
                4 => self.serve_told(stage),
                _ => {
                    self.decide(stage);
                    self.broker.flush();
                }
            }
        }
        if self.ending {
            self.end_all();
        }
        let is_idle = self.served.is_empty() && self.passes.is_empty() && self.first.is_none();
        match is_idle && self.kept.is_empty() {
            true => {
                self.broker.flush();
                Fate::Ended
            }
            false => Fate::Lives,
        }
    }

    fn hear_supervisor(&mut self) {
        if let Some(link) = self.link.take() {
            note!("child {}: a new link to the broker", self.id);
            self.passes.give_back(&self.broker);
            self.broker.reconnect(link);
        }
    }

    fn hear_broker(&mut self, stage: &mut Stage) {
        for passed in self.broker.on_readable() {
            let occupancy = Occupancy {
                connections: self.served.len() + self.passes.len(),
                unauthenticated: 0,
                ending: self.ending,
            };
            let answer = occupancy.judge();
            note!(
                "child {}: is passed client {}: {answer:?}",
                self.id,
                client_of(&passed.preface)
            );
            stage.tally.add("passes", 1);
            if stage.goes_wrong(Sabotage::ServedUntold, 1) {
                say(&passed.connection, self.id);
            }
            self.passes.answer(&self.broker, passed, answer);
            // A loop may be stopped between the two.
            if stage.chance.once_in(2) {
                self.serve_told(stage);
            }
        }
        if self.broker.with_descriptor(|_| ()).is_none() {
            self.passes.give_back(&self.broker);
        }
    }

    fn serve_told(&mut self, stage: &mut Stage) {
        for passed in self.passes.told(&self.broker) {
            let client = client_of(&passed.preface);
            if stage.sabotage != Some(Sabotage::ServedUntold) {
                say(&passed.connection, self.id);
            }
            self.spoke = true;
            self.served.push(Served {
                client,
                connection: passed.connection,
                claimed: true,
            });
        }
    }

    /// Clients that have left.
    fn hear_clients(&mut self, stage: &mut Stage) {
        let datagram = &mut self.datagram;
        let mut is_over = |connection: &OwnedFd| {
            let received = shm::link::receive(connection.as_fd(), datagram);
            matches!(received, Err(LinkError::Closed))
        };
        if let Some(first) = &mut self.first
            && first.connection.as_ref().is_some_and(&mut is_over)
        {
            first.connection = None;
            // One that was not asked for yet is over with it.
            if first.claim.is_none() {
                self.first = None;
            }
        }
        let (over, served): (Vec<Served>, Vec<Served>) = std::mem::take(&mut self.served)
            .into_iter()
            .partition(|served| is_over(&served.connection));
        self.served = served;
        for served in over {
            note!("child {}: client {} is gone", self.id, served.client);
            if served.claimed && !stage.goes_wrong(Sabotage::UncountedEnd, 1) {
                self.broker.channel_closed();
            }
        }
    }

    /// Its first connection's NEGOTIATE is here: whose is it?
    fn negotiate(&mut self) {
        let Some(first) = &mut self.first else {
            return;
        };
        let (None, Some(connection)) = (&first.claim, &first.connection) else {
            return;
        };
        let duplicate = connection.try_clone().expect("a duplicate");
        let mut client_guid = [0; 16];
        client_guid[15] = self.guid;
        let request = ClaimRequest {
            client_guid,
            dialect: 0x0311,
            kind: KIND,
            preface: vec![first.client as u8],
        };
        note!("child {}: claims client {}", self.id, first.client);
        first.claim = Some(Box::pin(self.broker.claim(request, duplicate)));
    }

    /// What became of the claim, as `Child::claim` takes it.
    fn decide(&mut self, stage: &mut Stage) {
        let Some(first) = &mut self.first else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        let Some(Poll::Ready(claim)) = first
            .claim
            .as_mut()
            .map(|claim| claim.as_mut().poll(&mut context))
        else {
            return;
        };
        let Some(First {
            client, connection, ..
        }) = self.first.take()
        else {
            return;
        };
        note!("child {}: {}", self.id, outcome(&claim));
        let claimed = match claim {
            Claim::Owner(_) => {
                self.owns = true;
                if connection.is_none() {
                    self.broker.channel_closed();
                }
                true
            }
            Claim::HandedOver => {
                stage.tally.add("handed over", 1);
                if stage.goes_wrong(Sabotage::KeptDescriptor, 1) {
                    self.kept.extend(connection);
                }
                return;
            }
            Claim::Refused(Refusal::TooManyUnauthenticated, _) => false,
            Claim::Refused(..) => {
                stage.tally.add("refused", 1);
                if let Some(connection) = connection {
                    say(&connection, self.id);
                }
                return;
            }
        };
        if let Some(connection) = connection {
            say(&connection, self.id);
            self.served.push(Served {
                client,
                connection,
                claimed,
            });
        }
    }

    fn end_all(&mut self) {
        for served in std::mem::take(&mut self.served) {
            if served.claimed {
                self.broker.channel_closed();
            }
        }
    }
}

fn outcome(claim: &Claim) -> &'static str {
    match claim {
        Claim::Owner(_) => "owns its client",
        Claim::HandedOver => "its connection is handed over",
        Claim::Refused(..) => "its connection is refused",
    }
}

fn say(connection: &OwnedFd, child: u64) {
    // A client that has left does not hear it.
    let _ = shm::link::send(connection.as_fd(), &child.to_le_bytes(), &[]);
}

pub(super) fn client_of(preface: &[u8]) -> usize {
    preface.first().copied().unwrap_or_default().into()
}

pub(super) fn answerer(answer: &[u8]) -> u64 {
    answer.try_into().map_or(0, u64::from_le_bytes)
}
