//! Small cases tried out to the last: every schedule of a small connection up to a depth, every order of
//! taking and giving back in a small ring and a small payload area. No loom: none of these machines has
//! an atomic or a second thread; what differs from run to run is the order of events, and that is
//! enumerated here.

use sim::chance::{Chance, Choices};
use sim::smbdirect::play_small;
use sim::{Stage, exhaust};

/// Choices that are tried in every way; behind them the schedule is the simplest.
const DEPTH: usize = 11;

fn assert_credits_hold(play: fn(&mut Stage)) {
    match exhaust(play, DEPTH) {
        Ok(paths) => {
            println!("{paths} schedules");
            assert!(paths > 10_000, "only {paths} schedules");
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn credits_hold_on_every_schedule_of_two_sides_with_one_credit() {
    assert_credits_hold(|stage| play_small(stage, [1, 1]));
}

#[test]
fn credits_hold_on_every_schedule_of_two_sides_with_two_credits() {
    assert_credits_hold(|stage| play_small(stage, [2, 2]));
}

#[test]
fn credits_hold_on_every_schedule_of_a_side_with_one_credit_and_one_with_three() {
    assert_credits_hold(|stage| play_small(stage, [1, 3]));
}

/// Walks every path of `play`; how many there were.
fn walk(depth: usize, mut play: impl FnMut(&mut Chance)) -> u64 {
    let mut paths = 0;
    let mut next = Some(Choices::first(depth));
    while let Some(choices) = next {
        let mut chance = Chance::of_choices(choices);
        play(&mut chance);
        paths += 1;
        next = chance.into_choices().and_then(Choices::next);
    }
    paths
}

fn assert_apart(held: &[(u64, u64, u64)], capacity: u64) {
    for (position, (_, start, length)) in held.iter().enumerate() {
        assert!(start + length <= capacity, "{held:?} in {capacity}");
        for (_, other, others_length) in &held[..position] {
            assert!(
                start + length <= *other || other + others_length <= *start,
                "one slot, two owners: {held:?}"
            );
        }
    }
}

#[test]
fn no_piece_of_a_ring_has_two_owners_in_any_order_of_taking_and_releasing() {
    const CAPACITY: u32 = 320;
    let paths = walk(9, |chance| {
        let mut ring = shm::ring::Ring::new(CAPACITY);
        let mut held: Vec<(u64, u64, u64)> = Vec::new();
        let mut sequence = 0;
        for _ in 0..9 {
            match chance.below(5) {
                length @ 0..=2 => {
                    let length = [1, 65, 192][length as usize];
                    sequence += 1;
                    match ring.take(sequence, length) {
                        Some(offset) => held.push((sequence, offset.into(), length.into())),
                        None => assert!(!held.is_empty(), "an empty ring has room"),
                    }
                }
                // The consumer releases in order, some at a time.
                3 => {
                    let through = held.first().map_or(0, |(oldest, ..)| *oldest);
                    ring.release(through);
                    held.retain(|(sequence, ..)| *sequence > through);
                }
                _ => {
                    let through = held.last().map_or(0, |(newest, ..)| *newest);
                    ring.release(through);
                    held.clear();
                }
            }
            assert_apart(&held, CAPACITY.into());
            assert_eq!(ring.in_use() == 0, held.is_empty());
        }
    });
    assert!(paths > 1_000_000, "{paths}");
}

#[test]
fn no_extent_has_two_owners_and_none_is_lost_in_any_order() {
    const PART: u32 = 4 * shm::extents::PAGE;
    let paths = walk(8, |chance| {
        let mut extents = shm::extents::Extents::new(0, PART);
        extents.grow(2);
        let mut held: Vec<shm::extents::Extent> = Vec::new();
        for _ in 0..8 {
            match chance.below(5) {
                pages @ 0..=2 => held.extend(extents.take((1 << pages) * shm::extents::PAGE)),
                which => {
                    let at = if which == 3 {
                        0
                    } else {
                        held.len().saturating_sub(1)
                    };
                    if at < held.len() {
                        extents.give_back(held.remove(at));
                    }
                }
            }
            let blocks: Vec<(u64, u64, u64)> = held
                .iter()
                .map(|extent| (0, extent.offset, u64::from(extent.length)))
                .collect();
            assert_apart(&blocks, 2 * u64::from(PART));
        }
        for extent in held.drain(..) {
            extents.give_back(extent);
        }
        // All of it came back, in one piece a part.
        assert_eq!(extents.in_use(), 0);
        assert!(extents.take(PART).is_some() && extents.take(PART).is_some());
    });
    assert!(paths > 300_000, "{paths}");
}
