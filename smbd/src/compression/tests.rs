use proptest::prelude::*;

use super::*;

const LARGEST: usize = 1 << 20;

fn unchained() -> Compression {
    Compression::choose([LZ4, PATTERN_V1].into_iter(), false).unwrap()
}

fn chained() -> Compression {
    Compression::choose([PATTERN_V1, LZ4].into_iter(), true).unwrap()
}

fn text(length: usize) -> Vec<u8> {
    b"what is said again and again "
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn round_trip(compression: &Compression, leading: &[u8], data: &[u8]) -> Option<usize> {
    let packed = compression.compress(leading, data, b"room".to_vec())?;
    let packed = packed.strip_prefix(b"room").unwrap();
    let whole = compression.decompress(packed, LARGEST, vec![7; 9]).unwrap();
    assert_eq!(whole, [leading, data].concat());
    Some(packed.len())
}

#[test]
fn what_is_negotiated_keeps_the_clients_order_and_nothing_unknown() {
    let all = [0, 1, 4, 2, 5, 3, 5, 0x77];
    let chosen = |chained| Compression::choose(all.into_iter(), chained).unwrap();
    assert_eq!(chosen(true).ids(), [PATTERN_V1, LZ4]);
    assert_eq!(chosen(false).ids(), [LZ4], "a pattern needs a chain");
    assert_eq!(Compression::choose([1, 2, 3].into_iter(), true), None);
    assert_eq!(Compression::choose([PATTERN_V1].into_iter(), false), None);
}

#[test]
fn what_is_compressed_is_shorter_and_comes_back() {
    for compression in [unchained(), chained()] {
        let length = round_trip(&compression, b"leading", &text(100_000)).unwrap();
        assert!(length < 2_000, "{length}");
        assert!(round_trip(&compression, b"", &text(SHORTEST)).is_some());
        assert_eq!(round_trip(&compression, b"x", &text(SHORTEST - 1)), None);
        assert_eq!(round_trip(&compression, b"x", &noise(100_000)), None);
    }
}

#[test]
fn runs_at_the_ends_become_patterns_and_noise_between_them_stays() {
    let data = [vec![0; 50_000], noise(1000), vec![9; 60_000]].concat();
    let length = round_trip(&chained(), b"leading", &data).unwrap();
    assert!(length < 1_200, "{length}");
    let all_same = vec![3; 100_000];
    let length = round_trip(&chained(), b"leading", &all_same).unwrap();
    assert_eq!(length, 8 + (8 + 7) + (8 + 8), "one pattern and no LZ4");
    let patterns = Compression::choose([PATTERN_V1].into_iter(), true).unwrap();
    assert!(round_trip(&patterns, b"leading", &data).is_some());
    assert_eq!(round_trip(&patterns, b"leading", &text(9_000)), None);
}

/// Sizes are looked at before memory is taken or a byte decompressed.
#[test]
fn a_message_that_would_grow_beyond_the_limit_is_refused() {
    let refused = |message: &[u8]| {
        let outcome = chained().decompress(message, 65_536, Vec::new());
        assert!(
            matches!(outcome, Err(DecompressionError::TooLong { .. })),
            "{outcome:?}"
        );
    };
    let limit = 65_536 + OVERHEAD as u32;
    let mut message = Vec::new();
    let one = |original_size, leading: &'static [u8]| Unchained {
        original_size,
        algorithm: LZ4,
        leading,
        compressed: &[0],
    };
    for (original_size, leading) in [(u32::MAX, &b""[..]), (limit + 1, b""), (limit, b"x")] {
        message.clear();
        one(original_size, leading).encode(&mut message);
        refused(&message);
    }
    let pattern = |repetitions| ChainedPayload::Pattern {
        byte: 0,
        repetitions,
    };
    let packed = |original_size| ChainedPayload::Compressed {
        algorithm: LZ4,
        original_size,
        data: &[0],
    };
    let bombs: [(u32, &[ChainedPayload<'_>]); 6] = [
        (limit + 1, &[pattern(1)]),
        (limit, &[pattern(limit + 1)]),
        (limit, &[pattern(u32::MAX)]),
        (limit, &[pattern(limit), pattern(1)]),
        (limit, &[pattern(limit - 1), packed(2)]),
        (10, &[ChainedPayload::Plain(&[0; 11])]),
    ];
    for (original_size, payloads) in bombs {
        message.clear();
        encode_chain(original_size, payloads, &mut message);
        refused(&message);
    }
}

#[test]
fn a_chain_of_too_many_payloads_is_refused() {
    let mut message = Vec::new();
    encode_chain(
        1,
        &[ChainedPayload::Plain(&[]); MAX_PAYLOADS + 1],
        &mut message,
    );
    assert_eq!(
        chained().decompress(&message, LARGEST, Vec::new()),
        Err(DecompressionError::TooManyPayloads)
    );
}

#[test]
fn sizes_that_are_not_those_of_the_data_are_refused() {
    let packed = unchained()
        .compress(&[], &text(10_000), Vec::new())
        .unwrap();
    for (at, change) in [(4, 1u8), (4, 0xff), (5, 0x10)] {
        let mut changed = packed.clone();
        changed[at] = changed[at].wrapping_add(change);
        assert_eq!(
            unchained().decompress(&changed, LARGEST, Vec::new()),
            Err(DecompressionError::Damaged)
        );
    }
    let mut short = Vec::new();
    encode_chain(5, &[ChainedPayload::Plain(b"four")], &mut short);
    assert_eq!(
        chained().decompress(&short, LARGEST, Vec::new()),
        Err(DecompressionError::Damaged)
    );
}

#[test]
fn what_was_not_negotiated_is_refused() {
    let mut message = Vec::new();
    encode_chain(1, &[ChainedPayload::Plain(b"x")], &mut message);
    assert_eq!(
        unchained().decompress(&message, LARGEST, Vec::new()),
        Err(DecompressionError::ChainNotNegotiated)
    );
    let other = |algorithm| ChainedPayload::Compressed {
        algorithm,
        original_size: 1,
        data: &[1],
    };
    for algorithm in [1, 2, 3] {
        message.clear();
        encode_chain(1, &[other(algorithm)], &mut message);
        assert_eq!(
            chained().decompress(&message, LARGEST, Vec::new()),
            Err(DecompressionError::NotNegotiated(algorithm))
        );
        message.clear();
        Unchained {
            original_size: 1,
            algorithm,
            leading: &[],
            compressed: &[1],
        }
        .encode(&mut message);
        assert_eq!(
            chained().decompress(&message, LARGEST, Vec::new()),
            Err(DecompressionError::NotNegotiated(algorithm))
        );
    }
    let lz4_alone = Compression::choose([LZ4].into_iter(), true).unwrap();
    message.clear();
    let pattern = ChainedPayload::Pattern {
        byte: 1,
        repetitions: 1,
    };
    encode_chain(1, &[pattern], &mut message);
    assert_eq!(
        lz4_alone.decompress(&message, LARGEST, Vec::new()),
        Err(DecompressionError::NotNegotiated(PATTERN_V1))
    );
}

proptest! {
    #[test]
    fn any_data_comes_back(
        leading in proptest::collection::vec(any::<u8>(), 0..200),
        runs in proptest::collection::vec((any::<u8>(), 1usize..3000), 1..12),
    ) {
        let data: Vec<u8> = runs
            .iter()
            .flat_map(|(byte, length)| std::iter::repeat_n(*byte, *length))
            .collect();
        for compression in [unchained(), chained()] {
            round_trip(&compression, &leading, &data);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow_beyond_the_limit(
        mut message in proptest::collection::vec(any::<u8>(), 0..300),
        flags in 0u8..2,
    ) {
        let head = [0xFC, b'S', b'M', b'B'];
        for (byte, wanted) in message.iter_mut().zip(head) {
            *byte = wanted;
        }
        for at in [6usize, 7] {
            if let Some(byte) = message.get_mut(at) {
                *byte = 0;
            }
        }
        for (at, wanted) in [(8usize, 5u8), (9, 0), (10, flags), (11, 0)] {
            if let Some(byte) = message.get_mut(at) {
                *byte = wanted;
            }
        }
        if let Ok(whole) = chained().decompress(&message, 65_536, Vec::new()) {
            prop_assert!(whole.len() <= 65_536 + OVERHEAD);
        }
    }
}
