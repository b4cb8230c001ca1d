//! Which process serves which connection: the corner cases of the handoff, over TCP and over SMB
//! Direct on the simulated fabric. docs/handoff.md lists them; the broker's own decisions are tested
//! beside it, in smbd.

#[path = "handoff/clients.rs"]
mod clients;
#[path = "handoff/connections.rs"]
mod connections;
#[path = "handoff/deaths.rs"]
mod deaths;
#[path = "handoff/gateway_deaths.rs"]
mod gateway_deaths;
#[path = "handoff/interfaces.rs"]
mod interfaces;
#[path = "handoff/limits.rs"]
mod limits;
