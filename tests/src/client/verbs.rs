//! SMB Direct over the RDMA devices of this machine: `smbdirect/` on verbs.

use smbdirectd::rdma;

#[expect(
    clippy::duplicate_mod,
    reason = "one client, compiled against each fabric"
)]
#[path = "smbdirect/mod.rs"]
mod smbdirect;

pub use smbdirect::{Behaviour, SmbDirect};

/// An ordinary registration cannot be invalidated by a peer: verbs want a memory window for that,
/// and a SEND_WITH_INV of the registration's own token ends the connection.
fn is_invalidated(_region: &rdma::MemoryRegion) -> bool {
    false
}
