//! What a seed means, now and later, and that choices are tried to the last.

use sim::chance::{Chance, Choices};

#[test]
fn a_seed_gives_the_numbers_it_always_gave() {
    let mut chance = Chance::of_seed(1_234_567);
    let numbers = [(); 3].map(|()| chance.below(u64::MAX));
    assert_eq!(
        numbers,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423
        ]
    );
}

#[test]
fn every_path_is_walked_once() {
    let mut paths = Vec::new();
    let mut choices = Some(Choices::first(3));
    while let Some(path) = choices {
        let mut chance = Chance::of_choices(path);
        let first = chance.below(2);
        let second = if first == 1 { chance.below(3) } else { 9 };
        paths.push((first, second, chance.once_in(5), chance.below(1)));
        choices = chance.into_choices().and_then(Choices::next);
    }
    let expected = [
        (0, 9, false, 0),
        (0, 9, true, 0),
        (1, 0, false, 0),
        (1, 0, true, 0),
        (1, 1, false, 0),
        (1, 1, true, 0),
        (1, 2, false, 0),
        (1, 2, true, 0),
    ];
    assert_eq!(paths, expected);
}
