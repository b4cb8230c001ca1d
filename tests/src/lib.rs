//! Everything that tests the servers from outside: the lab they run in, and the client that talks to them.
//! Used by the integration tests beside this crate; nothing here is part of a daemon.

pub mod client;
pub mod gateway;
pub mod handoff;
pub mod hazards;
pub mod hostile_child;
pub mod lab;
pub mod realm;
pub mod refusals;
pub mod server;
pub mod wire;
