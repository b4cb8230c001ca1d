//! The cases, a file for each group.

pub mod credits;
pub mod data_transfer;
pub mod flow;
pub mod negotiate;
pub mod payload;
pub mod rdma_channel;
pub mod transform;
