//! What requests look like whose payload smbdirectd may fetch before the child has seen them. The
//! child says it, having accepted such a request; smbdirectd compares bytes and knows nothing of
//! what they mean. A message is whatever a client sends, so nothing here trusts a length in it.

use zerocopy::FromBytes;

use super::Descriptor;

/// Words an outline holds at most.
pub const MAX_WORDS: usize = 16;

/// Four bytes of a message that must be as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Where, from the message's start.
    pub at: u16,
    /// Which of their bits.
    pub mask: u32,
    /// What those bits are (little-endian).
    pub value: u32,
}

/// Requests that are alike: what they share, where each says how much payload it has, and where its
/// descriptors lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// At most [`MAX_WORDS`].
    pub words: Vec<Word>,
    /// Four bytes: how long the payload is.
    pub length_at: u16,
    /// The first descriptor.
    pub descriptors_at: u16,
    /// How many there are, one behind the other.
    pub descriptors: u16,
}

impl Outline {
    /// How much payload a message of this outline has, and where the client keeps it. Never less than
    /// a byte, never more than the descriptors hold.
    pub fn payload_of<'a>(&self, message: &'a [u8]) -> Option<(u32, &'a [Descriptor])> {
        let alike = |word: &Word| {
            word_at(message, word.at).is_some_and(|found| found & word.mask == word.value)
        };
        if !self.words.iter().all(alike) {
            return None;
        }
        let length = word_at(message, self.length_at)?;
        let bytes = message.get(usize::from(self.descriptors_at)..)?;
        let count = usize::from(self.descriptors);
        let (descriptors, _) = <[Descriptor]>::ref_from_prefix_with_elems(bytes, count).ok()?;
        let described: u64 = descriptors
            .iter()
            .map(|descriptor| u64::from(descriptor.length.get()))
            .sum();
        (length > 0 && u64::from(length) <= described).then_some((length, descriptors))
    }
}

/// Four bytes of a message, little-endian.
pub fn word_at(message: &[u8], at: u16) -> Option<u32> {
    let bytes = message.get(usize::from(at)..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn outline() -> Outline {
        Outline {
            words: vec![
                Word {
                    at: 0,
                    mask: u32::MAX,
                    value: 0x0403_0201,
                },
                Word {
                    at: 4,
                    mask: 0xFF00,
                    value: 0x0600,
                },
            ],
            length_at: 8,
            descriptors_at: 12,
            descriptors: 2,
        }
    }

    fn message(length: u32, described: [u32; 2]) -> Vec<u8> {
        let mut message = vec![1, 2, 3, 4, 0xEE, 6, 0xEE, 0xEE];
        message.extend(length.to_le_bytes());
        for length in described {
            let descriptor = Descriptor {
                offset: 0x1000.into(),
                token: 7.into(),
                length: length.into(),
            };
            message.extend(descriptor.as_bytes());
        }
        message
    }

    #[test]
    fn a_message_of_the_outline_says_its_payload() {
        let message = message(5000, [4096, 904]);
        let (length, descriptors) = outline().payload_of(&message).unwrap();
        assert_eq!((length, descriptors.len()), (5000, 2));
        assert_eq!(descriptors[1].length.get(), 904);
        let longer = [&message[..], b"and more"].concat();
        assert!(outline().payload_of(&longer).is_some());
    }

    #[test]
    fn another_message_has_none() {
        let whole = message(5000, [4096, 904]);
        for (at, other) in [(0, 9), (3, 9), (5, 7)] {
            let mut message = whole.clone();
            message[at] = other;
            assert_eq!(outline().payload_of(&message), None, "byte {at}");
        }
        for length in 0..whole.len() {
            assert_eq!(outline().payload_of(&whole[..length]), None, "{length}");
        }
        assert_eq!(outline().payload_of(&message(0, [4096, 904])), None);
        assert_eq!(outline().payload_of(&message(5001, [4096, 904])), None);
        let most = message(u32::MAX, [u32::MAX, u32::MAX]);
        assert!(outline().payload_of(&most).is_some());
    }

    proptest! {
        #[test]
        fn no_message_and_no_outline_upsets_it(
            message in proptest::collection::vec(any::<u8>(), 0..80),
            words in proptest::collection::vec((any::<u16>(), any::<u32>()), 0..3),
            length_at in 0u16..90,
            descriptors_at in any::<u16>(),
            descriptors in 0u16..300,
        ) {
            let words = words
                .into_iter()
                .map(|(at, mask)| Word { at: at % 90, mask, value: 0 })
                .collect();
            let outline = Outline { words, length_at, descriptors_at: descriptors_at % 90, descriptors };
            if let Some((length, found)) = outline.payload_of(&message) {
                prop_assert!(length > 0 && found.len() * 16 <= message.len());
            }
        }
    }
}
