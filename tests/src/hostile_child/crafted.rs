//! One attack for each rule of the relay, and for each way around it that comes to mind. Each has a
//! connection of its own and says what must come of it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use proto::relay::{
    Body, CloseReason, Descriptor, MAX_INLINE, MAX_OPERATIONS, MessageSequence, OperationId,
    PayloadWrite, RegionRange, ToGateway,
};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use shm::link::MAX_DATAGRAM;

use super::Report;
use super::hostile::{Hostile, OWN, Until};
use super::law::Verdict;
use super::theatre::{MAX_PARTS, Theatre};

mod loans;

const PART: u64 = 8 << 20;

/// Sends what it wants to; answers how many records that was.
type Act = Box<dyn Fn(&mut Hostile) -> u64>;

/// An attack, and what must come of it.
pub struct Attack {
    what: String,
    until: Until,
    verdict: Verdict,
    act: Act,
}

/// Plays one.
pub fn play(theatre: &mut Theatre, attack: &Attack, report: &mut Report) {
    let mut hostile = Hostile::connect(theatre, attack.until);
    report.records += (attack.act)(&mut hostile);
    let fate = hostile.settle(&attack.what, attack.verdict);
    hostile.leave(attack.verdict, fate, report);
}

/// Every one of them.
pub fn all() -> Vec<Attack> {
    let mut all = Vec::new();
    all.extend(ranges());
    all.extend(phases());
    all.extend(frames());
    all.extend(counts());
    all.extend(descriptors());
    all.extend(regions());
    all.extend(loans::all());
    all
}

fn attack(
    what: &str,
    until: Until,
    verdict: Verdict,
    act: impl Fn(&mut Hostile) -> u64 + 'static,
) -> Attack {
    Attack {
        what: what.to_owned(),
        until,
        verdict,
        act: Box::new(act),
    }
}

fn breach(what: &str, until: Until, act: impl Fn(&mut Hostile) -> u64 + 'static) -> Attack {
    attack(what, until, Verdict::Breach, act)
}

/// A record that is sent alone.
fn said(what: &str, until: Until, record: ToGateway<'static>) -> Attack {
    breach(what, until, move |hostile| {
        hostile.say(&record);
        1
    })
}

const INLINE: Body<'static> = Body::Inline(&[OWN; 64]);

fn reply<'a>(writes: Vec<PayloadWrite<'a>>, body: Body<'static>) -> ToGateway<'a> {
    ToGateway::Reply {
        operation: OperationId(7),
        invalidate: None,
        writes,
        body,
    }
}

/// Has 4 KiB moved to these buffers of the client, and from them.
fn move_both_ways(hostile: &mut Hostile, descriptors: &[Descriptor]) {
    let range = hostile.range(0, 4096);
    let write = PayloadWrite {
        source: range,
        descriptors,
    };
    hostile.say(&reply(vec![write], INLINE));
    hostile.say(&ToGateway::ReadPayload {
        operation: OperationId(1),
        target: range,
        descriptors,
    });
}

/// Bytes of the region that are not the child's to name, in every record that names bytes.
fn ranges() -> Vec<Attack> {
    let payload = 128 << 20;
    let end = payload + PART;
    let outside = [
        (0, 1),
        (4 << 20, 4096),
        (payload - 1, 1),
        (payload - 1, 2),
        (payload - 4096, 8192),
        (end, 1),
        (end - 1, 2),
        (end - 4096, 4097),
        (payload, PART as u32 + 1),
        (payload, u32::MAX),
        (payload + u64::from(MAX_PARTS) * PART, 1),
        (payload + u64::from(MAX_PARTS) * PART - 1, 2),
        (u64::from(u32::MAX), 1),
        (1 << 32, 4096),
        (1 << 63, 1),
        ((1 << 63) - 1, u32::MAX),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (u64::MAX - 4095, 4096),
        (u64::MAX - u64::from(u32::MAX) + 1, u32::MAX),
    ];
    let mut all = Vec::new();
    for (offset, length) in outside {
        let range = RegionRange { offset, length };
        let enough = |hostile: &Hostile| {
            // As many as it takes, so that nothing else is wrong.
            let mut one = hostile.exposed(0, u32::MAX);
            one.length = u32::MAX.into();
            vec![one; 2]
        };
        let what = |record: &str| format!("{record} of {length} bytes at {offset:#x}");
        all.push(breach(
            &what("read_payload"),
            Until::Mapped,
            move |hostile| {
                let descriptors = enough(hostile);
                hostile.say(&ToGateway::ReadPayload {
                    operation: OperationId(1),
                    target: range,
                    descriptors: &descriptors,
                });
                1
            },
        ));
        all.push(breach(&what("a write"), Until::Mapped, move |hostile| {
            let descriptors = enough(hostile);
            let write = PayloadWrite {
                source: range,
                descriptors: &descriptors,
            };
            hostile.say(&reply(vec![write], INLINE));
            1
        }));
        all.push(said(
            &what("a loan"),
            Until::Mapped,
            ToGateway::Lend {
                operation: OperationId(1),
                target: range,
            },
        ));
        all.push(said(
            &what("a reply"),
            Until::Mapped,
            reply(Vec::new(), Body::InRegion(range)),
        ));
    }
    all
}

/// Records that may not come now.
fn phases() -> Vec<Attack> {
    let in_region = RegionRange {
        offset: 128 << 20,
        length: 64,
    };
    let grow = ToGateway::Grow { parts: 2 };
    let mut all = vec![
        said("mapped without a region", Until::Greeted, ToGateway::Mapped),
        said("grow without a region", Until::Greeted, grow.clone()),
        said("grow before it is mapped", Until::Attached, grow),
        said("a second attach", Until::Attached, ToGateway::Attach),
        said("an attach once mapped", Until::Mapped, ToGateway::Attach),
        said("a second mapped", Until::Mapped, ToGateway::Mapped),
    ];
    for until in [Until::Greeted, Until::Attached] {
        all.push(said(
            "a reply from a region that is not mapped",
            until,
            reply(Vec::new(), Body::InRegion(in_region)),
        ));
        all.push(breach(
            "payload for a region that is not mapped",
            until,
            move |hostile| {
                let whole = [hostile.exposed(0, 64)];
                hostile.say(&ToGateway::ReadPayload {
                    operation: OperationId(1),
                    target: in_region,
                    descriptors: &whole,
                });
                1
            },
        ));
        all.push(breach(
            "payload from a region that is not mapped",
            until,
            move |hostile| {
                let whole = [hostile.exposed(0, 64)];
                let write = PayloadWrite {
                    source: in_region,
                    descriptors: &whole,
                };
                hostile.say(&reply(vec![write], INLINE));
                1
            },
        ));
    }
    for reason in 1..=7 {
        let what = format!("farewell for reason {reason}, and records behind it");
        all.push(breach(&what, Until::Mapped, move |hostile| {
            let mut bytes = raw(22, 0, &u32::to_le_bytes(reason));
            ToGateway::Attach.encode(&mut bytes);
            hostile.send(&bytes, &[]);
            2
        }));
    }
    all.push(attack(
        "a farewell",
        Until::Mapped,
        Verdict::Farewell,
        |hostile| {
            hostile.say(&ToGateway::Close {
                reason: CloseReason::ServerClosed,
            });
            1
        },
    ));
    all
}

/// A record of any kind and body, its length right.
fn raw(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (8 + body.len()).next_multiple_of(8);
    let mut bytes = (length as u32).to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(body);
    bytes.resize(length, 0);
    bytes
}

/// The same, its length a lie.
fn with_length(length: u32, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.splice(0..4, length.to_le_bytes());
    bytes
}

fn sent(what: &str, bytes: Vec<u8>) -> Attack {
    breach(what, Until::Mapped, move |hostile| {
        hostile.send(&bytes, &[]);
        1
    })
}

/// Bytes that are no records, lengths that lie, counts over the limits.
fn frames() -> Vec<Attack> {
    let attach = raw(16, 0, &[]);
    let mut all = vec![
        sent("an empty datagram", Vec::new()),
        sent("a datagram longer than any", vec![OWN; MAX_DATAGRAM + 1]),
        sent("a datagram of zeros", vec![0; MAX_DATAGRAM]),
        sent("a read without descriptors", raw(19, 0, &[0; 24])),
        sent("an inline reply of no bytes", raw(20, 1, &[0; 24])),
        sent("a reason there is none of", raw(22, 0, &[8, 0, 0, 0])),
        sent("no reason", raw(22, 0, &[0; 4])),
    ];
    for length in [0, 1, 4, 7, 9, 15, 24, 1 << 20, 1 << 31, u32::MAX] {
        let what = format!("a record that claims {length} bytes");
        all.push(sent(&what, with_length(length, attach.clone())));
    }
    for kind in (0..16).chain(26..40).chain([0x8000, 0xffff]) {
        let what = format!("a record of kind {kind}");
        all.push(sent(&what, raw(kind, 0xffff, &[OWN; 56])));
    }
    for count in [257u32, 1 << 16, 1 << 28, u32::MAX] {
        let mut body = vec![0; 20];
        body[16..20].copy_from_slice(&1u32.to_le_bytes());
        body.extend(count.to_le_bytes());
        body.extend([0; 16]);
        all.push(sent(
            &format!("a read with {count} descriptors"),
            raw(19, 0, &body),
        ));
        let mut body = vec![0; 12];
        body.extend(count.to_le_bytes());
        body.extend([0; 64]);
        all.push(sent(
            &format!("a reply with {count} writes"),
            raw(20, 1, &body),
        ));
        let mut body = vec![0; 16];
        body.extend(count.saturating_add(MAX_INLINE).to_le_bytes());
        body.extend([0; 64]);
        all.push(sent(
            &format!("an inline reply that claims {count} bytes and more"),
            raw(20, 1, &body),
        ));
    }
    let mut whole = Vec::new();
    reply(Vec::new(), INLINE).encode(&mut whole);
    for cut in 1..whole.len() {
        let bytes = whole[..cut].to_vec();
        all.push(sent(&format!("a reply cut after {cut} bytes"), bytes));
    }
    all
}

/// Numbers: of messages, of operations, of bytes.
fn counts() -> Vec<Attack> {
    let release = |through| ToGateway::Release {
        through: MessageSequence(through),
    };
    let mut all = vec![
        said("a release of the next message", Until::Greeted, release(2)),
        said(
            "a release of every message",
            Until::Mapped,
            release(u64::MAX),
        ),
        breach("a release taken back", Until::Mapped, move |hostile| {
            hostile.say(&release(1));
            hostile.say(&release(0));
            2
        }),
        attack(
            "the same release again and again",
            Until::Mapped,
            Verdict::Harmless,
            move |hostile| {
                (0..1000).for_each(|_| hostile.say(&release(1)));
                1000
            },
        ),
        breach("one operation too many", Until::Mapped, |hostile| {
            // None of them can end: nobody serves the client's device.
            hostile.serves = false;
            let whole = [hostile.exposed(0, 64)];
            for number in 0..=u64::from(MAX_OPERATIONS) {
                hostile.say(&ToGateway::ReadPayload {
                    operation: OperationId(number),
                    target: hostile.range(0, 64),
                    descriptors: &whole,
                });
            }
            u64::from(MAX_OPERATIONS) + 1
        }),
        attack(
            "as many operations as there may be, all of one name",
            Until::Mapped,
            Verdict::Harmless,
            |hostile| {
                hostile.serves = false;
                let whole = [hostile.exposed(0, 64)];
                for _ in 1..MAX_OPERATIONS {
                    hostile.say(&ToGateway::ReadPayload {
                        operation: OperationId(0),
                        target: hostile.range(0, 64),
                        descriptors: &whole,
                    });
                }
                u64::from(MAX_OPERATIONS) - 1
            },
        ),
        attack(
            "answers nobody reads",
            Until::Mapped,
            Verdict::Harmless,
            |hostile| {
                hostile.listens = false;
                let mut bytes = Vec::new();
                for _ in 0..2000 {
                    ToGateway::Grow { parts: u32::MAX }.encode(&mut bytes);
                }
                (0..10).for_each(|_| hostile.send(&bytes, &[]));
                20_000
            },
        ),
        breach(
            "a reply longer than the client takes",
            Until::Mapped,
            |hostile| {
                hostile.say(&ToGateway::Grow { parts: MAX_PARTS });
                let range = hostile.range(0, hostile.law.longest + 1);
                hostile.say(&reply(Vec::new(), Body::InRegion(range)));
                2
            },
        ),
    ];
    for (what, length, count) in [
        ("descriptors of no bytes", 0, 256),
        ("a descriptor one byte short", 4095, 1),
        (
            "descriptors that make up the bytes only if a sum wraps",
            1 << 24,
            256,
        ),
    ] {
        // 256 times 16 MiB are 4 GiB: nothing, in 32 bits.
        let verdict = match length {
            0 | 4095 => Verdict::Breach,
            _ => Verdict::UpToTheDevice,
        };
        all.push(attack(what, Until::Mapped, verdict, move |hostile| {
            let mut one: Descriptor = hostile.exposed(0, 0);
            one.length = length.into();
            let list = vec![one; count];
            hostile.say(&ToGateway::ReadPayload {
                operation: OperationId(1),
                target: hostile.range(0, 4096),
                descriptors: &list,
            });
            1
        }));
    }
    for (what, offset, token) in [
        ("an address at the end of all", u64::MAX, 0),
        ("an address that wraps", u64::MAX - 100, 0),
        ("a token nobody gave", 0, u32::MAX),
        ("no token", 0, 0),
        ("the token beside one's own", 0, 1),
    ] {
        all.push(attack(
            what,
            Until::Mapped,
            Verdict::UpToTheDevice,
            move |hostile| {
                let mut one = hostile.exposed(0, 4096);
                let own = one.token.get();
                match token {
                    0 if offset > 0 => one.offset = offset.into(),
                    1 => one.token = (own - 1).into(),
                    other => one.token = other.into(),
                }
                let list = [one];
                move_both_ways(hostile, &list);
                2
            },
        ));
    }
    all
}

fn files(count: usize) -> Vec<OwnedFd> {
    let open = |_| File::open("/proc/self/status").expect("a file").into();
    (0..count).map(open).collect()
}

/// Descriptors where none belong, too many, or of the wrong thing.
fn descriptors() -> Vec<Attack> {
    let release = raw(18, 0, &1u64.to_le_bytes());
    let attach = raw(16, 0, &[]);
    let mut all = Vec::new();
    for count in [1, 2, 4, 5, 16, 253] {
        let (bytes, what) = (
            release.clone(),
            format!("{count} descriptors for a release"),
        );
        all.push(breach(&what, Until::Mapped, move |hostile| {
            hostile.send(&bytes, &files(count));
            1
        }));
        let what = format!("{count} descriptors and no record");
        all.push(breach(&what, Until::Mapped, move |hostile| {
            hostile.send(&[], &files(count));
            1
        }));
        let (bytes, what) = (attach.clone(), format!("{count} descriptors to attach"));
        all.push(breach(&what, Until::Greeted, move |hostile| {
            hostile.send(&bytes, &files(count));
            1
        }));
    }
    type Make = fn(&Hostile) -> OwnedFd;
    let not_regions: [(&str, Make); 7] = [
        ("a folder", |_| File::open("/").expect("a folder").into()),
        ("a device", |_| File::open("/dev/zero").expect("it").into()),
        ("a pipe", |_| rustix::pipe::pipe().expect("a pipe").0),
        ("its own relay socket", |hostile| {
            let own = hostile.socket().expect("connected");
            own.try_clone().expect("duplicate")
        }),
        ("memory that may shrink", |_| memory(SealFlags::empty())),
        ("memory that may only grow", |_| memory(SealFlags::SHRINK)),
        ("memory that shrank to nothing", |_| {
            let memory = memory(SealFlags::empty());
            ftruncate(&memory, 0).expect("shrink");
            memory
        }),
    ];
    for (what, make) in not_regions {
        let bytes = attach.clone();
        let what = format!("{what} as a region");
        all.push(breach(&what, Until::Greeted, move |hostile| {
            let descriptor = make(hostile);
            hostile.send(&bytes, &[descriptor]);
            1
        }));
    }
    let bytes = attach.clone();
    all.push(attack(
        "sealed memory of its own as a region: it is given another",
        Until::Greeted,
        Verdict::Harmless,
        move |hostile| {
            hostile.send(&bytes, &[memory(SealFlags::SHRINK | SealFlags::GROW)]);
            1
        },
    ));
    all
}

/// Of the size of a region, with these seals.
pub fn memory(seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create(c"region", flags).expect("a memfd");
    ftruncate(&memfd, 1 << 28).expect("size it");
    fcntl_add_seals(&memfd, seals).expect("seal it");
    memfd
}

/// What a child can do to its region's memfd before smbdirectd uses it, and after.
fn regions() -> Vec<Attack> {
    let mapped = || {
        let mut bytes = Vec::new();
        ToGateway::Mapped.encode(&mut bytes);
        bytes
    };
    let region = |hostile: &Hostile| {
        let memfd = hostile.memfd.as_ref().expect("attached");
        memfd.as_fd().try_clone_to_owned().expect("duplicate")
    };
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    vec![
        // It is never registered, as its seals could not be completed.
        breach(
            "a region nobody may seal",
            Until::Attached,
            move |hostile| {
                fcntl_add_seals(region(hostile), SealFlags::SEAL).expect("seal");
                hostile.send(&mapped(), &[]);
                1
            },
        ),
        attack(
            "a region that cannot shrink, with holes where bytes were",
            Until::Attached,
            Verdict::Harmless,
            move |hostile| {
                let memfd = region(hostile);
                assert!(ftruncate(&memfd, 0).is_err(), "it shrank");
                hostile.map();
                fallocate(&memfd, punch, 0, 1 << 28).expect("nobody has sealed it yet");
                hostile.send(&mapped(), &[]);
                let whole = [hostile.exposed(0, 4096)];
                move_both_ways(hostile, &whole);
                3
            },
        ),
        attack(
            "a mapped region that takes no hole and no new size",
            Until::Mapped,
            Verdict::Harmless,
            move |hostile| {
                let memfd = region(hostile);
                // Until `mapped` is read it is not sealed: this waits for that.
                hostile.settle("mapped", Verdict::Harmless);
                assert!(fallocate(&memfd, punch, 0, 1 << 20).is_err(), "a hole");
                assert!(ftruncate(&memfd, 0).is_err(), "it shrank");
                assert!(ftruncate(&memfd, 1 << 30).is_err(), "it grew");
                hostile.say(&ToGateway::Grow { parts: u32::MAX });
                1
            },
        ),
    ]
}
