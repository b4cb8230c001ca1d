//! From descriptors to work requests: a client's list, consumed in order as one buffer (MS-SMBD
//! 3.1.4.3, 3.1.4.4), trimmed to the bytes that move and cut at the device's longest message.

use proto::relay::{Descriptor, RegionRange};

/// What one work request moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Local bytes: offset in the region.
    pub offset: u64,
    /// How many.
    pub length: u32,
    /// The client's address.
    pub address: u64,
    /// The client's token.
    pub token: u32,
}

/// The descriptors describe less than is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("descriptors for {described} bytes were given to move {wanted}")]
pub struct TooFewBytes {
    described: u64,
    wanted: u32,
}

/// Calls `each` for every segment, first to last, none longer than `longest`. Nothing is called
/// if the descriptors do not suffice.
pub fn trim(
    range: RegionRange,
    descriptors: &[Descriptor],
    longest: u32,
    mut each: impl FnMut(Segment),
) -> Result<u32, TooFewBytes> {
    let described = descriptors
        .iter()
        .map(|descriptor| u64::from(descriptor.length.get()))
        .sum();
    if described < u64::from(range.length) {
        return Err(TooFewBytes {
            described,
            wanted: range.length,
        });
    }
    let longest = longest.max(1);
    let mut done = 0u32;
    let mut segments = 0;
    for descriptor in descriptors {
        let mut at = 0u32;
        let usable = descriptor.length.get().min(range.length - done);
        while at < usable {
            let length = (usable - at).min(longest);
            each(Segment {
                offset: range.offset + u64::from(done),
                length,
                // A client's address may be anything; the device checks it against the token.
                address: descriptor.offset.get().wrapping_add(u64::from(at)),
                token: descriptor.token.get(),
            });
            at += length;
            done += length;
            segments += 1;
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(offset: u64, token: u32, length: u32) -> Descriptor {
        Descriptor {
            offset: offset.into(),
            token: token.into(),
            length: length.into(),
        }
    }

    fn trimmed(length: u32, descriptors: &[Descriptor], longest: u32) -> Vec<(u64, u32, u64, u32)> {
        let mut segments = Vec::new();
        let range = RegionRange {
            offset: 4096,
            length,
        };
        trim(range, descriptors, longest, |segment| {
            segments.push((
                segment.offset,
                segment.length,
                segment.address,
                segment.token,
            ));
        })
        .unwrap();
        segments
    }

    #[test]
    fn a_list_longer_than_the_bytes_is_trimmed_at_its_end() {
        let list = [
            descriptor(0x1000, 1, 100),
            descriptor(0x9000, 2, 100),
            descriptor(0xf000, 3, 100),
        ];
        assert_eq!(
            trimmed(150, &list, 1 << 20),
            [(4096, 100, 0x1000, 1), (4196, 50, 0x9000, 2)]
        );
        assert_eq!(trimmed(100, &list, 1 << 20), [(4096, 100, 0x1000, 1)]);
    }

    #[test]
    fn empty_descriptors_move_nothing() {
        let list = [
            descriptor(1, 1, 0),
            descriptor(8, 2, 5),
            descriptor(1, 3, 0),
        ];
        assert_eq!(trimmed(5, &list, 64), [(4096, 5, 8, 2)]);
    }

    #[test]
    fn a_descriptor_longer_than_a_message_of_the_device_is_cut() {
        let list = [descriptor(0x1000, 7, 250)];
        assert_eq!(
            trimmed(250, &list, 100),
            [
                (4096, 100, 0x1000, 7),
                (4196, 100, 0x1064, 7),
                (4296, 50, 0x10c8, 7)
            ]
        );
    }

    #[test]
    fn too_few_bytes_move_nothing_at_all() {
        let list = [descriptor(0, 1, 10), descriptor(0, 1, 10)];
        let range = RegionRange {
            offset: 0,
            length: 21,
        };
        let refused = trim(range, &list, 64, |_| panic!("nothing may move"));
        assert_eq!(
            refused,
            Err(TooFewBytes {
                described: 20,
                wanted: 21
            })
        );
    }

    #[test]
    fn lengths_at_the_edge_do_not_wrap() {
        let list = [
            descriptor(u64::MAX, 1, u32::MAX),
            descriptor(0, 2, u32::MAX),
        ];
        let segments = trimmed(u32::MAX, &list, 1 << 31);
        assert_eq!(segments.len(), 2);
        assert_eq!(
            segments
                .iter()
                .map(|segment| u64::from(segment.1))
                .sum::<u64>(),
            u64::from(u32::MAX)
        );
    }
}
