//! Which network a connection comes from, as limits on newcomers count it. Pure.
//!
//! Used by the supervisor for TCP and by smbdirectd for RDMA, beside a lower limit by address. A
//! machine with IPv6 has all of a /64 to choose its addresses from (RFC 4291 2.5.4), so a limit by
//! address alone would be none; but a /64 is also what all machines of a site may share.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the first 64 bits of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of a client at `address`.
    pub fn of(address: IpAddr) -> Network {
        Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [first, second, third, fourth, ..] = address.segments();
                Ipv6Addr::new(first, second, third, fourth, 0, 0, 0, 0).into()
            }
            ipv4 => ipv4,
        })
    }

    /// As bytes of one length, with IPv4 mapped into IPv6.
    pub fn octets(&self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn all_addresses_of_a_64_bit_network_count_together() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_address_counts_alone_in_either_spelling() {
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("::ffff:10.0.0.1"), network("::ffff:10.0.0.2"));
        assert_eq!(network("10.0.0.1").octets()[10..], [255, 255, 10, 0, 0, 1]);
        assert_eq!(network("2001:db8:1:2::1").octets()[7..9], [2, 0]);
    }
}
