//! The stage of a refusal over SMB Direct: the server, the bystander, and what must be as it was
//! when the refused client is gone.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proto::control::status::StatusReport;
use proto::smb2::{Channel, FileId, NtStatus};

use super::RdmaClient;
use crate::client::{ClientError, Connection, Offer, OpenOptions, Session, Tree};
use crate::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, ServerBuilder, USER};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the bystander writes and reads at once, if it may.
const BLOCK: u32 = 128 << 10;

/// Makes the calling thread the client's host of this number on its fabric.
pub type Enter = Arc<dyn Fn(u8) + Send + Sync>;

/// A server, and a bystander at work.
pub struct Stage<C> {
    server: Server,
    bystander: Bystander,
    client: PhantomData<C>,
}

struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// A logged-on client with a file open.
pub struct Client {
    pub connection: Connection,
    pub session: Session,
    pub tree: Tree,
    pub file: FileId,
}

/// What a server holds for its clients; anything more than before is a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    children: usize,
    sessions: u32,
    opens: u32,
    channels: usize,
    connections: u64,
    queue_pairs: u64,
    memory_regions: u64,
    pinned_bytes: u64,
}

impl Held {
    /// `None` while somebody has not answered.
    fn of(report: &StatusReport) -> Option<Held> {
        let totals = report.gateway.as_ref()?.totals.as_ref()?;
        let children: Option<Vec<_>> = report
            .children
            .iter()
            .map(|child| child.status.as_ref())
            .collect();
        let children = children?;
        Some(Held {
            children: children.len(),
            sessions: children.iter().map(|child| child.sessions).sum(),
            opens: children.iter().map(|child| child.opens).sum(),
            channels: children.iter().map(|child| child.channels.len()).sum(),
            connections: totals.connections,
            queue_pairs: totals.queue_pairs,
            memory_regions: totals.memory_regions,
            pinned_bytes: totals.pinned_bytes,
        })
    }
}

impl<C: RdmaClient> Stage<C> {
    /// Starts the server and the bystander, who moves bytes by this channel. `None`, noted as a skip, where it cannot run.
    pub fn begin(server: ServerBuilder, enter: Enter, channel: Channel) -> Option<Stage<C>> {
        let server = server
            .share("share", "    read only = no")
            .share("elsewhere", "    read only = no")
            .start_or_skip()?;
        enter(0);
        // smbdirectd starts after smbd, which answers over TCP already.
        let until = Instant::now() + PATIENCE;
        while let Err(error) = C::connect(true) {
            assert!(Instant::now() < until, "{error}\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            enter(1);
            let worked = work::<C>(channel, &stopped, &counted);
            worked.map_err(|error| {
                eprintln!("the bystander: {error}");
                error.to_string()
            })
        });
        let stage = Stage {
            server,
            bystander: Bystander {
                stop,
                rounds,
                thread: Some(thread),
            },
            client: PhantomData,
        };
        // With all the memory it is going to be granted.
        stage.wait_for_rounds(8);
        Some(stage)
    }

    /// [`USER`]'s client, with a file open.
    pub fn client(&self) -> Client {
        log_on::<C>(USER, PASSWORD, "share").expect("log on")
    }

    /// Has a client try something. One line of the log must name `cause` and none warn of anything
    /// else; the bystander must go on, and the server hold what it held before.
    #[track_caller]
    pub fn refused(&mut self, what: &str, cause: &str, attempt: impl FnOnce(&Self)) {
        self.tried(what, cause, |line| line.contains(cause), attempt);
    }

    /// As [`Stage::refused`] for a client that is suddenly gone: smbdirectd's one line says so,
    /// and which sign of it came first is a race.
    #[track_caller]
    pub fn ended(&mut self, what: &str, attempt: impl FnOnce(&Self)) {
        let names = |line: &str| {
            line.contains(" smbdirectd[")
                && (line.contains("closed: ") || line.contains("connection ended: "))
        };
        self.tried(what, "the connection's end", names, attempt);
    }

    /// As [`Stage::refused`] for an access to the client's memory that its device refuses: that refusal
    /// and the end of a client that hears of it too race, and a line names the access whichever is first.
    #[track_caller]
    pub fn denied_by_client(&mut self, what: &str, attempt: impl FnOnce(&Self)) {
        let names = |line: &str| {
            let access = [
                "an RDMA WRITE (the client's READ) of",
                "an RDMA READ (the client's WRITE) of",
            ];
            let why = [
                "the client gave memory it does not allow",
                "the client left during",
            ];
            access.iter().any(|part| line.contains(part))
                && why.iter().any(|part| line.contains(part))
        };
        self.tried(what, "the access", names, attempt);
    }

    #[track_caller]
    fn tried(
        &mut self,
        what: &str,
        cause: &str,
        names_it: impl Fn(&str) -> bool,
        attempt: impl FnOnce(&Self),
    ) {
        let before = self.settled();
        let logged = self.server.log().len();
        attempt(self);
        self.wait_for_rounds(3);
        self.wait_until(what, |stage| stage.held() == Some(before));
        let lines = self.server.log()[logged..].to_owned();
        for line in lines.lines().filter(|line| names_it(line)) {
            println!("{what}: {line}");
            assert!(line.contains("peer=10.9.0."), "whose it is: {line}");
        }
        let naming = lines.lines().filter(|line| names_it(line)).count();
        assert_eq!(naming, 1, "{what}: lines that name {cause:?}:\n{lines}");
        let others = lines.lines().find(|line| {
            let loud = line.contains(" WARN ") || line.contains(" ERROR ");
            loud && !names_it(line)
        });
        assert_eq!(others, None, "{what}: another warning:\n{lines}");
    }

    /// Ends the bystander, who must have seen no error.
    pub fn end(mut self) {
        self.bystander.stop.store(true, Ordering::Relaxed);
        let thread = self.bystander.thread.take().expect("ended once");
        let worked = thread.join().expect("the bystander does not panic");
        assert_eq!(worked, Ok(()), "the server logged:\n{}", self.server.log());
    }

    fn held(&self) -> Option<Held> {
        let socket = self.server.folder().join("run/status");
        Held::of(&smbd::status::ask_at(&socket).ok()?)
    }

    /// What is held once the bystander is alone.
    fn settled(&self) -> Held {
        let alone = |held: &Held| held.connections == 1 && held.channels == 1 && held.children == 1;
        self.wait_until("the bystander to be alone", |stage| {
            stage.held().is_some_and(|held| alone(&held))
        });
        self.held().expect("it just answered")
    }

    #[track_caller]
    fn wait_for_rounds(&self, more: u64) {
        let now = self.bystander.rounds.load(Ordering::Relaxed);
        self.wait_until("the bystander's work", |stage| {
            let thread = stage.bystander.thread.as_ref();
            let over = thread.is_some_and(|thread| thread.is_finished());
            assert!(!over, "the bystander failed:\n{}", stage.server.log());
            stage.bystander.rounds.load(Ordering::Relaxed) >= now + more
        });
    }

    #[track_caller]
    fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:?}\n{}",
                self.held(),
                self.server.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl<C> Drop for Stage<C> {
    fn drop(&mut self) {
        self.bystander.stop.store(true, Ordering::Relaxed);
    }
}

/// A logged-on client with a file of the share open.
fn log_on<C: RdmaClient>(user: &str, password: &str, share: &str) -> Result<Client, ClientError> {
    let mut connection = Connection::negotiate(C::connect(true)?, Offer::default())?;
    let session = connection.log_on(user, password)?;
    let tree = connection.tree_connect(session, share)?;
    let file = connection.open(tree, "work", OpenOptions::read_write())?;
    Ok(Client {
        connection,
        session,
        tree,
        file,
    })
}

/// Writes, reads back, compares; until told to stop.
fn work<C: RdmaClient>(
    channel: Channel,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<(), ClientError> {
    let client = log_on::<C>(OTHER_USER, OTHER_PASSWORD, "elsewhere")?;
    let Client {
        mut connection,
        session,
        tree,
        file,
    } = client;
    let limits = connection.negotiated();
    let length = BLOCK.min(limits.max_read_size).min(limits.max_write_size);
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let byte = |at| (u64::from(at) * 7 + round) as u8;
        let data: Vec<u8> = (0..length).map(byte).collect();
        let offset = round % 4 * u64::from(length);
        let read = if channel == Channel::None {
            connection.write(tree, file, offset, &data)?;
            connection.read(tree, file, offset, length)?
        } else {
            connection.write_rdma(tree, file, offset, &data, channel, 2)?;
            connection.read_rdma(tree, file, offset, length, channel, 3)?
        };
        if read != data {
            return Err(ClientError::Protocol("other bytes came back".into()));
        }
        rounds.store(round, Ordering::Relaxed);
    }
    connection.close(tree, file)?;
    connection.log_off(session)
}

/// The status of an answer, or `None` where the connection was ended instead.
pub fn status_or_closed<T: std::fmt::Debug>(
    outcome: Result<T, ClientError>,
) -> Result<NtStatus, ()> {
    match outcome {
        Err(ClientError::Status(status)) => Ok(status),
        Err(ClientError::Closed) => Err(()),
        other => panic!("neither refused nor ended: {other:?}"),
    }
}
