//! The SMB 2 and 3 file server: supervisor, zygote, broker and one child process per client.

pub mod broker;
pub mod channel;
pub mod child;
pub mod compression;
pub mod config;
pub mod dispatch;
pub mod handlers;
pub mod logging;
pub mod messaging;
pub mod negotiation;
pub mod passwd;
pub mod refusals;
pub mod rpc;
pub mod security;
pub mod serve;
pub mod state;
pub mod status;
mod stop_point;
pub mod supervisor;
pub mod sys;
pub mod vfs;
pub mod zygote;
