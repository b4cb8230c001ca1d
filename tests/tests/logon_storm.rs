//! A storm of bad logons from all of 127.0.0.0/8 beside a session in use: nothing is gained by it, the
//! session notices little, and the server's memory does not grow. `./x soak logons` makes it long.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use proto::smb2::negotiate::{Capabilities, SecurityMode};
use proto::smb2::session_setup::{SessionSetupFlags, SessionSetupRequest};
use proto::smb2::{Command, Dialect, MessageId, NtStatus, SessionId, TreeId};
use smbd::security::keys::Key128;
use smbd::security::ntlm::{Credentials, Initiator as Ntlm, InitiatorRandom};
use smbd::security::signing::SigningKey;
use smbd::security::spnego::{Initiator, InitiatorStep};
use tests::client::{Connection, Offer, OpenOptions, Reply, Tcp, Tree};
use tests::server::{OTHER_USER, PASSWORD, Server, USER};

/// Attempts of each kind, where nobody asks for more.
const ATTEMPTS: u32 = 300;
/// Attackers' connections at a time. Each has one attempt under way: more credits nobody is given
/// before a logon.
const CONNECTIONS: u32 = 400;
/// Then another connection takes over, long before the server ends the first.
const GUESSES_OF_CONNECTION: u32 = 8;
/// Connections to the process of the client under attack: it takes no more than 16.
const BINDERS: u32 = 12;
/// The session's requests before anything happens.
const CALM: Duration = Duration::from_secs(2);
const CHUNK: usize = 65_536;
/// What a storm leaves warm, however long it was, in KiB: the broker's two tables (640), and heaps of
/// processes that are too busy to give back what its connections used.
const WARM: u64 = 2560;
/// What the second half of a storm may add to that, in KiB.
const SLACK: u64 = 512;

fn attempts() -> u32 {
    std::env::var("SOAK_TIMES")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(ATTEMPTS)
}

/// A session at work: it writes, reads back and compares, and notes how long each round took.
struct Victim {
    connection: Connection,
    tree: Tree,
    file: proto::smb2::FileId,
    offer: Offer,
    session: SessionId,
}

impl Victim {
    fn of(server: &Server) -> Victim {
        let offer = Offer::default();
        let mut connection = negotiated(Ipv4Addr::LOCALHOST, server.address(), offer.clone());
        let session = connection.log_on(USER, PASSWORD).unwrap();
        let tree = connection.tree_connect(session, "share").unwrap();
        let file = connection
            .open(tree, "work", OpenOptions::read_write())
            .unwrap();
        Victim {
            connection,
            tree,
            file,
            offer,
            session: session.id,
        }
    }

    /// Works while `goes_on`; the median time of a round.
    fn work(&mut self, goes_on: impl Fn() -> bool) -> Duration {
        let mut rounds = Vec::new();
        let mut value = 0u8;
        while goes_on() {
            value = value.wrapping_add(1);
            let data = vec![value; CHUNK];
            let began = Instant::now();
            self.connection
                .write(self.tree, self.file, 0, &data)
                .expect("the session writes");
            let read = self
                .connection
                .read(self.tree, self.file, 0, CHUNK as u32)
                .expect("the session reads");
            rounds.push(began.elapsed());
            assert!(read == data, "other bytes");
            // As a client that has something else to do as well; the storm is to be felt, not the
            // session's own load.
            thread::sleep(Duration::from_millis(2));
        }
        rounds.sort();
        rounds[rounds.len() / 2]
    }
}

/// An attacker's address and number.
struct Attacker {
    server: SocketAddr,
    number: u32,
}

fn negotiated(from: Ipv4Addr, server: SocketAddr, offer: Offer) -> Connection {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // At a limit of connections the server hangs up; it will not for long.
        match Tcp::connect_from(from, server)
            .and_then(|tcp| Connection::negotiate(tcp, offer.clone()))
        {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn random_address() -> Ipv4Addr {
    let mut bytes = [0u8; 3];
    rand::fill(&mut bytes).unwrap();
    let [second, third, fourth] = bytes;
    // Not the network's own address, nor the broadcast one.
    Ipv4Addr::new(127, second, third, fourth.clamp(1, 254))
}

impl Attacker {
    /// Guesses passwords until `left` is used up; what each was answered is checked.
    fn guess(&self, left: &AtomicU32) {
        while left.load(Ordering::Relaxed) > 0 {
            let mut connection = negotiated(random_address(), self.server, Offer::default());
            for turn in 0..GUESSES_OF_CONNECTION {
                if !take(left) {
                    break;
                }
                let guess = begin_guess(&mut connection, &self.user(turn));
                let reply = connection
                    .wait_for(guess, Duration::from_secs(60))
                    .expect("an answer");
                let status = reply.header.status;
                let refused = [NtStatus::LOGON_FAILURE, NtStatus::ACCOUNT_LOCKED_OUT];
                assert!(refused.contains(&status), "{status}");
            }
        }
    }

    /// Mostly strangers, now and then somebody who exists.
    fn user(&self, turn: u32) -> String {
        match turn % 8 {
            0 => USER.into(),
            1 => OTHER_USER.into(),
            turn => format!("user{}", self.number * 8 + turn),
        }
    }

    /// Tries to bind a session whose id and ClientGuid it knows, but not its key.
    fn bind(&self, offer: &Offer, session: SessionId, left: &AtomicU32) {
        let mut connection = negotiated(random_address(), self.server, offer.clone());
        assert_ne!(connection.negotiated().dialect, Dialect::Smb210);
        let mut key = [0u8; 16];
        rand::fill(&mut key).unwrap();
        let mut body = Vec::new();
        SessionSetupRequest {
            flags: SessionSetupFlags::BINDING,
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::empty(),
            channel: 0,
            previous_session_id: SessionId(0),
            security_buffer: &[0x60, 0],
        }
        .encode(&mut body);
        let mut began = Instant::now();
        while left.load(Ordering::Relaxed) > 0 {
            let algorithm = connection.negotiated().signing;
            connection.use_key(
                session,
                SigningKey::new(algorithm, &Key128::from_bytes(key)),
            );
            if !take(left) {
                break;
            }
            let header = connection.header(Command::SessionSetup, Some(session), TreeId(0));
            let message = connection.submit(header, &body).unwrap();
            // The answer is signed with the right key, which nobody here has.
            connection.forget_key(session);
            let reply = connection
                .wait_for(message, Duration::from_secs(60))
                .expect("an answer");
            let status = reply.header.status;
            // The others where the session's process has connections enough nobody has logged on over,
            // so that this one is served apart: it knows of no such session, and to whom that process
            // sees no proof of one it says the same.
            let refused = [
                NtStatus::ACCESS_DENIED,
                NtStatus::USER_SESSION_DELETED,
                NtStatus::REQUEST_NOT_ACCEPTED,
            ];
            assert!(refused.contains(&status), "{status}");
            // Nobody logs on here: the server ends such a connection after 45 s.
            if began.elapsed() > Duration::from_secs(20) {
                began = Instant::now();
                drop(connection);
                connection = negotiated(random_address(), self.server, offer.clone());
            }
        }
    }
}

fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

/// The first token, its challenge, and the proof of a wrong password; its answer comes later.
fn begin_guess(connection: &mut Connection, user: &str) -> MessageId {
    let mut random = InitiatorRandom {
        client_challenge: [0; 8],
        session_key: [0; 16],
    };
    rand::fill(&mut random.client_challenge).unwrap();
    let credentials = Credentials::with_password(user, "WORKGROUP", "Wrong-1");
    let ntlm = Ntlm::new(credentials, "STORM", "cifs/server", random, 0);
    let mut initiator = Initiator::new(ntlm);
    let first = setup(connection, SessionId(0), &initiator.first_token());
    let reply: Reply = connection.wait(first).expect("a challenge");
    assert_eq!(reply.header.status, NtStatus::MORE_PROCESSING_REQUIRED);
    let response =
        proto::smb2::session_setup::SessionSetupResponse::decode(&reply.element).unwrap();
    let Ok(InitiatorStep::Continue(token)) = initiator.step(response.security_buffer) else {
        panic!("no challenge");
    };
    setup(connection, reply.header.session_id, &token)
}

fn setup(connection: &mut Connection, session: SessionId, token: &[u8]) -> MessageId {
    let mut body = Vec::new();
    SessionSetupRequest {
        flags: SessionSetupFlags::empty(),
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::empty(),
        channel: 0,
        previous_session_id: SessionId(0),
        security_buffer: token,
    }
    .encode(&mut body);
    let header = connection.header(Command::SessionSetup, Some(session), TreeId(0));
    connection.submit(header, &body).unwrap()
}

/// What the processes that stay have written to and share with nobody, in KiB: supervisor, zygote,
/// broker, and the child of the session, each with its name.
fn memory(server: &Server, keep: &[u32]) -> Vec<(String, u64)> {
    let pids = std::iter::once(server.pid()).chain(keep.iter().copied());
    pids.map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (name.trim().to_owned(), written_by(pid))
    })
    .collect()
}

fn total(memory: &[(String, u64)]) -> u64 {
    memory.iter().map(|(_, size)| size).sum()
}

fn written_by(pid: u32) -> u64 {
    // One that has ended after all has nothing.
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    rollup
        .lines()
        .filter(|line| line.starts_with("Private_Dirty:") || line.starts_with("Swap:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// The processes below one.
fn descendants(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let children: Vec<u32> = text
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect();
    let below: Vec<u32> = children.iter().flat_map(|pid| descendants(*pid)).collect();
    [children, below].concat()
}

/// Runs the storm while the session works; the session's median round.
fn storm(victim: &mut Victim, threads: u32, attack: impl Fn(u32) + Sync) -> Duration {
    let over = AtomicBool::new(false);
    let attackers = AtomicU32::new(threads);
    thread::scope(|scope| {
        for number in 0..threads {
            let (attack, over, attackers) = (&attack, &over, &attackers);
            scope.spawn(move || {
                let last = Last { attackers, over };
                attack(number);
                drop(last);
            });
        }
        victim.work(|| !over.load(Ordering::Relaxed))
    })
}

/// Says that the storm is over when the last attacker has ended, even by a panic.
struct Last<'a> {
    attackers: &'a AtomicU32,
    over: &'a AtomicBool,
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if self.attackers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_storm_of_bad_logons_gains_nothing_and_harms_nobody() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut victim = Victim::of(&server);
    let attempts = attempts();
    let (offer, session) = (victim.offer.clone(), victim.session);
    let attacker = |number| Attacker {
        server: server.address(),
        number,
    };
    // A little of everything first, so that what stays is there before memory is counted.
    let some = AtomicU32::new(BINDERS * 4);
    storm(&mut victim, BINDERS, |number| {
        attacker(number).bind(&offer, session, &some);
    });
    let guessers = (attempts / 2).clamp(1, CONNECTIONS);
    let some = AtomicU32::new(guessers);
    storm(&mut victim, guessers, |number| {
        attacker(number).guess(&some);
    });
    // Attackers' processes end soon after their connections; who is there after that stays.
    thread::sleep(Duration::from_millis(1500));
    let stay = descendants(server.pid());
    let began = Instant::now();
    let calm = victim.work(|| began.elapsed() < CALM);
    let before = memory(&server, &stay);

    let bind = |victim: &mut Victim, attempts| {
        let (left, began) = (AtomicU32::new(attempts), Instant::now());
        let round = storm(victim, BINDERS, |number| {
            attacker(number).bind(&offer, session, &left);
        });
        (round, began.elapsed())
    };
    let guess = |victim: &mut Victim, attempts| {
        let (left, began) = (AtomicU32::new(attempts), Instant::now());
        let round = storm(victim, guessers, |number| attacker(number).guess(&left));
        (round, began.elapsed())
    };
    // After the first half all is there that ever will be: tables, buffers, a heap at its height.
    let (first, second) = (attempts / 2, attempts - attempts / 2);
    bind(&mut victim, first);
    guess(&mut victim, first);
    let halfway = memory(&server, &stay);
    let (binding, bound_in) = bind(&mut victim, second);
    let (guessing, guessed_in) = guess(&mut victim, second);
    let began = Instant::now();
    let calm_again = victim.work(|| began.elapsed() < CALM);
    let after = memory(&server, &stay);
    let status = server.status();
    println!(
        "logons: {attempts} bindings and {attempts} passwords, the second halves in {bound_in:.1?} \
         and {guessed_in:.1?}; a round of the session: {calm:?} before, {binding:?} and \
         {guessing:?} meanwhile, {calm_again:?} after; KiB written to: {before:?} before, \
         {halfway:?} halfway, {after:?} after"
    );
    assert_eq!(
        status.matches(&format!("{USER:?}")).count(),
        1,
        "one channel, one user: {status}"
    );
    // What a busy machine adds is in every round; a tenth of a millisecond is nobody's harm.
    let bearable = calm.max(calm_again) * 2 + Duration::from_micros(100);
    assert!(binding <= bearable, "bad bindings slow a session down");
    assert!(guessing <= bearable, "bad passwords slow a session down");
    assert!(total(&after) <= total(&before) + WARM, "the server grew");
    assert!(
        total(&after) <= total(&halfway) + SLACK,
        "the server goes on growing"
    );
    let log = server.log();
    let lines = log.matches("a logon failed").count();
    assert!(lines >= attempts as usize, "{lines} lines of {attempts}");
}
