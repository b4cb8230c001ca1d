//! `interfaces`: which of the machine's interfaces serve, and what clients are told about them.
//!
//! Read by the listeners (`bind interfaces only`) and by the interface list for multichannel
//! (FSCTL_QUERY_NETWORK_INTERFACE_INFO). Matching against the machine's interfaces needs no system
//! call here.

use std::fmt;
use std::net::IpAddr;

use super::hosts::{in_network, parse_network};
use super::values::{Show, list, no_macro};

/// One item of the list: a pattern and what it says about the interfaces it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    pub pattern: InterfacePattern,
    /// Bits per second.
    pub speed: Option<u64>,
    /// `capability=RSS`: tell clients so, whatever the device says.
    pub rss: bool,
    /// `capability=RDMA`.
    pub rdma: bool,
    pub if_index: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfacePattern {
    /// An interface's name; `*` and `?` match any letters.
    Name(String),
    Address(IpAddr),
    /// Any address within.
    Network {
        address: IpAddr,
        prefix: u8,
    },
}

impl InterfacePattern {
    /// Whether an interface's address is meant.
    pub fn matches(&self, name: &str, address: IpAddr) -> bool {
        match self {
            InterfacePattern::Name(pattern) => {
                wildcard_matches(pattern.as_bytes(), name.as_bytes())
            }
            InterfacePattern::Address(wanted) => *wanted == address,
            InterfacePattern::Network {
                address: network,
                prefix,
            } => in_network(address, *network, *prefix),
        }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfacePattern::Name(name) => formatter.write_str(name),
            InterfacePattern::Address(address) => write!(formatter, "{address}"),
            InterfacePattern::Network { address, prefix } => {
                write!(formatter, "{address}/{prefix}")
            }
        }
    }
}

impl Show for InterfaceSpec {
    fn show(&self) -> String {
        let mut options = Vec::new();
        options.extend(self.speed.map(|speed| format!("speed={speed}")));
        options.extend(self.rss.then(|| "capability=RSS".to_owned()));
        options.extend(self.rdma.then(|| "capability=RDMA".to_owned()));
        options.extend(self.if_index.map(|index| format!("if_index={index}")));
        if options.is_empty() {
            return self.pattern.to_string();
        }
        format!("\"{};{}\"", self.pattern, options.join(","))
    }
}

pub(super) fn interfaces(text: &str) -> Result<Vec<InterfaceSpec>, String> {
    list(text)?.iter().map(|item| interface(item)).collect()
}

fn interface(item: &str) -> Result<InterfaceSpec, String> {
    no_macro(item)?;
    let (pattern, options) = item.split_once(';').unwrap_or((item, ""));
    let mut spec = InterfaceSpec {
        pattern: interface_pattern(pattern.trim())?,
        speed: None,
        rss: false,
        rdma: false,
        if_index: None,
    };
    for option in options
        .split(',')
        .map(str::trim)
        .filter(|option| !option.is_empty())
    {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim();
        match (
            name.trim().to_ascii_lowercase().as_str(),
            value.to_ascii_uppercase().as_str(),
        ) {
            ("speed", _) => spec.speed = Some(positive(value, "speed (bits per second)")?),
            ("if_index", _) => spec.if_index = Some(positive(value, "if_index")?),
            ("capability", "RSS") => spec.rss = true,
            ("capability", "RDMA") => spec.rdma = true,
            _ => {
                return Err(format!(
                    "{option:?}: allowed behind {pattern:?} are speed=BITS, capability=RSS, capability=RDMA and if_index=NUMBER"
                ));
            }
        }
    }
    Ok(spec)
}

fn interface_pattern(text: &str) -> Result<InterfacePattern, String> {
    if let Ok(address) = text.parse() {
        return Ok(InterfacePattern::Address(address));
    }
    if text.contains('/') {
        let (address, prefix) = parse_network(text)?;
        return Ok(InterfacePattern::Network { address, prefix });
    }
    if text.contains('=') {
        return Err(format!(
            "{text:?} stands outside quotes; write \"eth0;speed=1000000000,capability=RSS\" with them"
        ));
    }
    // 15 letters: IFNAMSIZ without its zero.
    let allowed = |letter: char| letter.is_ascii_graphic() && !"/:\"'\\".contains(letter);
    if text.is_empty() || text.len() > 15 || !text.chars().all(allowed) {
        return Err(format!(
            "{text:?}: allowed are an interface's name (eth0, eth*), an address, or a network (10.0.0.0/24, 10.0.0.1/255.255.255.0)"
        ));
    }
    Ok(InterfacePattern::Name(text.to_owned()))
}

fn positive<T: std::str::FromStr + PartialOrd + From<u8>>(
    text: &str,
    what: &str,
) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number >= T::from(1) => Ok(number),
        _ => Err(format!(
            "{text:?} is no {what}: allowed is a positive number"
        )),
    }
}

/// `*` stands for any letters, `?` for one. Linear: only the last star is ever gone back to.
fn wildcard_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut last_star = None;
    while let Some(letter) = name.get(at_name) {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == letter => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                at_pattern = star + 1;
                at_name = taken + 1;
            }
        }
    }
    pattern
        .get(at_pattern..)
        .unwrap_or_default()
        .iter()
        .all(|letter| *letter == b'*')
}
