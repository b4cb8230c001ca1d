//! Random records: mostly such as a child may send, some that break one rule by one step, some broken
//! in their bytes, and descriptors where none belong.

use std::fs::File;
use std::os::fd::OwnedFd;

use proto::relay::{
    Body, CloseReason, Descriptor, MAX_DESCRIPTORS, MAX_WORDS, MessageSequence, OperationId,
    Outline, PayloadWrite, RegionRange, ToGateway, Word,
};

use rustix::fs::SealFlags;

use super::Report;
use super::crafted::memory;
use super::hostile::{EXPOSED, Hostile, OWN, Until};
use super::law::{Passed, Verdict};
use super::theatre::{MAX_PARTS, Theatre};

/// Records of one connection at most: fewer than it may have unfinished operations.
const OF_CONNECTION: u64 = 300;
/// Values at which arithmetic goes wrong.
const EDGES: [u64; 10] = [
    0,
    1,
    4096,
    (8 << 20) - 1,
    8 << 20,
    (1 << 31) - 1,
    u32::MAX as u64,
    1 << 32,
    1 << 63,
    u64::MAX,
];

/// Numbers that follow from a seed.
pub struct Chance(u64);

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: u64) -> u64 {
        (self.next() >> 16) % count
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// One connection, until it ends or has sent enough.
pub fn play(theatre: &mut Theatre, chance: &mut Chance, report: &mut Report) {
    let until = match chance.below(10) {
        0 => Until::Greeted,
        1 => Until::Attached,
        _ => Until::Mapped,
    };
    let mut hostile = Hostile::connect(theatre, until);
    let mut verdict = Verdict::Harmless;
    let mut sent = 0;
    let mut sayings = Vec::new();
    while sent < OF_CONNECTION && verdict < Verdict::Farewell && hostile.socket().is_some() {
        let mut bytes = Vec::new();
        for _ in 0..=chance.below(12) {
            record(&hostile, chance, &mut bytes);
        }
        if chance.one_in(100) {
            break_bytes(chance, &mut bytes);
            hostile.garbled = true;
        }
        let (descriptors, kinds) = descriptors(chance);
        let (found, count) = hostile.law.judge(&bytes, &kinds);
        verdict = verdict.max(found);
        sent += count;
        report.records += count;
        hostile.send(&bytes, &descriptors);
        sayings = bytes;
        hostile.turn();
        if chance.one_in(30) && verdict == Verdict::Harmless {
            hostile.receive_another();
        }
    }
    let what = format!("{sent} records, {until:?}, the last {sayings:02x?}");
    let fate = hostile.settle(&what, verdict);
    hostile.leave(verdict, fate, report);
}

fn record(hostile: &Hostile, chance: &mut Chance, out: &mut Vec<u8>) {
    let descriptors = some_descriptors(hostile, chance);
    let operation = OperationId(chance.of(&[0, 1, 2, u64::MAX - 1]));
    let inline = [OWN; 3000];
    let length = chance.of(&[1, 8, 100, 3000]);
    let inline = Body::Inline(&inline[..length]);
    let record = match chance.below(40) {
        0..=11 => ToGateway::Reply {
            operation,
            invalidate: chance.one_in(200).then(|| token(hostile, chance)),
            writes: Vec::new(),
            body: inline,
        },
        12..=19 if hostile.layout.is_some() => ToGateway::Reply {
            operation,
            invalidate: None,
            writes: vec![PayloadWrite {
                source: range(hostile, chance),
                descriptors: &descriptors,
            }],
            body: match chance.one_in(4) {
                true => Body::InRegion(range(hostile, chance)),
                false => inline,
            },
        },
        20..=29 if hostile.layout.is_some() => ToGateway::ReadPayload {
            operation,
            target: range(hostile, chance),
            descriptors: &descriptors,
        },
        30..=33 if hostile.layout.is_some() => ToGateway::Grow {
            parts: chance.of(&[0, 1, 2, MAX_PARTS, MAX_PARTS + 1, u32::MAX]),
        },
        38 if hostile.layout.is_some() => match chance.below(3) {
            0 => ToGateway::Recall,
            1 => ToGateway::Lend {
                operation,
                target: range(hostile, chance),
            },
            _ => ToGateway::Expect {
                outline: outline(chance),
            },
        },
        34 if chance.one_in(60) => ToGateway::Close {
            reason: chance.of(&[
                CloseReason::ServerClosed,
                CloseReason::RelayViolation,
                CloseReason::PeerDisconnected,
            ]),
        },
        35 if hostile.layout.is_none() || chance.one_in(60) => ToGateway::Attach,
        36 if chance.one_in(60) => ToGateway::Mapped,
        37 if chance.one_in(40) => ToGateway::Release {
            through: MessageSequence(chance.of(&EDGES)),
        },
        _ => ToGateway::Release {
            through: MessageSequence(hostile.newest),
        },
    };
    record.encode(out);
}

/// Often one that every message has. No length a client says is short enough to be fetched.
fn outline(chance: &mut Chance) -> Outline {
    let word = Word {
        at: chance.of(&[0, 1, 996, 997, u16::MAX]),
        mask: chance.of(&[0, 1, u32::MAX]),
        value: chance.of(&[0, 1, u32::from_le_bytes([OWN; 4])]),
    };
    Outline {
        words: vec![word; 1 + chance.below(MAX_WORDS as u64) as usize],
        length_at: chance.of(&[0, 3, 996, u16::MAX]),
        descriptors_at: chance.of(&[0, 5, 984, 985, u16::MAX]),
        descriptors: chance.of(&[1, 2, 31, MAX_DESCRIPTORS as u16]),
    }
}

/// Mostly of its own, mostly short.
fn range(hostile: &Hostile, chance: &mut Chance) -> RegionRange {
    let (at, length) = match chance.one_in(300) {
        true => (chance.of(&EDGES), chance.of(&EDGES) as u32),
        false => (
            chance.below(u64::from(EXPOSED)),
            1 + chance.below(4000) as u32,
        ),
    };
    let mut range = hostile.range(at, length.max(1));
    if chance.one_in(600) {
        range.offset = chance.of(&EDGES);
    }
    range
}

/// Mostly enough of its client's memory.
fn some_descriptors(hostile: &Hostile, chance: &mut Chance) -> Vec<Descriptor> {
    let count = match chance.one_in(20) {
        true => 256,
        false => 1 + chance.below(3),
    };
    let whole = (0..count).map(|_| {
        let mut one = hostile.exposed(0, EXPOSED);
        if chance.one_in(count * 400) {
            one.offset = chance.of(&EDGES).into();
        }
        if chance.one_in(count * 400) {
            one.token = token(hostile, chance).into();
        }
        if chance.one_in(count * 200) {
            one.length = (chance.of(&EDGES) as u32).into();
        }
        one
    });
    whole.collect()
}

fn token(hostile: &Hostile, chance: &mut Chance) -> u32 {
    let own = hostile.exposed(0, 1).token.get();
    match chance.below(3) {
        0 => own,
        // Others' tokens are numbers close by.
        1 => own.wrapping_sub(chance.below(40) as u32),
        _ => chance.next() as u32,
    }
}

fn break_bytes(chance: &mut Chance, bytes: &mut Vec<u8>) {
    match chance.below(4) {
        0 => bytes.truncate(chance.below(bytes.len() as u64 + 1) as usize),
        1 => bytes.extend((0..chance.below(40)).map(|_| chance.next() as u8)),
        2 => {
            let at = chance.below(bytes.len() as u64) as usize;
            let edge = chance.of(&EDGES).to_le_bytes();
            bytes.iter_mut().skip(at).zip(edge).for_each(|(byte, new)| {
                *byte = new;
            });
        }
        _ => {
            for _ in 0..=chance.below(4) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.next() as u8;
            }
        }
    }
}

fn descriptors(chance: &mut Chance) -> (Vec<OwnedFd>, Vec<Passed>) {
    if !chance.one_in(200) {
        return (Vec::new(), Vec::new());
    }
    let count = 1 + chance.below(6);
    let any = (0..count).map(|_| match chance.one_in(2) {
        true => (memory(SealFlags::SHRINK | SealFlags::GROW), Passed::Region),
        false => (
            File::open("/proc/self/status").expect("a file").into(),
            Passed::Other,
        ),
    });
    any.unzip()
}
