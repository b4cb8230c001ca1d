//! Many connections of many clients at once, over TCP and SMB Direct in turn. Each must be answered
//! once, by the one process that owns its ClientGuid; and nothing may be left of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Stage, Way, guid};
use crate::client::Session;
use crate::hazards::PATIENCE;
use crate::server::{PASSWORD, USER};

/// What they came to.
#[derive(Debug, Clone)]
pub struct Report {
    pub seconds: f64,
    /// From a connection's first packet until it was bound.
    pub longest: Duration,
    /// KiB of memory each of the lasting processes had before, and has now.
    pub resident: BTreeMap<&'static str, (u64, u64)>,
}

/// A ClientGuid's session: whoever can bind it has reached its process.
struct Mark {
    session: Session,
    key: Arc<smbd::security::signing::SigningKey>,
}

/// `count` connections with as many ClientGuids as `clients`, `at_once` at a time.
pub fn play(stage: &Stage, count: u32, clients: u8, at_once: u8) -> Report {
    stage.warm_up();
    // What a busy server keeps for the next time is there before anything is measured.
    burst(stage, count / 10, clients, at_once);
    stage.wait_for("nobody is served", |report| {
        report.children.is_empty().then_some(())
    });
    let held = stage.held();
    let before = resident(stage);
    let began = Instant::now();
    let longest = burst(stage, count, clients, at_once);
    let seconds = began.elapsed().as_secs_f64();
    stage.wait_until_held(&held);
    let after = resident(stage);
    let both = before
        .into_iter()
        .map(|(name, kib)| (name, (kib, after[name])));
    Report {
        seconds,
        longest,
        resident: both.collect(),
    }
}

fn burst(stage: &Stage, count: u32, clients: u8, at_once: u8) -> Duration {
    let mut owners = Vec::new();
    let marks: Vec<Mark> = (1..=clients)
        .map(|client| {
            let mut owner = stage
                .connect(Way::Tcp, guid(client))
                .expect("a first connection");
            let session = owner.log_on(USER, PASSWORD).expect("the user logs on");
            let key = owner.signing_key(session.id).expect("it signs");
            owners.push(owner);
            Mark { session, key }
        })
        .collect();
    let next = AtomicU32::new(0);
    let work = |host: u8| {
        let mut longest = Duration::ZERO;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return longest;
            }
            longest = longest.max(one(stage, &marks, host, number));
        }
    };
    let work = &work;
    let longest = std::thread::scope(|scope| {
        let hosts: Vec<_> = (1..=at_once)
            .map(|host| scope.spawn(move || work(host)))
            .collect();
        let ended = hosts
            .into_iter()
            .map(|host| host.join().expect("see above"));
        ended.max().unwrap_or_default()
    });
    // Nobody but the owners is there, and they have no channel left but their first.
    stage.wait_for("each owner is alone", |report| {
        let alone = report.children.iter().filter(|child| {
            let status = child.status.as_ref();
            status.is_some_and(|status| status.channels.len() == 1)
        });
        (alone.count() == usize::from(clients) && report.children.len() == usize::from(clients))
            .then_some(())
    });
    for owner in &mut owners {
        owner.echo().expect("an owner is still there");
    }
    longest
}

/// One connection; how long it took until it was bound.
fn one(stage: &Stage, marks: &[Mark], host: u8, number: u32) -> Duration {
    let began = Instant::now();
    let client = number as usize % marks.len();
    let mark = &marks[client];
    let way = match number % 2 {
        0 => Way::Tcp,
        _ => Way::Rdma,
    };
    let client_guid = guid(client as u8 + 1);
    let what = format!("connection {number}, {way:?}");
    let connected = stage.connect_from(way, host, client_guid);
    let mut connection = connected.unwrap_or_else(|error| panic!("{what}: {error}"));
    // Only the process that has the session can bind it.
    let bound = connection.bind_with(mark.session, Arc::clone(&mark.key), USER, PASSWORD);
    bound.unwrap_or_else(|error| panic!("{what} is not where its client is: {error}"));
    let took = began.elapsed();
    connection
        .echo()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(connection.strays(), 0, "{what} was answered twice");
    assert!(took < PATIENCE, "{what} took {took:?}");
    took
}

/// Resident KiB of the processes that live as long as the server.
fn resident(stage: &Stage) -> BTreeMap<&'static str, u64> {
    let report = stage.status();
    let pids = [
        ("supervisor", Some(report.supervisor)),
        ("zygote", report.zygote),
        ("broker", report.broker),
        ("smbdirectd", report.gateway.map(|gateway| gateway.pid)),
    ];
    pids.into_iter()
        .map(|(name, pid)| {
            let pid = pid.expect("it runs");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            (name, kib.expect("VmRSS"))
        })
        .collect()
}
