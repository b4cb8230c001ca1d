//! NTLM version 2 (MS-NLMP), both ends: the `Acceptor` a server drives and the `Initiator` a client
//! drives.
//!
//! Called by `spnego`, which frames these messages. Sees passwords only as NT hashes. NTLMv1 and LM
//! responses are refused, never computed. Nothing here reads a clock or draws a random number.

mod acceptor;
mod av_pairs;
mod initiator;
mod message;
mod response;
mod signature;
mod target;
#[cfg(test)]
mod tests;

pub use acceptor::{Accepted, Acceptor, Account, Refusal, ServerNames};
pub use av_pairs::{AvFlags, AvPairs};
pub use initiator::{Credentials, Initiated, Initiator, InitiatorRandom};
pub use message::{
    Authenticate, Challenge, Malformed, MessageType, Negotiate, NegotiateFlags, SIGNATURE,
};
pub use response::{NtHash, SessionKey};
pub use signature::MessageSignatures;
pub use target::{NameHardening, TargetCheck};
