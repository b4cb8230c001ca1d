//! Every target on its seeds, on what they become when cut or changed in a byte, and on
//! `fuzz/corpus/TARGET`: what searches have found.

use std::path::Path;

fn replay(name: &str) {
    let target = fuzz::target(name).expect("a target");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()));
    let mut runs = 0;
    (target.run)(&[]);
    for seed in &seeds {
        (target.run)(seed);
        for at in 0..seed.len().min(512) {
            (target.run)(&seed[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = seed.clone();
                changed[at] ^= change;
                (target.run)(&changed);
                runs += 1;
            }
        }
    }
    assert!(runs > 20, "{runs} runs");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    for file in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
        (target.run)(&std::fs::read(file.path()).expect("a file of the corpus"));
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_left_out() {
            let replayed = [$(stringify!($name)),*];
            for target in fuzz::TARGETS {
                assert!(replayed.contains(&target.name), "{}", target.name);
            }
        }
    };
}

replays! {
    spnego ntlm session_setup negotiate_contexts transform compression smbdirect_negotiate
    smbdirect_data relay_records descriptors
}
