//! The SMB 2 and 3 file server: supervisor, zygote, broker and one child process per client.

pub mod passwd;
pub mod security;
