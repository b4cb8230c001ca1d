//! Compressed messages: what comes out is bounded, and what goes in comes back.

use proto::smb2::compression::CompressedMessage;
use proto::smb2::negotiate_context::compression::{LZ4, PATTERN_V1};
use smbd::compression::Compression;

const LARGEST: usize = 65_536;

fn both() -> impl Iterator<Item = Compression> {
    [false, true]
        .into_iter()
        .filter_map(|chained| Compression::choose([PATTERN_V1, LZ4].into_iter(), chained))
}

pub fn run(data: &[u8]) {
    for compression in both() {
        if let Ok(whole) = compression.decompress(data, LARGEST, Vec::new()) {
            assert!(whole.len() <= LARGEST + 256 + CompressedMessage::HEADER_SIZE);
        }
        // The same bytes as data, often enough over to be worth compressing.
        let plain = data.repeat(4096 / data.len().max(1) + 1);
        if plain.len() <= LARGEST
            && let Some(packed) = compression.compress(data, &plain, Vec::new())
        {
            let whole = compression.decompress(&packed, 2 * LARGEST, Vec::new());
            assert_eq!(whole.as_deref(), Ok(&[data, &plain].concat()[..]));
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let text = b"what is said again and again ".repeat(300);
    let runs = [vec![0; 5000], b"between".to_vec(), vec![9; 5000]].concat();
    both()
        .flat_map(|compression| {
            [&text, &runs].map(|data| compression.compress(b"leading", data, Vec::new()))
        })
        .flatten()
        .collect()
}
