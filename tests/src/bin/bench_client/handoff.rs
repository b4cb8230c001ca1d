//! How fast further connections of a client reach the process that serves it already, and what the process of an idle
//! client takes. The time is from the call that connects to the answer to NEGOTIATE, which the owner gives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::smb2::Guid;
use tests::client::{ClientError, Connection};

use super::folder::Folder;
use super::processes::pss_kib;
use super::{Phase, Target};

/// Clients that connect at once when handoffs a second are counted, each with an owner of its own.
const PARALLEL: u64 = 8;
const COUNTED_FOR: Duration = Duration::from_secs(3);
const IDLE_CLIENTS: usize = 10;
/// Long enough for temporary processes to be gone.
const SETTLES: Duration = Duration::from_millis(500);
/// A client that has done nothing for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(3);

pub fn measure(target: &Target, count: u32) -> Result<(), ClientError> {
    idle_memory(target)?;
    let (owner, guid) = owner(target)?;
    one_process_serves_all(target, guid)?;
    latency(target, guid, count)?;
    drop(owner);
    rate(target)
}

/// A client that is logged on, so that its GUID has an owner.
fn owner(target: &Target) -> Result<(Connection, Guid), ClientError> {
    let mut connection = target.connect(None)?;
    target.enter(&mut connection)?;
    let guid = connection.offer().client_guid;
    Ok((connection, guid))
}

fn idle_memory(target: &Target) -> Result<(), ClientError> {
    std::thread::sleep(SETTLES);
    let before = target.processes().pids();
    let clients: Vec<_> = (0..IDLE_CLIENTS)
        .map(|number| busy_for_a_moment(target, number))
        .collect::<Result<_, _>>()?;
    std::thread::sleep(IDLE_AFTER);
    let new: BTreeSet<u32> = target
        .processes()
        .pids()
        .difference(&before)
        .copied()
        .collect();
    if new.len() != clients.len() {
        let told = format!("{} clients have {} processes", clients.len(), new.len());
        return Err(ClientError::Local(told));
    }
    let total: u64 = new.iter().filter_map(|pid| pss_kib(*pid)).sum();
    println!("pss_kb {}", total / new.len() as u64);
    Ok(())
}

/// A client that has made a file, read it and deleted it.
fn busy_for_a_moment(target: &Target, number: usize) -> Result<Folder, ClientError> {
    let mut connection = target.connect(None)?;
    let (_, tree) = target.enter(&mut connection)?;
    let mut folder = Folder { connection, tree };
    let name = format!("idle-{number}");
    folder.create(&name)?;
    folder.open_and_read(&name)?;
    folder.delete(&name)?;
    Ok(folder)
}

/// Without this the figures might be those of a server that answers each connection by a process of its own.
fn one_process_serves_all(target: &Target, guid: Guid) -> Result<(), ClientError> {
    std::thread::sleep(SETTLES);
    let before = target.processes().pids().len();
    let further: Vec<_> = (0..4)
        .map(|_| target.connect(Some(guid)))
        .collect::<Result<_, _>>()?;
    std::thread::sleep(SETTLES);
    let after = target.processes().pids().len();
    if after > before {
        let told = format!(
            "{} further connections, {before} then {after} processes",
            further.len()
        );
        return Err(ClientError::Local(told));
    }
    Ok(())
}

fn latency(target: &Target, guid: Guid, count: u32) -> Result<(), ClientError> {
    let mut micros: Vec<u64> = Vec::new();
    for _ in 0..count.max(100) {
        let began = Instant::now();
        let connection = target.connect(Some(guid))?;
        micros.push(began.elapsed().as_micros() as u64);
        drop(connection);
    }
    micros.sort_unstable();
    for percentile in [50, 99] {
        println!(
            "p{percentile}_us {}",
            micros[micros.len() * percentile / 100]
        );
    }
    Ok(())
}

fn rate(target: &Target) -> Result<(), ClientError> {
    let clients: Vec<_> = (0..PARALLEL)
        .map(|_| owner(target))
        .collect::<Result<_, _>>()?;
    let done = AtomicU64::new(0);
    let connect_for_a_while = |guid| {
        let until = Instant::now() + COUNTED_FOR;
        while Instant::now() < until {
            drop(target.connect(Some(guid))?);
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), ClientError>(())
    };
    let phase = Phase::measure(target, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter()
                .map(|(_, guid)| scope.spawn(|| connect_for_a_while(*guid)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a connecting thread"))
        })?;
        Ok(done.load(Ordering::Relaxed))
    })?;
    phase.print("per_s", 1.0);
    Ok(())
}
