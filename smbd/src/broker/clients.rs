//! Who serves which ClientGuid, and the connections on their way there.
//!
//! A pass keeps its duplicate of the connection until the owner has answered. An owner that dies
//! first makes the oldest waiting claimant the owner, and the rest is passed to that one; with no
//! claimant left alive, a new child is asked for. One connection is sent to one owner once.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use proto::control::broker::{
    BrokerToSupervisor, ClaimId, ClaimKey, FromBroker, PassAnswer, Refusal,
};
use proto::control::{ChildId, ConnectionKind};

use super::machine::Action;

/// Connections of one client, those on their way to it included. A session binds no more than 32 of
/// them (MS-SMB2 3.3.5.5.3, `session_binding`): the 33rd is the owner's to refuse, since a client
/// may use it for another session.
pub const MAX_CONNECTIONS: u32 = 64;
/// An owner that has not answered a pass after this long is worth a line in the log: its loop
/// should never take that long.
pub const SLOW: Duration = Duration::from_secs(2);
/// After this long it hangs, and is ended, so that its client can be served by another child.
pub const SILENT: Duration = Duration::from_secs(10);

/// A claim as it came in.
#[derive(Debug)]
pub struct Claimed<C> {
    pub key: ClaimKey,
    pub client_guid: [u8; 16],
    pub dialect: u16,
    pub kind: ConnectionKind,
    pub preface: Vec<u8>,
    pub connection: C,
}

/// A child that did what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientOffence {
    /// One child serves one client.
    #[error("a claim for a second ClientGuid")]
    SecondClient,
    /// Nothing was passed to it under this number.
    #[error("an answer to no pass")]
    UnknownPass,
    /// It has no channel.
    #[error("the end of a channel it does not have")]
    NoChannel,
}

/// The ClientGuid table.
#[derive(Debug)]
pub struct Clients<C> {
    clients: BTreeMap<[u8; 16], Client<C>>,
    owners: BTreeMap<ChildId, [u8; 16]>,
    /// Told their state so late that another child owns their client by now; they serve what they have.
    apart: BTreeSet<ChildId>,
}

#[derive(Debug)]
struct Client<C> {
    owner: ChildId,
    channels: u32,
    /// The owner said that it takes nothing any more: its successor will.
    ending: bool,
    /// Oldest first.
    passes: Vec<Pass<C>>,
}

#[derive(Debug)]
struct Pass<C> {
    key: ClaimKey,
    dialect: u16,
    kind: ConnectionKind,
    preface: Vec<u8>,
    connection: Rc<C>,
    /// False once the claimant is gone: then nobody waits for the outcome.
    claimant: bool,
    since: Duration,
    reported: bool,
}

impl<C> Default for Clients<C> {
    fn default() -> Self {
        Clients {
            clients: BTreeMap::new(),
            owners: BTreeMap::new(),
            apart: BTreeSet::new(),
        }
    }
}

impl<C> Clients<C> {
    /// "Who serves this client?"
    ///
    /// The dialect decides nothing here: a second connection of another dialect is the owner's
    /// to refuse, at SESSION_SETUP (MS-SMB2 3.3.5.5).
    pub fn claim(
        &mut self,
        claimed: Claimed<C>,
        now: Duration,
        actions: &mut Vec<Action<C>>,
    ) -> Result<(), ClientOffence> {
        let ClaimKey { child, claim } = claimed.key;
        let owned = self.owners.get(&child);
        if owned.is_some_and(|owned| *owned != claimed.client_guid) {
            return Err(ClientOffence::SecondClient);
        }
        let Some(client) = self.clients.get_mut(&claimed.client_guid) else {
            self.own(claimed.client_guid, child, 1);
            actions.push(Action::child(child, FromBroker::Claimed { claim }));
            return Ok(());
        };
        let channels = client.channels as usize + client.passes.len();
        if channels >= MAX_CONNECTIONS as usize {
            let reason = Refusal::TooManyConnections;
            actions.push(Action::child(child, FromBroker::Refused { claim, reason }));
        } else if client.owner == child {
            client.channels += 1;
            actions.push(Action::child(child, FromBroker::Claimed { claim }));
        } else {
            let pass = Pass {
                key: claimed.key,
                dialect: claimed.dialect,
                kind: claimed.kind,
                preface: claimed.preface,
                connection: Rc::new(claimed.connection),
                claimant: true,
                since: now,
                reported: false,
            };
            if !client.ending {
                actions.push(pass.action(client.owner));
            }
            client.passes.push(pass);
        }
        Ok(())
    }

    /// The owner's answer to a pass. An owner that is ending decides nothing: a client that leaves
    /// and comes back at once waits for its death and is served by the next.
    pub fn answer(
        &mut self,
        owner: ChildId,
        key: ClaimKey,
        answer: PassAnswer,
        now: Duration,
        actions: &mut Vec<Action<C>>,
    ) -> Result<(), ClientOffence> {
        let client = self.owned(owner).ok_or(ClientOffence::UnknownPass)?;
        let position = client
            .passes
            .iter()
            .position(|pass| pass.key == key)
            .ok_or(ClientOffence::UnknownPass)?;
        if answer == PassAnswer::Refused(Refusal::Ending) {
            client.ending = true;
            if let Some(pass) = client.passes.get_mut(position) {
                pass.since = now;
            }
            return Ok(());
        }
        let pass = client.passes.remove(position);
        if answer == PassAnswer::Accepted {
            client.channels += 1;
        }
        if pass.claimant {
            let claim = key.claim;
            let outcome = match answer {
                PassAnswer::Accepted => FromBroker::HandedOver { claim },
                PassAnswer::Refused(reason) => FromBroker::Refused { claim, reason },
            };
            actions.push(Action::child(key.child, outcome));
        }
        Ok(())
    }

    /// One of the owner's connections ended. With none left the client stays until the child
    /// ends: it may keep opens for a client that comes back.
    pub fn channel_closed(&mut self, owner: ChildId) -> Result<(), ClientOffence> {
        let is_apart = self.apart.contains(&owner);
        match self.owned(owner).filter(|client| client.channels > 0) {
            Some(client) => client.channels -= 1,
            // Its channels are counted nowhere.
            None if is_apart => {}
            None => return Err(ClientOffence::NoChannel),
        }
        Ok(())
    }

    /// An owner of the broker before this one. False if another child owns the client already;
    /// then new connections go there.
    pub fn restore(&mut self, child: ChildId, client_guid: [u8; 16], channels: u32) -> bool {
        if self.clients.contains_key(&client_guid) || self.owners.contains_key(&child) {
            self.apart.insert(child);
            return false;
        }
        self.own(client_guid, child, channels.min(MAX_CONNECTIONS));
        true
    }

    /// A child died: as a claimant nobody waits for the outcome any more, as an owner it leaves
    /// its client to the next.
    pub fn release(&mut self, child: ChildId, now: Duration, actions: &mut Vec<Action<C>>) {
        for pass in self
            .clients
            .values_mut()
            .flat_map(|client| &mut client.passes)
        {
            if pass.key.child == child {
                pass.claimant = false;
            }
        }
        self.apart.remove(&child);
        let Some(client_guid) = self.owners.remove(&child) else {
            return;
        };
        let Some(client) = self.clients.remove(&client_guid) else {
            return;
        };
        let mut passes = client.passes;
        let Some(position) = passes.iter().position(|pass| pass.claimant) else {
            actions.extend(passes.into_iter().map(Pass::orphaned));
            return;
        };
        let first = passes.remove(position);
        let owner = first.key.child;
        let claim: ClaimId = first.key.claim;
        self.own(client_guid, owner, 1);
        actions.push(Action::child(owner, FromBroker::Claimed { claim }));
        for pass in &mut passes {
            pass.since = now;
            pass.reported = false;
            actions.push(pass.action(owner));
        }
        if let Some(client) = self.clients.get_mut(&client_guid) {
            client.passes = passes;
        }
    }

    /// Owners that have not answered for too long.
    pub fn tick(&mut self, now: Duration, actions: &mut Vec<Action<C>>) {
        for client in self.clients.values_mut() {
            let owner = client.owner;
            for pass in &mut client.passes {
                let waited = now.saturating_sub(pass.since);
                if waited >= SLOW && !pass.reported {
                    pass.reported = true;
                    let text = format!(
                        "child {} has not taken a connection of its client for {} s; it is \
                         ended if it stays like this for {} s",
                        owner.0,
                        SLOW.as_secs(),
                        SILENT.as_secs()
                    );
                    actions.push(Action::supervisor(BrokerToSupervisor::Problem { text }));
                }
            }
            let silent = client
                .passes
                .iter_mut()
                .filter(|pass| now.saturating_sub(pass.since) >= SILENT);
            let mut hangs = false;
            for pass in silent {
                // Asked once; its death settles the pass.
                pass.since = Duration::MAX;
                hangs = true;
            }
            if hangs {
                let reason = "it takes no connections any more".to_owned();
                let end = BrokerToSupervisor::End {
                    child: owner,
                    reason,
                };
                actions.push(Action::supervisor(end));
            }
        }
    }

    /// When `tick` has something to do next.
    pub fn next_tick(&self) -> Option<Duration> {
        let passes = self.clients.values().flat_map(|client| &client.passes);
        passes
            .map(|pass| match pass.reported {
                false => pass.since.saturating_add(SLOW),
                true => pass.since.saturating_add(SILENT),
            })
            .min()
            .filter(|next| *next != Duration::MAX)
    }

    /// Clients, and connections on their way to one.
    pub fn counts(&self) -> (usize, usize) {
        let passes = self.clients.values().map(|client| client.passes.len());
        (self.clients.len(), passes.sum())
    }

    fn own(&mut self, client_guid: [u8; 16], owner: ChildId, channels: u32) {
        self.owners.insert(owner, client_guid);
        self.clients.insert(
            client_guid,
            Client {
                owner,
                channels,
                ending: false,
                passes: Vec::new(),
            },
        );
    }

    fn owned(&mut self, owner: ChildId) -> Option<&mut Client<C>> {
        let client_guid = self.owners.get(&owner)?;
        self.clients.get_mut(client_guid)
    }
}

impl<C> Pass<C> {
    fn action(&self, owner: ChildId) -> Action<C> {
        Action::ToChild {
            child: owner,
            message: FromBroker::Pass {
                claim: self.key,
                kind: self.kind,
                dialect: self.dialect,
                preface: self.preface.clone(),
            },
            connection: Some(Rc::clone(&self.connection)),
        }
    }

    fn orphaned(self) -> Action<C> {
        Action::ToSupervisor {
            message: BrokerToSupervisor::Orphan {
                kind: self.kind,
                preface: self.preface,
            },
            connection: Some(self.connection),
        }
    }
}
