//! Connections of nobody over SMB Direct: `rdma_flood SERVER HELD RATE SECONDS SOURCE…`, inside the lab's guest.
//!
//! Opens HELD connections from the SOURCE addresses in turn and leaves them at a step: 0 connected and silent, 1 SMB Direct
//! negotiated, 2 SMB2's NEGOTIATE answered; FLOOD_STEPS says at which in turn, '012' by itself. Prints 'held N answered N refused N closed N'. Then
//! for SECONDS it opens RATE more a second, and RATE at most for those the server let go of, and prints the same; then
//! holds what it has until it is killed. As `flood.py` does over TCP.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::smb2::negotiate::{Capabilities, NegotiateOffer, SecurityMode};
use proto::smb2::{Command, Dialect, Guid, Header, MessageId};
use tests::client::verbs::{Behaviour, SmbDirect};
use tests::client::{ClientError, PATIENCE, Transport};

/// At which the first connections are all to be there; a server lets go of some meanwhile.
const OPENING: Duration = Duration::from_secs(120);
/// Connections looked at before the next is opened.
const LOOKED_AT: usize = 50;

struct Flood {
    server: SocketAddr,
    steps: Vec<u8>,
    sources: Vec<IpAddr>,
    connections: Vec<SmbDirect>,
    /// Where the next look begins.
    next: usize,
    opened: usize,
    answered: usize,
    refused: usize,
    closed: usize,
    why: Option<String>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut word = |what: &str| arguments.next().unwrap_or_else(|| panic!("no {what}"));
    let server: IpAddr = word("server").parse().expect("an address");
    let held: usize = word("number to hold").parse().expect("a number");
    let rate: f64 = word("rate").parse().expect("a number");
    let seconds: f64 = word("seconds").parse().expect("a number");
    let sources: Vec<IpAddr> = arguments
        .map(|source| source.parse().expect("an address"))
        .collect();
    assert!(!sources.is_empty(), "no source addresses");
    let steps = std::env::var("FLOOD_STEPS").unwrap_or_else(|_| "012".to_owned());
    let steps: Vec<u8> = steps.bytes().map(|step| step - b'0').collect();
    assert!(!steps.is_empty(), "no steps");
    let mut flood = Flood {
        server: (server, 445).into(),
        steps,
        sources,
        connections: Vec::new(),
        next: 0,
        opened: 0,
        answered: 0,
        refused: 0,
        closed: 0,
        why: None,
    };
    let began = Instant::now();
    while flood.connections.len() < held && began.elapsed() < OPENING && flood.refused <= held {
        flood.open();
        flood.look();
    }
    flood.say();
    let began = Instant::now();
    let (mut more, mut again) = (0.0, 0.0);
    while began.elapsed().as_secs_f64() < seconds {
        let due = began.elapsed().as_secs_f64() * rate;
        if more < due {
            flood.open();
            more += 1.0;
        }
        if again < due && flood.connections.len() < held {
            flood.open();
            again += 1.0;
        }
        flood.look();
        std::thread::sleep(Duration::from_millis(10));
    }
    flood.say();
    loop {
        flood.look();
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Flood {
    fn open(&mut self) {
        let source = self.sources[self.opened % self.sources.len()];
        let step = self.steps[self.opened % self.steps.len()];
        self.opened += 1;
        match self.connect((source, 0).into(), step) {
            Ok(connection) => self.connections.push(connection),
            Err(error) => {
                self.refused += 1;
                self.why = Some(error.to_string());
            }
        }
    }

    fn connect(&mut self, source: SocketAddr, step: u8) -> Result<SmbDirect, ClientError> {
        let mut behaviour = match step {
            0 => Behaviour::silent(),
            _ => Behaviour::default(),
        };
        behaviour.from = Some(source);
        // What it holds itself is not what is measured.
        behaviour.parameters.receive_credit_max = 8;
        behaviour.parameters.max_outstanding_sends = 4;
        let mut connection = SmbDirect::connect(self.server, behaviour)?;
        if step == 2 {
            connection.send(&negotiate(self.opened))?;
            connection.receive(PATIENCE)?;
            self.answered += 1;
        }
        Ok(connection)
    }

    /// Hears from some of the connections, and drops those that are over.
    fn look(&mut self) {
        for _ in 0..LOOKED_AT.min(self.connections.len()) {
            self.next = (self.next + 1) % self.connections.len().max(1);
            let Some(connection) = self.connections.get_mut(self.next) else {
                return;
            };
            let driven = connection.drive();
            if driven.is_err() || connection.over().is_some() {
                self.connections.swap_remove(self.next);
                self.closed += 1;
            }
        }
    }

    fn say(&self) {
        println!(
            "held {} answered {} refused {} closed {}",
            self.connections.len(),
            self.answered,
            self.refused,
            self.closed
        );
        if let Some(why) = &self.why {
            eprintln!("the last refusal: {why}");
        }
    }
}

/// SMB2's NEGOTIATE, under a ClientGuid of its own.
fn negotiate(number: usize) -> Vec<u8> {
    let mut guid = [0x4e; 16];
    guid[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let mut message = Vec::new();
    Header::request(Command::Negotiate, MessageId(0)).encode(&mut message);
    NegotiateOffer {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::LARGE_MTU,
        client_guid: Guid(guid),
        dialects: &[Dialect::Smb300.into()],
        contexts: &[],
    }
    .encode(&mut message);
    message
}
