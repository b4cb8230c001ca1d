//! The named pipes of IPC$: srvsvc, wkssvc and lsarpc, answered in the child itself.
//!
//! The handlers open a [`NamedPipe`] and move bytes through it; beneath, an association binds,
//! puts fragments together and calls. Nothing here does I/O: answers come from a [`Served`] made
//! when the pipe is opened. A peer that breaks the protocol loses its pipe, not its connection.

mod association;
mod named_pipe;
mod pipe;
mod served;
mod srvsvc;
#[cfg(test)]
mod tests;
mod wkssvc;

pub use named_pipe::NamedPipe;
pub use pipe::{Pipe, PipeRead};
pub use served::{Served, ServedShare};

use proto::rpc::{FaultStatus, SyntaxId};

/// A service that has a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Srvsvc,
    Wkssvc,
    Lsarpc,
}

impl Service {
    /// By the pipe's name in CREATE, with or without the backslash some clients send.
    fn named(name: &str) -> Option<Service> {
        let name = name.strip_prefix('\\').unwrap_or(name);
        [Service::Srvsvc, Service::Wkssvc, Service::Lsarpc]
            .into_iter()
            .find(|service| service.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Service::Srvsvc => "srvsvc",
            Service::Wkssvc => "wkssvc",
            Service::Lsarpc => "lsarpc",
        }
    }

    /// The one interface bound on its pipe.
    fn interface(self) -> SyntaxId {
        match self {
            Service::Srvsvc => proto::rpc::srvsvc::INTERFACE,
            Service::Wkssvc => proto::rpc::wkssvc::INTERFACE,
            Service::Lsarpc => proto::rpc::lsarpc::INTERFACE,
        }
    }

    /// Carries out a call: the stub of its response.
    fn call(self, opnum: u16, stub: &[u8], served: &Served) -> Result<Vec<u8>, FaultStatus> {
        match self {
            Service::Srvsvc => srvsvc::call(opnum, stub, served),
            Service::Wkssvc => wkssvc::call(opnum, stub, served),
            // There are no accounts to look up here: clients show SIDs as they are.
            Service::Lsarpc => Err(FaultStatus::OP_RANGE_ERROR),
        }
    }
}
