//! Who a client is and how its messages are protected: NTLM and SPNEGO, the SMB keys and
//! signatures, the user file and the Unix identity behind a name.
//!
//! Called by `dispatch` (session set-up, signing) and by the `passwd` command. Everything but
//! `users` is pure: no socket, no clock, no random source; time and random bytes come in as
//! arguments.

pub mod encryption;
pub mod kerberos;
pub mod keys;
pub mod ntlm;
pub mod payload;
pub mod signing;
pub mod spnego;
pub mod users;
