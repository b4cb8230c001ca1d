//! SMB Direct over the simulated fabric: `smbdirect/` on sockets. The calling thread
//! enters a fabric first ([`fabric::rdma::Fabric::enter`]).

use fabric::rdma;

#[expect(
    clippy::duplicate_mod,
    reason = "one client, compiled against each fabric"
)]
#[path = "smbdirect/mod.rs"]
mod smbdirect;

pub use smbdirect::{Behaviour, SmbDirect};

/// A simulated device lets a peer invalidate any registration it may reach, as a kernel's.
fn is_invalidated(region: &rdma::MemoryRegion) -> bool {
    region.is_invalidated()
}
