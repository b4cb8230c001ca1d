//! The children: one record each, and how many may be there.
//!
//! An address has few children that have not authenticated anybody yet, and so has a network of
//! IPv6, so that nobody can take every place by connecting alone; the rest is bounded in all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::control::ChildId;
use proto::control::child::{FromChild, ToChild};
use proto::network::Network;

use super::NewConnection;
use crate::messaging::ControlLink;

/// Children in all.
pub const MAX_CHILDREN: usize = 16_384;
/// Children of one address that have authenticated nobody.
pub const MAX_NEWCOMERS: usize = 128;
/// Of one network: a /64 of IPv6, in which one machine can have any number of addresses.
pub const MAX_NETWORK_NEWCOMERS: usize = 1024;

/// The supervisor's end of a child.
pub struct Child {
    pub link: ControlLink<FromChild, ToChild>,
    /// False once the link is closed: the child is ending.
    pub linked: bool,
    /// Waits for room to write.
    pub waits: bool,
    /// None until the zygote has forked it.
    pub pid: Option<i32>,
    /// The zygote that forked it, and is its parent while it lives.
    pub zygote: u64,
    /// Where its first connection comes from.
    pub peer: IpAddr,
    /// What it is forked for, until the zygote has forked it: should that one die, the next one gets it.
    pub first: Option<NewConnection>,
    newcomer: bool,
}

/// All of them.
#[derive(Default)]
pub struct Children {
    records: BTreeMap<ChildId, Child>,
    newcomers: Newcomers,
    last: u64,
}

/// Children that have authenticated nobody, counted.
#[derive(Default)]
struct Newcomers {
    of_address: BTreeMap<IpAddr, usize>,
    of_network: BTreeMap<Network, usize>,
}

/// Why there is no room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("{MAX_CHILDREN} clients are served already")]
    All,
    #[error("{MAX_NEWCOMERS} connections of this address have not logged on yet")]
    Address,
    #[error("{MAX_NETWORK_NEWCOMERS} connections of this IPv6 network have not logged on yet")]
    Network,
}

impl Children {
    /// Whether another one may come from `peer`.
    pub fn admit(&self, peer: IpAddr) -> Result<(), Full> {
        if self.records.len() >= MAX_CHILDREN {
            return Err(Full::All);
        }
        self.newcomers.admit(peer)
    }

    /// Adds a child that is about to be forked.
    pub fn add(
        &mut self,
        link: ControlLink<FromChild, ToChild>,
        peer: IpAddr,
        zygote: u64,
    ) -> ChildId {
        self.last += 1;
        let child = ChildId(self.last);
        self.newcomers.add(peer);
        self.records.insert(
            child,
            Child {
                link,
                linked: true,
                waits: false,
                pid: None,
                zygote,
                peer,
                first: None,
                newcomer: true,
            },
        );
        child
    }

    /// It has authenticated somebody.
    pub fn authenticated(&mut self, child: ChildId) {
        if let Some(record) = self.records.get_mut(&child)
            && std::mem::take(&mut record.newcomer)
        {
            let peer = record.peer;
            self.newcomers.remove(peer);
        }
    }

    /// It is no more.
    pub fn remove(&mut self, child: ChildId) -> Option<Child> {
        let record = self.records.remove(&child)?;
        if record.newcomer {
            self.newcomers.remove(record.peer);
        }
        Some(record)
    }

    pub fn find(&mut self, child: ChildId) -> Option<&mut Child> {
        self.records.get_mut(&child)
    }

    /// The child of this pid.
    pub fn of_pid(&self, pid: i32) -> Option<ChildId> {
        let mut records = self.records.iter();
        records
            .find(|(_, record)| record.pid == Some(pid))
            .map(|(&child, _)| child)
    }

    pub fn all(&mut self) -> impl Iterator<Item = (ChildId, &mut Child)> {
        self.records
            .iter_mut()
            .map(|(&child, record)| (child, record))
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Newcomers {
    fn admit(&self, peer: IpAddr) -> Result<(), Full> {
        let count = self.of_address.get(&peer);
        if count.is_some_and(|count| *count >= MAX_NEWCOMERS) {
            return Err(Full::Address);
        }
        let count = self.of_network.get(&Network::of(peer));
        if count.is_some_and(|count| *count >= MAX_NETWORK_NEWCOMERS) {
            return Err(Full::Network);
        }
        Ok(())
    }

    fn add(&mut self, peer: IpAddr) {
        *self.of_address.entry(peer).or_default() += 1;
        *self.of_network.entry(Network::of(peer)).or_default() += 1;
    }

    fn remove(&mut self, peer: IpAddr) {
        count_down(&mut self.of_address, peer);
        count_down(&mut self.of_network, Network::of(peer));
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn add(children: &mut Children, peer: IpAddr) -> ChildId {
        let (left, _right) = shm::link::pair().unwrap();
        children.add(ControlLink::new(left), peer, 1)
    }

    #[test]
    fn an_address_has_few_newcomers_until_they_authenticate_or_end() {
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let mut children = Children::default();
        let first = add(&mut children, peer);
        let second = add(&mut children, peer);
        for _ in 2..MAX_NEWCOMERS {
            add(&mut children, peer);
        }
        assert_eq!(children.admit(peer), Err(Full::Address));
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(children.admit(other), Ok(()));
        children.authenticated(first);
        children.authenticated(first);
        add(&mut children, peer);
        assert_eq!(children.admit(peer), Err(Full::Address), "counted once");
        children.remove(first);
        assert_eq!(children.admit(peer), Err(Full::Address), "it was none");
        children.remove(second);
        assert_eq!(children.admit(peer), Ok(()));
    }

    #[test]
    fn a_machine_with_many_ipv6_addresses_takes_only_the_places_of_its_network() {
        let mut newcomers = Newcomers::default();
        let peer = |host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host));
        for host in 0..MAX_NETWORK_NEWCOMERS as u16 {
            assert_eq!(newcomers.admit(peer(host)), Ok(()));
            newcomers.add(peer(host));
        }
        assert_eq!(newcomers.admit(peer(u16::MAX)), Err(Full::Network));
        let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1);
        assert_eq!(newcomers.admit(elsewhere.into()), Ok(()));
        newcomers.remove(peer(0));
        assert_eq!(newcomers.admit(peer(u16::MAX)), Ok(()));
    }
}
