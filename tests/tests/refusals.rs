//! What a server refuses, over TCP on loopback: each forbidden thing is tried, and gets the right
//! status or loses its connection; one line of the log says why; nobody else notices, and nothing is
//! left of it. What needs RDMA is in `refusals_rdma.rs`.

#[path = "refusals/frames.rs"]
mod frames;
#[path = "refusals/guesses.rs"]
mod guesses;
#[path = "refusals/limits.rs"]
mod limits;
#[path = "refusals/logons.rs"]
mod logons;
#[path = "refusals/paths.rs"]
mod paths;
#[path = "refusals/scene.rs"]
mod scene;
#[path = "refusals/shares.rs"]
mod shares;
