//! Two connection machines of SMB Direct, ours and an active peer, each with its driver on a simulated
//! queue pair. Chance decides what happens next: a message arrives, a completion is polled, late or
//! with others, receives are posted late, a timer fires, the peer's process is gone.
//!
//! Oracles: a message always finds a posted receive, no more is granted than is posted, each send is
//! retired once, fragments arrive in order and whole, what was reported sent has arrived, whoever has
//! data to send goes on as long as both live, and silence follows.

mod queue_pair;
mod side;

use std::time::Duration;

use proto::smbdirect::{CloseReason, Parameters, Role, State};
use proto::time::Timestamp;

use self::queue_pair::{Arrival, Completion};
use self::side::Side;
use crate::chance::Chance;
use crate::note;
use crate::run::{Sabotage, Scenario, Stage};

pub const SCENARIO: Scenario = Scenario {
    name: "smbdirect",
    what: "two SMB Direct connection machines over simulated queue pairs",
    play,
    sabotages: &[
        Sabotage::ForgottenReceive,
        Sabotage::OneCreditMore,
        Sabotage::Overtaking,
        Sabotage::LostMessage,
        Sabotage::ReportedTwice,
        Sabotage::NeverReported,
        Sabotage::ChangedByte,
    ],
};

/// More than any run needs: two sides that get here talk without end.
const STEPS_AT_MOST: u64 = 200_000;
/// Longer than a message is ever under way, shorter than anybody waits for one.
const STEP: Duration = Duration::from_micros(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The application has another message.
    Queue,
    /// The connection manager says that the connection is up.
    Establish,
    /// The device sends the oldest request.
    Transmit,
    /// The driver looks for completions.
    Poll,
    /// The driver posts receives and sends.
    Drive,
    /// The driver is busy elsewhere, or is back.
    Doze,
    Timer,
}

struct World<'a> {
    stage: &'a mut Stage,
    now: Timestamp,
    sides: [Side; 2],
    /// Nothing is left to chance but the schedule.
    is_small: bool,
    /// Both live on a single credit: then each message must be answered by a grant, and no silence
    /// follows. It is what two such sides cannot do without.
    never_silent: bool,
    /// After so many steps one side is gone.
    vanishing: Option<(u64, usize)>,
}

fn play(stage: &mut Stage) {
    let parameters = [parameters(&mut stage.chance), parameters(&mut stage.chance)];
    let busy = stage.chance.once_in(4);
    let messages = [
        messages(&mut stage.chance, busy),
        messages(&mut stage.chance, busy),
    ];
    let vanishes = stage.chance.once_in(4);
    let vanishing = vanishes.then(|| (stage.chance.below(400), stage.chance.index(2)));
    play_with(stage, parameters, messages, vanishing, false);
}

/// The smallest connection in which credits can run out: so many on each side, and a message of two
/// fragments to send. For `exhaust`: what is left to choice is the schedule.
pub fn play_small(stage: &mut Stage, credits: [u16; 2]) {
    let parameters = credits.map(|credits| Parameters {
        receive_credit_max: credits,
        send_credit_target: credits,
        max_send_size: 128,
        max_receive_size: 128,
        max_outstanding_sends: 2,
        ..Parameters::server()
    });
    play_with(stage, parameters, [vec![150], vec![150]], None, true);
}

fn play_with(
    stage: &mut Stage,
    [active, passive]: [Parameters; 2],
    messages: [Vec<u32>; 2],
    vanishing: Option<(u64, usize)>,
    is_small: bool,
) {
    let never_silent = active.receive_credit_max.min(passive.send_credit_target) == 1
        && passive.receive_credit_max.min(active.send_credit_target) == 1;
    let mut sides = [
        Side::new("client", Role::Active, active),
        Side::new("server", Role::Passive, passive),
    ];
    for (side, messages) in sides.iter_mut().zip(messages) {
        side.messages = messages;
    }
    let mut world = World {
        stage,
        now: Timestamp::ZERO,
        sides,
        is_small,
        never_silent,
        vanishing,
    };
    // The accept is behind this receive.
    world.sides[1].post();
    world.run();
}

fn parameters(chance: &mut Chance) -> Parameters {
    let credits = |chance: &mut Chance| match chance.below(4) {
        0 => 1,
        1 => chance.between(2, 4) as u16,
        2 => chance.between(5, 20) as u16,
        _ => 255,
    };
    let size = |chance: &mut Chance| match chance.below(3) {
        0 => 128,
        1 => chance.between(128, 1500) as u32,
        _ => 1364,
    };
    let parameters = Parameters {
        receive_credit_max: credits(chance),
        send_credit_target: credits(chance),
        max_send_size: size(chance),
        max_receive_size: size(chance),
        max_outstanding_sends: credits(chance),
        ..Parameters::server()
    };
    parameters
        .validate()
        .expect("values a connection works with");
    parameters
}

/// Lengths of what one application says.
fn messages(chance: &mut Chance, busy: bool) -> Vec<u32> {
    let count = if busy {
        chance.below(24)
    } else {
        chance.below(6)
    };
    let length = |chance: &mut Chance| match chance.below(8) {
        0 => chance.between(1, 8),
        1..=4 => chance.between(1, 300),
        5 | 6 => chance.between(300, 5000),
        _ => chance.between(5000, 20_000),
    };
    (0..count).map(|_| length(chance) as u32).collect()
}

impl World<'_> {
    fn run(&mut self) {
        let mut steps = 0;
        loop {
            if self.vanishing.is_some_and(|(when, _)| when <= steps) {
                self.vanish();
            }
            let possible = self.possible();
            if possible.is_empty() {
                break;
            }
            let (who, step) = self.stage.chance.one_of(&possible);
            self.take(who, step);
            self.check();
            if self.never_silent && self.vanishing.is_none() && self.all_is_said() {
                self.stage.tally.add("endless exchanges", 1);
                return;
            }
            steps += 1;
            assert!(steps < STEPS_AT_MOST, "the two sides do not fall silent");
        }
        self.stage.tally.add("steps", steps);
        self.check_end();
        if !self.is_small {
            self.keep_alive();
        }
    }

    /// What can happen now. A driver that dozes does nothing, but it can wake.
    fn possible(&self) -> Vec<(usize, Step)> {
        let mut possible = Vec::new();
        for (who, side) in self.sides.iter().enumerate() {
            let mut add = |step, can| {
                if can {
                    possible.push((who, step));
                }
            };
            let peer = &self.sides[1 - who];
            add(Step::Transmit, side.queue_pair.can_transmit());
            if !side.is_alive {
                continue;
            }
            add(Step::Establish, !side.is_established && peer.is_alive);
            add(Step::Doze, side.dozes);
            if side.dozes {
                continue;
            }
            add(Step::Poll, side.queue_pair.has_completions());
            add(Step::Drive, side.has_work);
            add(Step::Queue, side.may_queue());
            let due = side.machine.deadline();
            add(Step::Timer, due.is_some_and(|due| due <= self.now));
        }
        possible
    }

    fn take(&mut self, who: usize, step: Step) {
        self.now = self.now.saturating_add(STEP);
        let now = self.now;
        if step == Step::Transmit {
            return self.transmit(who);
        }
        let side = &mut self.sides[who];
        match step {
            Step::Queue => side.queue(),
            Step::Establish => {
                note!("{now} {}: established", side.name);
                side.is_established = true;
                side.machine.handle_established(now);
                side.has_work = true;
            }
            Step::Poll => {
                let twice = self.stage.goes_wrong(Sabotage::ReportedTwice, 20);
                let at_most = match self.is_small {
                    true => 1,
                    false => self.stage.chance.between(1, 8) as usize,
                };
                for completion in side.queue_pair.poll(at_most) {
                    side.complete(now, completion.clone());
                    if twice && let Completion::Sent { number, .. } = completion {
                        side.machine.handle_send_complete(now, 1);
                        side.retired(number);
                    }
                }
            }
            Step::Drive => {
                if self.is_small {
                    return side.drive(now, u16::MAX);
                }
                if self.stage.chance.once_in(8) {
                    note!("{now} {}: dozes", side.name);
                    side.dozes = true;
                    self.stage.tally.add("late drivers", 1);
                    return;
                }
                // A driver may find fewer free buffers than the machine asks for.
                let buffers = match self.stage.chance.below(4) {
                    0 => self.stage.chance.below(3) as u16,
                    _ => u16::MAX,
                };
                side.drive(now, buffers);
                if self.stage.goes_wrong(Sabotage::ForgottenReceive, 50) {
                    side.queue_pair.forget_receive();
                }
            }
            Step::Doze => {
                note!("{now} {}: is back", side.name);
                side.dozes = false;
            }
            Step::Timer => {
                note!("{now} {}: timer", side.name);
                side.machine.handle_timeout(now);
                side.has_work = true;
            }
            Step::Transmit => {}
        }
    }

    /// A message crosses the wire; the queue pair delivers in order, and acknowledges.
    fn transmit(&mut self, who: usize) {
        let overtakes = self.stage.goes_wrong(Sabotage::Overtaking, 20);
        let Some(mut message) = self.sides[who].queue_pair.transmit(overtakes) else {
            return;
        };
        if self.stage.goes_wrong(Sabotage::OneCreditMore, 50) {
            message.grant_one_more();
        }
        if self.stage.goes_wrong(Sabotage::ChangedByte, 50) {
            message.change_last_byte();
        }
        let lost = self.stage.goes_wrong(Sabotage::LostMessage, 100);
        let (sender, receiver) = {
            let [first, second] = &mut self.sides;
            if who == 0 {
                (first, second)
            } else {
                (second, first)
            }
        };
        note!(
            "{} {}: message {} of {} bytes reaches the {}",
            self.now,
            sender.name,
            message.number,
            message.bytes.len(),
            receiver.name
        );
        let number = message.number;
        let arrival = match lost {
            true => Arrival::Taken,
            false => receiver.queue_pair.arrive(message),
        };
        self.stage.tally.add("messages", 1);
        match arrival {
            Arrival::Taken => {
                let mute = self.stage.goes_wrong(Sabotage::NeverReported, 50);
                if !mute {
                    sender.queue_pair.acknowledge(number);
                }
            }
            Arrival::NoReceive => panic!(
                "the {} granted a credit for a receive that is not posted: {:?}",
                receiver.name,
                receiver.machine.credits()
            ),
            // Whatever was on the way goes back flushed.
            Arrival::Dead => sender.queue_pair.fail(number),
        }
    }

    /// One side's process is gone, and with it its queue pair. The other is told at some point.
    fn vanish(&mut self) {
        let Some((_, who)) = self.vanishing.take() else {
            return;
        };
        note!("{} {}: vanishes", self.now, self.sides[who].name);
        self.stage.tally.add("vanished peers", 1);
        self.sides[who].is_alive = false;
        self.sides[who].queue_pair.destroy();
        let survivor = &mut self.sides[1 - who];
        survivor.queue_pair.lose_peer();
        survivor.dozes = false;
    }

    fn check(&mut self) {
        for side in self.sides.iter().filter(|side| side.is_alive) {
            side.check();
        }
    }

    fn all_is_said(&self) -> bool {
        let [first, second] = &self.sides;
        let (said, heard) = (&first.messages, second.delivered);
        let (answered, returned) = (&second.messages, first.delivered);
        said.len() as u64 == heard && answered.len() as u64 == returned && first.is_alive
    }

    /// Nothing can happen any more.
    fn check_end(&mut self) {
        let everybody = self.sides.iter().all(|side| side.is_alive);
        for who in 0..2 {
            let (side, peer) = (&self.sides[who], &self.sides[1 - who]);
            if side.is_alive {
                side.check_silence();
            }
            for number in side.acknowledged.iter() {
                assert!(
                    !peer.is_alive || *number < peer.delivered,
                    "message {number} of the {} was reported sent and has not arrived",
                    side.name
                );
            }
            if everybody {
                assert_eq!(
                    (peer.delivered as usize, side.machine.close_reason()),
                    (side.messages.len(), None),
                    "deadlock: the {} has data to send; it {:?}, its peer {:?}",
                    side.name,
                    side.machine.credits(),
                    peer.machine.credits()
                );
            }
            if !everybody && side.is_alive {
                assert_eq!(side.machine.state(), State::Closed, "it outlives its peer");
                assert_eq!(side.outstanding(), 0, "sends that were never given back");
            }
        }
        let delivered: u64 = self.sides.iter().map(|side| side.delivered).sum();
        self.stage.tally.add("whole messages", delivered);
    }

    /// Silence is broken by keepalives, and an honest peer answers them; one that is mute is given up.
    fn keep_alive(&mut self) {
        if !self.sides.iter().all(|side| side.is_alive) {
            return;
        }
        let mute = self
            .stage
            .chance
            .once_in(4)
            .then(|| self.stage.chance.index(2));
        if let Some(mute) = mute {
            note!("{} {}: hangs", self.now, self.sides[mute].name);
            self.stage.tally.add("hanging peers", 1);
        }
        for _ in 0..6 {
            let due = (0..2)
                .filter(|who| Some(*who) != mute)
                .filter_map(|who| self.sides[who].machine.deadline());
            let Some(due) = due.min() else {
                break;
            };
            self.now = self.now.max(due);
            for _ in 0..STEPS_AT_MOST {
                let mut possible = self.possible();
                possible.retain(|(who, step)| Some(*who) != mute || *step == Step::Transmit);
                if possible.is_empty() {
                    break;
                }
                let (who, step) = self.stage.chance.one_of(&possible);
                self.take(who, step);
                self.check();
            }
        }
        for (who, side) in self.sides.iter().enumerate() {
            if Some(who) == mute {
                continue;
            }
            let expected = mute.map(|_| CloseReason::KeepaliveTimeout);
            assert_eq!(side.machine.close_reason(), expected, "the {}", side.name);
        }
        let keepalives: u64 = self
            .sides
            .iter()
            .map(|side| side.machine.counters().keepalives_sent)
            .sum();
        self.stage.tally.add("keepalives", keepalives);
    }
}
