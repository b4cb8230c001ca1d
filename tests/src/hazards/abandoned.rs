//! Connections that end at each step of their making, and such as are used and left: whatever the
//! client did last, nothing of it may stay. Half of them are left with a disconnect, half without a
//! word.

use std::time::{Duration, Instant};

use proto::smbdirect::messages::NegotiateRequest;

use super::client::transport;
use super::{Ground, Misbehaving, PATIENCE, Scene, guid};
use crate::client::{ClientError, Connection, Offer, RdmaTransport, Session, Transport};
use crate::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, USER};

/// How often each step, unless `SOAK_TIMES` says otherwise.
const TIMES: u32 = 20;

/// The last thing a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Asks for a connection, and is gone before the answer.
    Asked,
    /// Has a connection, and says nothing.
    Connected,
    /// Sends SMB Direct's negotiate request, and reads no answer.
    Negotiate,
    /// Begins its first message.
    FirstMessage,
    /// Sends SMB2's NEGOTIATE, for which a child is forked; the client's owner is to get it.
    Handoff,
    /// Begins to log on.
    Authentication,
    /// Logs on, and works.
    Complete,
}

const STEPS: [Step; 7] = [
    Step::Asked,
    Step::Connected,
    Step::Negotiate,
    Step::FirstMessage,
    Step::Handoff,
    Step::Authentication,
    Step::Complete,
];

/// Plays every step; prints a line for each.
pub fn nothing_stays_of_connections_left_at_any_step(scene: &Scene) {
    let times = std::env::var("SOAK_TIMES").ok();
    let times = times.and_then(|times| times.parse().ok()).unwrap_or(TIMES);
    let before = scene.held();
    let objects = objects(scene.ground());
    for step in STEPS {
        let began = Instant::now();
        // An owner that new connections are handed to.
        let mut owner = scene.connect_tcp().expect("a TCP connection");
        owner.exchange_negotiate(offer()).expect("NEGOTIATE");
        let session = owner.log_on(USER, PASSWORD).expect("the user logs on");
        for number in 0..times {
            let what = format!("{step:?}, number {number}");
            leave_at(scene, step, number, (&owner, session))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        owner.echo().expect("its owner is there");
        drop(owner);
        scene.wait_until_held(&before);
        wait_for_objects(scene.ground(), &objects);
        let seconds = began.elapsed().as_secs_f64();
        println!("abandoned at {step:?}: times={times} seconds={seconds:.1} as before");
    }
}

fn leave_at(
    scene: &Scene,
    step: Step,
    number: u32,
    (owner, session): (&Connection, Session),
) -> Result<(), ClientError> {
    let ground = scene.ground();
    let in_order = number.is_multiple_of(2);
    let leave = |mut wire: Box<dyn Misbehaving>| {
        if in_order {
            // It may be over already: so it ends as well.
            let _ = wire.disconnect();
        }
    };
    match step {
        Step::Asked => ground.ask(1)?,
        Step::Connected => leave(ground.connect_silently(1)?),
        Step::Negotiate => {
            let mut wire = ground.connect_silently(1)?;
            let request = NegotiateRequest {
                min_version: 0x0100,
                max_version: 0x0100,
                credits_requested: 255,
                preferred_send_size: 1364,
                max_receive_size: 1364,
                max_fragmented_size: 1 << 20,
            };
            wire.send_bytes(&request.encode())?;
            leave(wire);
        }
        Step::FirstMessage => {
            let mut wire = ground.connect(1, None)?;
            // More fragments than it has credits for.
            wire.queue_in_fragments(&[7; 60_000], 1000);
            wire.drive()?;
            leave(wire);
        }
        Step::Handoff => leave_after(scene, 1, in_order)?,
        // Behind the first or the second request of the logon.
        Step::Authentication => leave_after(scene, 2 + number / 2 % 2, in_order)?,
        Step::Complete => {
            let mut connection = Connection::negotiate(transport(ground, 1)?, offer())?;
            // Every other one is a channel of the owner's session.
            match number / 2 % 2 {
                0 => connection.bind(session, owner, USER, PASSWORD)?,
                _ => {
                    let own = connection.log_on(USER, PASSWORD)?;
                    connection.tree_connect(own, "share")?;
                }
            }
            connection.echo()?;
        }
    }
    Ok(())
}

fn offer() -> Offer {
    Offer {
        client_guid: guid(9),
        ..Offer::default()
    }
}

/// Logs on until that many messages are sent.
fn leave_after(scene: &Scene, messages: u32, in_order: bool) -> Result<(), ClientError> {
    let leaving = Leaving {
        wire: scene.ground().connect(1, None)?,
        messages,
        in_order,
    };
    let ended = Connection::negotiate(leaving, offer())
        // A proof whose sender does not wait is one more failure of its user, who is then let wait.
        .and_then(|mut connection| connection.log_on(OTHER_USER, OTHER_PASSWORD));
    match ended {
        Err(ClientError::Closed) => Ok(()),
        other => panic!("it left after {messages} messages, and {other:?}"),
    }
}

/// A transport that leaves behind its last message.
struct Leaving {
    wire: Box<dyn Misbehaving>,
    messages: u32,
    in_order: bool,
}

impl Transport for Leaving {
    fn send(&mut self, message: &[u8]) -> Result<(), ClientError> {
        self.messages -= 1;
        self.wire.send(message)
    }

    fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, ClientError> {
        if self.messages > 0 {
            return self.wire.receive(patience);
        }
        if self.in_order {
            let _ = self.wire.disconnect();
        }
        Err(ClientError::Closed)
    }

    fn rdma(&mut self) -> Option<&mut dyn RdmaTransport> {
        None
    }
}

/// What the kernel says there is of RDMA, by device and kind: of what smbdirectd says it is independent.
fn objects(ground: &Ground) -> Vec<String> {
    let Ground::Lab = ground else {
        return Vec::new();
    };
    let shown = std::process::Command::new("rdma")
        .arg("resource")
        .output()
        .expect("run rdma");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("cm_id"), "rdma resource said {text:?}");
    text.lines().map(str::to_owned).collect()
}

fn wait_for_objects(ground: &Ground, before: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = objects(ground);
        if now == before {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the kernel had {before:?} before, and now {now:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
