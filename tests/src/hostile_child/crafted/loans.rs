//! Attacks by way of what a child lends and expects.

use proto::relay::{MAX_LOANS, MAX_OPERATIONS, OperationId, ToGateway};

use super::super::hostile::{Hostile, Until};
use super::super::law::Verdict;
use super::{Attack, attack, breach, raw, said, sent};

pub(super) fn all() -> Vec<Attack> {
    let mut all = vec![
        said(
            "a recall without a region",
            Until::Greeted,
            ToGateway::Recall,
        ),
        said(
            "a recall before it is mapped",
            Until::Attached,
            ToGateway::Recall,
        ),
        breach("one loan too many", Until::Mapped, |hostile| {
            for number in 0..=MAX_LOANS as u64 {
                lend(hostile, number);
            }
            MAX_LOANS as u64 + 1
        }),
        breach(
            "loans beside operations, one too many",
            Until::Mapped,
            |hostile| {
                hostile.serves = false;
                lend(hostile, 0);
                let whole = [hostile.exposed(0, 64)];
                for number in 1..=u64::from(MAX_OPERATIONS) {
                    hostile.say(&ToGateway::ReadPayload {
                        operation: OperationId(number),
                        target: hostile.range(0, 64),
                        descriptors: &whole,
                    });
                }
                u64::from(MAX_OPERATIONS) + 1
            },
        ),
        attack(
            "loans, of one range, recalled again and again",
            Until::Mapped,
            Verdict::Harmless,
            |hostile| {
                for _ in 0..100 {
                    (0..MAX_LOANS as u64).for_each(|number| lend(hostile, number));
                    hostile.say(&ToGateway::Recall);
                }
                100 * (MAX_LOANS as u64 + 1)
            },
        ),
    ];
    for (descriptors, words) in [(0u16, 1u16), (257, 1), (1, 0), (1, 17), (1, 3)] {
        let fields = [0, 0, descriptors, words];
        let mut body: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        body.extend([0; 28]);
        all.push(sent(
            &format!("an outline with {descriptors} descriptors and {words} words"),
            raw(23, 0, &body),
        ));
    }
    let mut far = vec![0, 0, 0, 0, 1, 0, 1, 0];
    far.extend((1u32 << 16).to_le_bytes());
    far.extend([0; 12]);
    all.push(sent("an outline beyond any message", raw(23, 0, &far)));
    all.push(sent("a loan of no bytes", raw(24, 0, &[0; 24])));
    all
}

fn lend(hostile: &mut Hostile, number: u64) {
    let target = hostile.range(0, 4096);
    let operation = OperationId(number);
    hostile.say(&ToGateway::Lend { operation, target });
}
