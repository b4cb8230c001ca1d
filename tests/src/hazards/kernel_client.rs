//! The kernel's client where it does not go on, in the guest of which it is a part: what it waits for.
//! `Load` asks when a mount makes no progress. cifs.ko stands still now and then after it has lost a
//! connection (docs/resilience.md), which is told from a server's silence by what it has in flight.
//! Nothing here talks to the server, and nothing is concluded from a load's silence alone.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::lab;

use super::results;

/// Looks, a second apart: more than the three echoes after which the client gives up a server that is silent.
const LOOKS: usize = 6;
/// The command of an echo; the only one that is of no interest.
const ECHO: u16 = 13;
/// `TCP status` of a connection that can be used (`CifsGood`).
const GOOD: u32 = 1;
/// Where the thread that reads waits for its request to be issued further.
const PAUSED: &str = "netfs_wait_for_paused_read";

/// What the client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its connections, as often as each was made.
    connections: Vec<Connection>,
    /// Requests that are being sent.
    sending: u32,
    /// Commands of the requests in flight, echoes apart.
    in_flight: Vec<u16>,
    /// Direct reads of which a part was never issued.
    half_issued: Vec<HalfIssued>,
    /// One of this process's threads waits in such a read.
    paused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    status: u32,
    instance: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct HalfIssued {
    request: u32,
    issued: u64,
    length: u64,
}

impl Standing {
    /// As it is now.
    pub fn look() -> Standing {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (cifs, netfs) = (
            read("/proc/fs/cifs/DebugData"),
            read("/proc/fs/netfs/requests"),
        );
        Standing::of(&cifs, &netfs, paused(Path::new("/proc/self/task")))
    }

    fn of(cifs: &str, netfs: &str, paused: bool) -> Standing {
        let mut standing = Standing {
            connections: Vec::new(),
            sending: 0,
            in_flight: Vec::new(),
            half_issued: netfs.lines().filter_map(half_issued).collect(),
            paused,
        };
        for line in cifs.lines() {
            if let Some(status) = number(line, "TCP status:") {
                let instance = number(line, "Instance:").unwrap_or(0);
                standing.connections.push(Connection { status, instance });
            }
            standing.sending += number(line, "In Send:").unwrap_or(0);
            let command = number(line, "com:").map(|command| command as u16);
            standing
                .in_flight
                .extend(command.filter(|command| *command != ECHO));
        }
        standing
    }

    /// Whether there is nothing a server could do: every connection can be used, nothing is asked for on any, and
    /// a thread waits in a read the rest of which the client does not issue.
    fn waits_for_nothing(&self) -> bool {
        let usable = |connection: &Connection| connection.status == GOOD;
        !self.connections.is_empty()
            && self.connections.iter().all(usable)
            && self.sending == 0
            && self.in_flight.is_empty()
            && !self.half_issued.is_empty()
            && self.paused
    }

    /// Looks again and again: what it says each time, if that is the same and waits for nothing.
    pub fn stands_still() -> Option<Standing> {
        let first = Standing::look();
        let still = |first: &Standing| first.waits_for_nothing() && Standing::look() == *first;
        for _ in 1..LOOKS {
            if !still(&first) {
                return None;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        still(&first).then_some(first)
    }

    /// Ends the guest: the thread that waits can't be ended, so this process can't either.
    pub fn end_guest(&self) -> ! {
        let account = format!("it stands still: {self}\n");
        println!("the kernel's client: {account}");
        std::fs::write(results(lab::CLIENT_FAULT), account).expect("note it");
        let parent = rustix::process::getppid().expect("play.sh");
        rustix::process::kill_process(parent, rustix::process::Signal::USR1).expect("tell play.sh");
        loop {
            std::thread::park();
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for read in &self.half_issued {
            write!(
                formatter,
                "of read {:#x} it has issued {} of {} bytes; ",
                read.request, read.issued, read.length
            )?;
        }
        let in_flight = self.in_flight.len();
        write!(formatter, "{in_flight} requests in flight on connections")?;
        for Connection { status, instance } in &self.connections {
            write!(formatter, " [status {status}, made {instance} times]")?;
        }
        let waits = if self.paused { "a" } else { "no" };
        write!(formatter, "; {waits} thread in {PAUSED}")
    }
}

/// A thread of this process is there.
fn paused(tasks: &Path) -> bool {
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let mut stacks =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stack")).ok());
    stacks.any(|stack| stack.contains(PAUSED))
}

/// The number after this word.
fn number(line: &str, word: &str) -> Option<u32> {
    let (_, rest) = line.split_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A line of `/proc/fs/netfs/requests`: request, origin, references, flags, error, operations, @start, issued/length.
fn half_issued(line: &str) -> Option<HalfIssued> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [request, "DR", .., coverage] = words.as_slice() else {
        return None;
    };
    let (issued, length) = coverage.split_once('/')?;
    let hexadecimal = |digits| u64::from_str_radix(digits, 16).ok();
    let found = HalfIssued {
        request: u32::from_str_radix(request, 16).ok()?,
        issued: hexadecimal(issued)?,
        length: hexadecimal(length)?,
    };
    (found.issued < found.length).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIFS: &str = "\
        In Send: 0 In MaxReq Wait: 0\n\
        TCP status: 1 Instance: 3\n\
        \t\tTCP status: 1 Instance: 4\n\
        \tMIDs: \n\
        \tServer ConnectionId: 0x1\n\
        \t\tState: 2 com: 13 pid: 12 cbdata: 0000000053f601cd mid 16\n";
    const NETFS: &str = "\
        REQUEST  OR REF FLAG ERR  OPS COVERAGE\n\
        ======== == === ==== ==== === =========\n\
        0000002a DR   2    5    0   0 @80000 10000/20000\n";

    #[test]
    fn a_half_issued_read_with_nothing_in_flight_waits_for_nothing() {
        let standing = Standing::of(CIFS, NETFS, true);
        assert!(standing.waits_for_nothing(), "{standing}");
        assert_eq!(
            standing.half_issued,
            [HalfIssued {
                request: 0x2a,
                issued: 0x10000,
                length: 0x20000
            }]
        );
    }

    #[test]
    fn a_client_a_server_could_help_does_not_wait_for_nothing() {
        let read = CIFS.replace("com: 13", "com: 8");
        let sending = CIFS.replace("In Send: 0", "In Send: 1");
        let reconnecting = CIFS.replace("TCP status: 1 Instance: 4", "TCP status: 3 Instance: 4");
        let issued = NETFS.replace("10000/20000", "20000/20000");
        let write = NETFS.replace("DR", "DW");
        for standing in [
            Standing::of(&read, NETFS, true),
            Standing::of(&sending, NETFS, true),
            Standing::of(&reconnecting, NETFS, true),
            Standing::of("", NETFS, true),
            Standing::of(CIFS, &issued, true),
            Standing::of(CIFS, &write, true),
            Standing::of(CIFS, "", true),
            Standing::of(CIFS, NETFS, false),
        ] {
            assert!(!standing.waits_for_nothing(), "{standing}");
        }
    }
}
