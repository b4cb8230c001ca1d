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
/// Where a thread waits for its request to be done.
const WAITING: &str = "netfs_wait_for_in_progress";

/// What the client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its connections, as often as each was made.
    connections: Vec<Connection>,
    /// Requests that are being sent, or wait for credits.
    sending: u32,
    /// Commands of the requests in flight, echoes apart.
    in_flight: Vec<u16>,
    /// Direct reads of which a part was never issued.
    half_issued: Vec<HalfIssued>,
    /// Direct reads and writes.
    requests: Vec<u32>,
    threads: Threads,
}

/// Those of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Threads {
    /// In a read that is issued no further.
    paused: usize,
    /// For a request to be done.
    waiting: usize,
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
        Standing::of(&cifs, &netfs, Threads::of(Path::new("/proc/self/task")))
    }

    fn of(cifs: &str, netfs: &str, threads: Threads) -> Standing {
        let mut standing = Standing {
            connections: Vec::new(),
            sending: 0,
            in_flight: Vec::new(),
            half_issued: netfs.lines().filter_map(half_issued).collect(),
            requests: netfs.lines().filter_map(request).collect(),
            threads,
        };
        for line in cifs.lines() {
            if let Some(status) = number(line, "TCP status:") {
                let instance = number(line, "Instance:").unwrap_or(0);
                standing.connections.push(Connection { status, instance });
            }
            standing.sending += number(line, "In Send:").unwrap_or(0);
            standing.sending += number(line, "In MaxReq Wait:").unwrap_or(0);
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
            && self.threads.paused > 0
    }

    /// Whether a thread waits for a request that no server was asked for, or has answered: there are more requests
    /// than the client has in flight or is about to send.
    fn waits_for_itself(&self) -> bool {
        self.threads.waiting > 0
            && self.requests.len() > self.in_flight.len() + self.sending as usize
    }

    /// Looks again and again: what it said first, if it waits for nothing all the time, or for the same request and
    /// itself. Other mounts may go on meanwhile.
    pub fn stands_still() -> Option<Standing> {
        let mut first = Standing::look();
        if !first.waits_for_nothing() && !first.waits_for_itself() {
            return None;
        }
        for _ in 1..LOOKS {
            std::thread::sleep(Duration::from_secs(1));
            if !first.still_stands(&Standing::look()) {
                return None;
            }
        }
        Some(first)
    }

    fn still_stands(&mut self, now: &Standing) -> bool {
        if self.waits_for_nothing() && now == self {
            return true;
        }
        self.requests
            .retain(|request| now.requests.contains(request));
        now.waits_for_itself() && !self.requests.is_empty()
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
        write!(
            formatter,
            "{in_flight} requests in flight (commands {:?}, {} being sent) on connections",
            self.in_flight, self.sending
        )?;
        for Connection { status, instance } in &self.connections {
            write!(formatter, " [status {status}, made {instance} times]")?;
        }
        let Threads { paused, waiting } = self.threads;
        write!(
            formatter,
            "; {} direct requests {:x?}; threads: {paused} in {PAUSED}, {waiting} in {WAITING}",
            self.requests.len(),
            self.requests
        )
    }
}

impl Threads {
    fn of(tasks: &Path) -> Threads {
        let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
        let stacks =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stack")).ok());
        stacks.fold(Threads::default(), |threads, stack| Threads {
            paused: threads.paused + usize::from(stack.contains(PAUSED)),
            waiting: threads.waiting + usize::from(stack.contains(WAITING)),
        })
    }
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

/// Of a line for a direct read or write, the request.
fn request(line: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [request, "DR" | "DW", ..] = words.as_slice() else {
        return None;
    };
    u32::from_str_radix(request, 16).ok()
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

    const PAUSED_ONE: Threads = Threads {
        paused: 1,
        waiting: 0,
    };

    #[test]
    fn a_client_that_waits_for_a_request_it_has_not_sent_waits_for_itself() {
        let waiting = |waiting| Threads { paused: 0, waiting };
        let stuck = NETFS.replace("10000/20000", "20000/20000");
        let also =
            |request: &str| format!("{stuck}{request} DW   3 1801    0   0 @160000 0/20000\n");
        // Another mount's request is in flight, and changes.
        let cifs = CIFS.replace("com: 13", "com: 9");
        let look = |cifs: &str, netfs: &str| Standing::of(cifs, netfs, waiting(2));
        let mut standing = look(&cifs, &also("2b"));
        assert!(standing.still_stands(&look(&cifs, &also("2d"))));
        assert!(standing.still_stands(&look(CIFS, &stuck)), "{standing}");
        assert!(
            !look(&cifs, &stuck).still_stands(&look(&cifs, &stuck)),
            "asked for"
        );
        let others = also("2b").replace("2a", "2c").replace("2b", "2e");
        assert!(!look(&cifs, &also("2b")).still_stands(&look(&cifs, &others)));
        for held in [
            "In Send: 1 In MaxReq Wait: 0",
            "In Send: 0 In MaxReq Wait: 1",
        ] {
            let cifs = cifs.replace("In Send: 0 In MaxReq Wait: 0", held);
            let standing = look(&cifs, &also("2b"));
            assert!(!standing.waits_for_itself(), "{standing}");
        }
        assert!(!Standing::of(CIFS, &stuck, waiting(0)).waits_for_itself());
    }

    #[test]
    fn a_half_issued_read_with_nothing_in_flight_waits_for_nothing() {
        let standing = Standing::of(CIFS, NETFS, PAUSED_ONE);
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
            Standing::of(&read, NETFS, PAUSED_ONE),
            Standing::of(&sending, NETFS, PAUSED_ONE),
            Standing::of(&reconnecting, NETFS, PAUSED_ONE),
            Standing::of("", NETFS, PAUSED_ONE),
            Standing::of(CIFS, &issued, PAUSED_ONE),
            Standing::of(CIFS, &write, PAUSED_ONE),
            Standing::of(CIFS, "", PAUSED_ONE),
            Standing::of(CIFS, NETFS, Threads::default()),
        ] {
            assert!(!standing.waits_for_nothing(), "{standing}");
        }
    }
}
