//! How many RDMA READs two ends of a connection may have outstanding. The connection manager tells
//! each end the other's numbers, except between iWARP peers without enhanced connection set-up
//! (RFC 6581): these say them in the first eight bytes of private data, IRD and ORD, big-endian, and are
//! answered so. Used by whoever accepts connections; nothing here knows a device.

/// READs an end serves (IRD, responder resources) and wants to have outstanding (ORD, initiator depth).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDepths {
    pub served: u8,
    pub outstanding: u8,
}

/// What a connection request says of READs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedReads {
    pub peer: ReadDepths,
    /// It was said in private data, and the answer must be too.
    pub by_private_data: bool,
}

/// The peer can have no READ outstanding, or serves none: its private data says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its private data says IRD {served} and ORD {outstanding}; both must be at least 1")]
pub struct NoReads {
    pub served: u32,
    pub outstanding: u32,
}

impl ReadDepths {
    /// IRD and ORD as private data.
    pub const SIZE: usize = 8;

    /// What both ends can do, seen from this one. A peer that gives 0 leaves it to us.
    pub fn agree(self, peer: ReadDepths) -> ReadDepths {
        let least = |own: u8, peer: u8| match peer {
            0 => own.max(1),
            peer => own.max(1).min(peer),
        };
        ReadDepths {
            served: least(self.served, peer.outstanding),
            outstanding: least(self.outstanding, peer.served),
        }
    }

    /// As private data.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let (served, outstanding) = (u32::from(self.served), u32::from(self.outstanding));
        let value = u64::from(served) << 32 | u64::from(outstanding);
        value.to_be_bytes()
    }
}

impl RequestedReads {
    /// From a request on an iWARP device. Whoever tells the connection manager the same has no need of
    /// its private data, and ignores an answer's: Linux sends both.
    pub fn of_iwarp(told: ReadDepths, private_data: &[u8]) -> Result<RequestedReads, NoReads> {
        let by_manager = RequestedReads {
            peer: told,
            by_private_data: false,
        };
        let Ok(bytes) = <[u8; ReadDepths::SIZE]>::try_from(private_data) else {
            return Ok(by_manager);
        };
        let value = u64::from_be_bytes(bytes);
        let (served, outstanding) = ((value >> 32) as u32, value as u32);
        if (served, outstanding) == (told.served.into(), told.outstanding.into()) {
            return Ok(by_manager);
        }
        if served == 0 || outstanding == 0 {
            return Err(NoReads {
                served,
                outstanding,
            });
        }
        // Linux once sent these little-endian: what is beyond a byte is a lot in either order.
        let at_most_a_byte = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        Ok(RequestedReads {
            peer: ReadDepths {
                served: at_most_a_byte(served),
                outstanding: at_most_a_byte(outstanding),
            },
            by_private_data: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ReadDepths = ReadDepths {
        served: 1,
        outstanding: 32,
    };

    fn depths(served: u8, outstanding: u8) -> ReadDepths {
        ReadDepths {
            served,
            outstanding,
        }
    }

    #[test]
    fn each_side_serves_what_the_other_wants_at_most() {
        assert_eq!(OWN.agree(depths(16, 8)), depths(1, 16));
        assert_eq!(OWN.agree(depths(64, 1)), depths(1, 32));
        assert_eq!(OWN.agree(depths(0, 0)), OWN, "the peer does not say");
        assert_eq!(depths(0, 0).agree(depths(4, 4)), depths(1, 1));
    }

    #[test]
    fn private_data_is_two_big_endian_numbers() {
        assert_eq!(depths(1, 16).encode(), [0, 0, 0, 1, 0, 0, 0, 16]);
        let said = RequestedReads::of_iwarp(depths(0, 0), &[0, 0, 0, 4, 0, 0, 0, 2]).unwrap();
        assert_eq!(said.peer, depths(4, 2));
        assert!(said.by_private_data);
    }

    #[test]
    fn a_peer_that_tells_the_connection_manager_the_same_is_answered_there() {
        let told = depths(4, 2);
        let said = RequestedReads::of_iwarp(told, &told.encode()).unwrap();
        assert!(!said.by_private_data);
        assert_eq!(said.peer, told);
    }

    #[test]
    fn private_data_of_another_length_is_something_else() {
        for length in [0, 7, 9, 56] {
            let said = RequestedReads::of_iwarp(depths(4, 2), &vec![0; length]).unwrap();
            assert_eq!((said.peer, said.by_private_data), (depths(4, 2), false));
        }
    }

    #[test]
    fn none_at_all_is_refused() {
        for data in [[0; 8], [0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]] {
            let refused = RequestedReads::of_iwarp(depths(4, 2), &data);
            assert!(refused.is_err(), "{data:?}");
        }
    }

    #[test]
    fn more_than_a_byte_counts_as_a_byte() {
        let said = RequestedReads::of_iwarp(depths(0, 0), &[32, 0, 0, 0, 1, 0, 0, 0]).unwrap();
        assert_eq!(said.peer, depths(255, 255));
    }
}
