//! Fuzz targets: each takes any bytes, hands them to what a peer's bytes reach, and panics where
//! that breaks a promise. `fuzz/tests/replay.rs` runs their seeds and `fuzz/corpus`, `./x fuzz`
//! searches. A target does no I/O and depends on nothing but its input.

mod targets {
    pub mod compression;
    pub mod descriptors;
    pub mod negotiate;
    pub mod relay;
    pub mod session;
    pub mod smbdirect;
    pub mod transform;
}

use targets::*;

/// One target.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Honest inputs, from which a search begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "spnego",
        run: session::spnego,
        seeds: session::spnego_seeds,
    },
    Target {
        name: "ntlm",
        run: session::ntlm,
        seeds: session::ntlm_seeds,
    },
    Target {
        name: "session_setup",
        run: session::session_setup,
        seeds: session::session_setup_seeds,
    },
    Target {
        name: "negotiate_contexts",
        run: negotiate::run,
        seeds: negotiate::seeds,
    },
    Target {
        name: "transform",
        run: transform::run,
        seeds: transform::seeds,
    },
    Target {
        name: "compression",
        run: compression::run,
        seeds: compression::seeds,
    },
    Target {
        name: "smbdirect_negotiate",
        run: smbdirect::negotiate,
        seeds: smbdirect::negotiate_seeds,
    },
    Target {
        name: "smbdirect_data",
        run: smbdirect::data,
        seeds: smbdirect::data_seeds,
    },
    Target {
        name: "relay_records",
        run: relay::run,
        seeds: relay::seeds,
    },
    Target {
        name: "descriptors",
        run: descriptors::run,
        seeds: descriptors::seeds,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Splits an input into a sequence: each piece behind its length in two bytes; a last one may be cut.
pub(crate) fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*prefix)).min(rest.len());
        let (piece, rest) = rest.split_at_checked(length)?;
        data = rest;
        Some(piece)
    })
}

/// The input that [`pieces`] splits into these.
pub(crate) fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for piece in pieces {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        data.extend(length.to_le_bytes());
        data.extend_from_slice(piece.get(..usize::from(length)).unwrap_or_default());
    }
    data
}
