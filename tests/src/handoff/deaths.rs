//! Each process of the server killed at each step of a handoff. The client must get its connection
//! served, or find it closed and be served when it comes again; never two answers, never a wait over
//! five seconds; and what the server holds goes back to what it was.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use proto::smb2::Guid;

use super::stop_points::{freeze, kill, thaw, wait_until_idle};
use super::{Stage, Way, guid};
use crate::client::{ClientError, Connection, Offer};
use crate::hazards::{Held, family};
use crate::server::{PASSWORD, USER};

/// No client waits longer, whatever dies.
pub const LONGEST: Duration = Duration::from_secs(5);

/// How far a connection has come when somebody dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The first message has arrived at a smbdirectd that has not read it.
    Unannounced,
    /// The zygote has read the order to fork, and has not.
    Ordered,
    /// The zygote has forked, and has not said so; the new child has read nothing.
    Forked,
    /// That it has forked is known; the child has still read nothing.
    Started,
    /// It has read NEGOTIATE, and asked nobody.
    Negotiating,
    /// The broker has read its claim.
    Claimed,
    /// There was no owner: "you are the owner" lies unread in the child's socket.
    GrantUnread,
    /// The child has read it, and answered nobody.
    Granted,
    /// There is an owner: the connection lies unread in its socket.
    PassUnread,
    /// The owner has read it, and told nobody.
    Passed,
    /// It has told the broker, and answered nobody.
    Accepted,
    /// It has answered the client.
    Answered,
    /// The broker has read that the owner accepted.
    AcceptanceRead,
    /// "It is handed over" lies unread in the child's socket.
    HandedOverUnread,
    /// The child has read it, and still has its descriptor.
    HandedOver,
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Zygote,
    Broker,
    Gateway,
    Owner,
    /// The child that was forked for the connection.
    Temporary,
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Served,
    /// Closed without an answer, or after it.
    Closed,
}

/// One client's story.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub outcome: Outcome,
    /// From the death until the client knew how its connection fared, and, if it came again, was
    /// served.
    pub took: Duration,
}

/// Rounds of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rounds {
    pub served: u32,
    pub closed: u32,
    pub longest: Duration,
}

impl Step {
    pub const ALL: [Step; 15] = [
        Step::Unannounced,
        Step::Ordered,
        Step::Forked,
        Step::Started,
        Step::Negotiating,
        Step::Claimed,
        Step::GrantUnread,
        Step::Granted,
        Step::PassUnread,
        Step::Passed,
        Step::Accepted,
        Step::Answered,
        Step::AcceptanceRead,
        Step::HandedOverUnread,
        Step::HandedOver,
    ];

    fn exists(self, way: Way) -> bool {
        self != Step::Unannounced || way == Way::Rdma
    }

    fn has_owner(self) -> bool {
        !matches!(self, Step::GrantUnread | Step::Granted)
    }

    /// Whether the new child is certainly there: once the owner has accepted, and nobody holds the
    /// broker up, it may be gone already.
    fn has_temporary(self) -> bool {
        !matches!(
            self,
            Step::Unannounced | Step::Ordered | Step::Accepted | Step::Answered
        )
    }

    /// Who is there to die.
    pub fn victims(self, way: Way) -> Vec<Victim> {
        let mut victims = vec![Victim::Zygote, Victim::Broker];
        if way == Way::Rdma {
            victims.push(Victim::Gateway);
        }
        if self.has_owner() {
            victims.push(Victim::Owner);
        }
        if self.has_temporary() {
            victims.push(Victim::Temporary);
        }
        victims
    }

    /// Whether the client is served on this very connection, by the design: somebody who lives has
    /// it, and nobody has promised the client anything.
    fn must_be_served(self, victim: Victim) -> bool {
        match victim {
            // Its children, told of or not yet: ARCHITECTURE.md, "Who dies". What it never forked, the next one does.
            Victim::Zygote => self != Step::Forked,
            Victim::Broker => true,
            Victim::Gateway => false,
            Victim::Owner => self <= Step::Passed,
            Victim::Temporary => {
                self.has_owner()
                    && !matches!(self, Step::Forked | Step::Started | Step::Negotiating)
            }
        }
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rounds {
            served,
            closed,
            longest,
        } = self;
        let longest = longest.as_millis();
        write!(f, "served={served} closed={closed} longest_ms={longest}")
    }
}

/// Every step with every victim, `times` each. Prints a line for each kind.
pub fn play(stage: &Stage, way: Way, times: u32) -> BTreeMap<(Step, Victim), Rounds> {
    stage.warm_up();
    let before = stage.held();
    let mut all = BTreeMap::new();
    for step in Step::ALL.into_iter().filter(|step| step.exists(way)) {
        for victim in step.victims(way) {
            let mut rounds = Rounds::default();
            for _ in 0..times {
                let round = round(stage, way, step, victim, &before);
                match round.outcome {
                    Outcome::Served => rounds.served += 1,
                    Outcome::Closed => rounds.closed += 1,
                }
                rounds.longest = rounds.longest.max(round.took);
            }
            println!("{way:?} {step:?} {victim:?}: {rounds}");
            all.insert((step, victim), rounds);
        }
    }
    all
}

/// One connection, one death.
pub fn round(stage: &Stage, way: Way, step: Step, victim: Victim, before: &Held) -> Round {
    let what = format!("{way:?}, {step:?}, {victim:?} killed");
    let client_guid = guid(1);
    let mut first = step.has_owner().then(|| {
        let mut first = stage
            .connect(Way::Tcp, client_guid)
            .expect("a first connection");
        first.log_on(USER, PASSWORD).expect("the user logs on");
        first
    });
    let cast = Cast::of(stage, first.is_some().then_some(client_guid));
    let (to_client, from_stage) = channel();
    let (to_stage, from_client) = channel();
    let round = std::thread::scope(|scope| {
        // Dropped with a panic here, so that the client ends too.
        let to_client = to_client;
        let client = scope.spawn(|| client(stage, way, client_guid, to_stage, from_stage));
        let stopped = cast.reach(stage, step, &from_client, &to_client);
        let dying = match victim {
            Victim::Zygote => cast.zygote,
            Victim::Broker => cast.broker,
            Victim::Gateway => cast.gateway,
            Victim::Owner => cast.owner.expect("there is one"),
            Victim::Temporary => cast.temporary(),
        };
        kill(dying);
        to_client
            .send(Go::Dead(Instant::now()))
            .expect("the client waits");
        stopped
            .into_iter()
            .filter(|pid| *pid != dying)
            .for_each(thaw);
        client
            .join()
            .unwrap_or_else(|_| panic!("{what}: see above; {:?}", stage.status()))
    });
    assert!(
        round.took < LONGEST,
        "{what}: the client waited {:?}",
        round.took
    );
    if step.must_be_served(victim) {
        assert_eq!(round.outcome, Outcome::Served, "{what}");
    }
    if let Some(first) = &mut first {
        match victim {
            Victim::Owner => first.wait_closed(LONGEST).expect("its owner is dead"),
            _ => first
                .echo()
                .unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    }
    drop(first);
    stage.wait_until_held(before);
    round
}

/// The server's processes when a round begins.
struct Cast {
    supervisor: i32,
    zygote: i32,
    broker: i32,
    gateway: i32,
    owner: Option<i32>,
}

/// What the client is told.
enum Go {
    /// It may connect.
    Connect,
    /// The first message may be sent.
    On,
    /// Somebody died.
    Dead(Instant),
}

impl Cast {
    fn of(stage: &Stage, owned: Option<Guid>) -> Cast {
        let owner = owned.map(|client_guid| stage.owner(client_guid));
        let children = usize::from(owner.is_some());
        stage.wait_for("all processes are there", |report| {
            // A child of its own for a moment, if its ClientGuid had an owner that was ending.
            if report.children.len() != children {
                return None;
            }
            Some(Cast {
                supervisor: report.supervisor,
                zygote: report.zygote?,
                broker: report.broker?,
                gateway: report.gateway.as_ref()?.pid,
                owner,
            })
        })
    }

    /// The child that was forked last.
    fn temporary(&self) -> i32 {
        let known = [self.supervisor, self.zygote, self.broker, self.gateway];
        let mut new = family(self.supervisor).into_iter().filter(|found| {
            !known.contains(&found.pid) && Some(found.pid) != self.owner && found.state != 'Z'
        });
        let temporary = new.next().expect("a new child").pid;
        assert!(new.next().is_none(), "several new children");
        temporary
    }

    /// Lets the client go on until that step; gives who is stopped.
    fn reach(
        &self,
        stage: &Stage,
        step: Step,
        from_client: &Receiver<()>,
        to_client: &Sender<Go>,
    ) -> Vec<i32> {
        let points = &stage.stop_points;
        let tell = |go| to_client.send(go).expect("the client waits");
        let connected = || {
            tell(Go::Connect);
            from_client.recv().expect("the client has connected");
        };
        let go = || {
            connected();
            tell(Go::On);
        };
        let until = |names: &[&str]| {
            names.iter().for_each(|point| points.set(point));
            go();
            points.wait(self.supervisor, names, &[])
        };
        // What the broker sends stays unread.
        let unread = |point: &str| {
            points.set("broker-claim");
            go();
            points.wait(self.supervisor, &["broker-claim"], &[]);
            let temporary = self.temporary();
            freeze(temporary);
            points.set(point);
            thaw(self.broker);
            points.wait(self.supervisor, &[point], &[temporary]);
            vec![self.broker, temporary]
        };
        match step {
            Step::Unannounced => {
                connected();
                freeze(self.gateway);
                tell(Go::On);
                vec![self.gateway]
            }
            Step::Ordered => until(&["zygote-ordered"]),
            Step::Forked => until(&["zygote-forked", "child-started"]),
            Step::Started => {
                let stopped = until(&["child-started"]);
                wait_until_idle(self.zygote);
                stopped
            }
            Step::Negotiating => until(&["child-negotiating"]),
            Step::Claimed => until(&["broker-claim"]),
            Step::GrantUnread => unread("broker-claimed"),
            Step::Granted => until(&["child-owner"]),
            Step::PassUnread => {
                let owner = self.owner.expect("there is one");
                freeze(owner);
                points.set("broker-passed");
                go();
                points.wait(self.supervisor, &["broker-passed"], &[owner]);
                vec![self.broker, owner]
            }
            Step::Passed => until(&["owner-pass"]),
            Step::Accepted => until(&["owner-accepted"]),
            Step::Answered => until(&["owner-answered"]),
            Step::AcceptanceRead => until(&["broker-answer"]),
            Step::HandedOverUnread => unread("broker-handed-over"),
            Step::HandedOver => until(&["child-handed-over"]),
        }
    }
}

/// Connects, negotiates when told to, and once somebody has died goes on with that connection or
/// with another one.
fn client(
    stage: &Stage,
    way: Way,
    client_guid: Guid,
    to_stage: Sender<()>,
    from_stage: Receiver<Go>,
) -> Round {
    let offer = Offer {
        client_guid,
        ..Offer::default()
    };
    assert!(matches!(from_stage.recv(), Ok(Go::Connect)));
    let mut connection = stage.open(way).expect("the server listens");
    to_stage.send(()).expect("the stage waits");
    assert!(matches!(from_stage.recv(), Ok(Go::On)));
    let negotiated = connection.exchange_negotiate(offer);
    let Ok(Go::Dead(died)) = from_stage.recv() else {
        panic!("nobody died");
    };
    let served = negotiated.and_then(|()| use_it(&mut connection));
    let known = died.elapsed();
    assert_eq!(connection.strays(), 0, "answered twice");
    match served {
        Ok(()) => Round {
            outcome: Outcome::Served,
            took: known,
        },
        Err(ClientError::Closed) => {
            drop(connection);
            come_again(stage, way, client_guid, died + LONGEST);
            Round {
                outcome: Outcome::Closed,
                took: died.elapsed(),
            }
        }
        Err(error) => panic!("neither served nor closed after {known:?}: {error}"),
    }
}

fn use_it(connection: &mut Connection) -> Result<(), ClientError> {
    let session = connection.log_on(USER, PASSWORD)?;
    connection.tree_connect(session, "share")?;
    connection.echo()
}

/// Until it is served; whatever was killed may need a moment to be back.
fn come_again(stage: &Stage, way: Way, client_guid: Guid, until: Instant) {
    loop {
        let served = stage
            .connect(way, client_guid)
            .and_then(|mut connection| use_it(&mut connection));
        match served {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < until, "not served again: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
