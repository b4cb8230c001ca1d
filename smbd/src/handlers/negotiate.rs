//! NEGOTIATE (MS-SMB2 3.3.5.3, 3.3.5.4): who serves the client, and what is answered.
//!
//! What is settled `crate::negotiation` says. Before it is sent the broker is asked whether another
//! process serves this client already; if so, that one answers.

use std::rc::Rc;

use proto::smb2::multi_protocol::MultiProtocolNegotiate;
use proto::smb2::negotiate::{NegotiateAnswer, NegotiateRequest};
use proto::smb2::negotiate_context::RawContext;
use proto::smb2::{Command, Dialect, FileTime, Header, MessageId, NtStatus};

use super::{Context, PreauthTarget, Response, malformed};
use crate::channel::{Outgoing, Reading};
use crate::child::{self, Child};
use crate::config::NtlmAuth;
use crate::negotiation::{self, Agreement, MultiProtocolAnswer, Policy};
use crate::security::keys::PreauthHash;
use crate::security::spnego::negotiate_hint;
use crate::state::{Connection, Negotiated};
use crate::sys::random;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    if cx.connection.negotiating.replace(true) {
        cx.connection.end("a second NEGOTIATE (MS-SMB2 3.3.5.4)");
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let answer = answer(request, cx).await;
    if let Err(status) = &answer
        && cx.connection.ended().is_none()
    {
        // A client that was refused may try once more.
        tracing::info!(peer = %cx.connection.channel.peer(), %status, "NEGOTIATE is refused");
        cx.connection.negotiating.set(false);
        cx.connection.channel.read_on(Reading::OneMessage);
    }
    answer
}

async fn answer(element: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = NegotiateRequest::decode(element).map_err(malformed)?;
    let policy = policy(&cx.child, &cx.connection);
    let Agreement {
        negotiated,
        contexts,
    } = negotiation::agree(&request, &policy)?;
    cx.child
        .claim(&cx.connection, negotiated.client_guid, negotiated.dialect)
        .await?;
    let contexts = contexts.answer(&random::bytes()?);
    let raw: Vec<RawContext<'_>> = contexts
        .iter()
        .map(|(context_type, data)| RawContext {
            context_type: *context_type,
            data,
        })
        .collect();
    let mut response = Response::default();
    encode(&cx.child, &negotiated, &raw, &mut response.body);
    if negotiated.dialect == Dialect::Smb311 {
        // MS-SMB2 3.3.5.4: the hash takes request and response in.
        let mut hash = PreauthHash::default();
        hash.update(&[element]);
        cx.connection.preauth.replace(hash);
        response.header.preauth = Some(PreauthTarget::Connection(Rc::clone(&cx.connection)));
    }
    if cx.connection.negotiated.set(negotiated).is_err() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    cx.connection.negotiate.replace(element.to_vec());
    Ok(response)
}

/// Takes up a connection whose NEGOTIATE another process has answered.
pub fn resume(
    child: &Child,
    connection: &Connection,
    element: &[u8],
    preauth: PreauthHash,
) -> Result<(), NtStatus> {
    let request = NegotiateRequest::decode(element).map_err(malformed)?;
    let agreement = negotiation::agree(&request, &policy(child, connection))?;
    connection.negotiating.set(true);
    connection.preauth.replace(preauth);
    let _ = connection.negotiated.set(agreement.negotiated);
    Ok(())
}

/// An SMB1 NEGOTIATE (MS-SMB2 3.3.5.3): answered in SMB2, or not at all.
pub fn multi_protocol(child: &Rc<Child>, connection: &Rc<Connection>, message: Vec<u8>) {
    let taken = connection.window.borrow_mut().take(MessageId(0), 1);
    if connection.negotiated.get().is_some() || connection.negotiating.get() || taken.is_err() {
        return connection.end("an SMB1 message after the first one (MS-SMB2 3.3.5.2)");
    }
    let offered = match MultiProtocolNegotiate::decode(&message) {
        Ok(offered) => offered,
        Err(error) => return connection.end(format!("no SMB1 NEGOTIATE: {error}")),
    };
    let (negotiated, settled) =
        match negotiation::multi_protocol(offered, &policy(child, connection)) {
            Some(MultiProtocolAnswer::GoOn(negotiated)) => (negotiated, false),
            Some(MultiProtocolAnswer::Settled(negotiated)) => (negotiated, true),
            None => {
                return connection.end(
                    "an SMB1 NEGOTIATE without a dialect spoken here; let the client use SMB2, or \
                     see server min protocol (MS-SMB2 3.3.5.3.2)",
                );
            }
        };
    let mut header = Header::request(Command::Negotiate, MessageId(0))
        .response(NtStatus::SUCCESS, connection.window.borrow_mut().grant(1));
    header.credit_charge = 0;
    let mut reply = Vec::new();
    header.encode(&mut reply);
    encode(child, &negotiated, &[], &mut reply);
    connection.channel.send(Outgoing {
        pieces: vec![reply.into()],
        ..Outgoing::default()
    });
    if settled {
        connection.negotiating.set(true);
        let _ = connection.negotiated.set(negotiated);
        // 2.0.2 has no ClientGuid: there is no other process to ask.
        child.serve(connection, Default::default());
    } else {
        // The NEGOTIATE that follows says whose client this is.
        connection.channel.read_on(Reading::OneMessage);
    }
}

fn policy<'a>(child: &'a Child, connection: &Connection) -> Policy<'a> {
    Policy {
        config: &child.config,
        transport: connection.channel.transport(),
        limits: connection.channel.limits(),
    }
}

fn encode(child: &Child, negotiated: &Negotiated, contexts: &[RawContext<'_>], out: &mut Vec<u8>) {
    let global = &child.config.global;
    let hint = negotiate_hint(
        global.has_kerberos(),
        global.ntlm_auth != NtlmAuth::Disabled,
    );
    NegotiateAnswer {
        security_mode: negotiated.security_mode,
        dialect: negotiated.dialect,
        server_guid: child.identity.guid,
        capabilities: negotiated.capabilities,
        max_transact_size: negotiated.max_transact,
        max_read_size: negotiated.max_read,
        max_write_size: negotiated.max_write,
        system_time: child::now(),
        // MS-SMB2 2.2.4: not used any more.
        server_start_time: FileTime(0),
        security_buffer: &hint,
        contexts,
    }
    .encode(out);
}
