//! Which process serves which connection: the corner cases of the handoff, over TCP and over SMB
//! Direct on the simulated fabric. The broker's own decisions are tested beside it, in smbd.

#[path = "handoff/deaths.rs"]
mod deaths;
#[path = "handoff/limits.rs"]
mod limits;
