//! SPNEGO (RFC 4178, MS-SPNG) with Kerberos and NTLM, and NTLM without SPNEGO around it.
//!
//! A server drives one `Authenticator` through each SESSION_SETUP exchange and puts
//! `negotiate_hint` into its NEGOTIATE response; the project's client drives an `Initiator`. Tokens
//! come in as bytes and go out as bytes.

mod authenticator;
mod initiator;
#[cfg(test)]
mod tests;
mod token;

pub use authenticator::{
    Authenticated, Authenticator, Claim, KERBEROS_NAME, Logon, LogonKind, Mechanism, Step,
};
pub use initiator::{Initiator, InitiatorStep};
pub use token::{
    KERBEROS, MS_KERBEROS, NTLMSSP, NegState, NegTokenInit, NegTokenResp, negotiate_hint,
};
