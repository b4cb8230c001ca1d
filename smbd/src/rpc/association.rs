//! The server's side of an association (C706 9.3): from PDUs of the client to PDUs for it.
//!
//! `unbound` becomes `bound` by the one bind; then contexts are added by alter_context, and
//! requests run one at a time, since concurrent multiplexing is not offered. What breaks this ends
//! the association, after a fault where there is a call to fail.

use proto::rpc::bind::{
    Bind, BindAck, ContextResult, NakReason, PresentationContext, RejectReason,
};
use proto::rpc::pdu::{Fault, MUST_RECEIVE_FRAGMENT, Pdu, PduType, PfcFlags, Request, Response};
use proto::rpc::{FaultStatus, SyntaxId};

use super::{Served, Service};

/// The longest fragment told and sent, as Windows has it on named pipes.
const MAX_FRAGMENT: u16 = 4280;
/// The longest stub of a request: the calls answered here take a few strings.
const MAX_REQUEST_STUB: usize = 64 << 10;
/// Contexts bound at once.
const MAX_CONTEXTS: usize = 32;
/// What a client that asks for a new association group is given. Nothing here is shared by the
/// connections of a group, so one number does.
const ASSOCIATION_GROUP: u32 = 0x5342_4401;

/// One association.
#[derive(Debug)]
pub(super) struct Association {
    service: Service,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    /// The longest fragment sent.
    max_xmit_frag: u16,
    group: u32,
    contexts: Vec<u16>,
    call: Option<Call>,
}

/// A request not all of which has arrived.
#[derive(Debug)]
struct Call {
    id: u32,
    context_id: u16,
    opnum: u16,
    stub: Vec<u8>,
}

/// What a PDU leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Fragments for the client, in order.
    pub fragments: Vec<Vec<u8>>,
    /// Nothing more is accepted after them.
    pub ends: bool,
}

impl Outcome {
    fn answer(fragment: Vec<u8>) -> Outcome {
        Outcome {
            fragments: vec![fragment],
            ends: false,
        }
    }

    fn fault(call_id: u32, context_id: u16, status: FaultStatus) -> Outcome {
        Outcome::answer(Fault { context_id, status }.encode(call_id))
    }

    /// The client broke the protocol in a call: it is told, and that was all.
    fn protocol_error(call_id: u32) -> Outcome {
        Outcome {
            ends: true,
            ..Outcome::fault(call_id, 0, FaultStatus::PROTOCOL_ERROR)
        }
    }
}

impl Association {
    pub(super) fn new(service: Service) -> Association {
        Association {
            service,
            bound: None,
        }
    }

    pub(super) fn handle(&mut self, pdu: &Pdu<'_>, served: &Served) -> Outcome {
        match pdu.kind {
            PduType::BIND => self.bind(pdu),
            PduType::ALTER_CONTEXT => self.alter_context(pdu),
            PduType::REQUEST => self.request(pdu, served),
            // A call is carried out at once: none is left to cancel.
            PduType::CANCEL if self.bound.is_some() => Outcome::default(),
            PduType::ORPHANED if self.bound.is_some() => self.orphaned(pdu),
            _ => Outcome::protocol_error(pdu.call_id),
        }
    }

    fn bind(&mut self, pdu: &Pdu<'_>) -> Outcome {
        if self.bound.is_some() || !pdu.flags.contains(PfcFlags::WHOLE) {
            return Outcome::protocol_error(pdu.call_id);
        }
        if pdu.authenticated {
            // The SMB session has authenticated the user; a second time is not offered.
            let nak = NakReason::AuthenticationTypeNotRecognized.encode(pdu.call_id);
            return Outcome::answer(nak);
        }
        let Ok(bind) = Bind::decode(pdu) else {
            return Outcome {
                ends: true,
                ..Outcome::answer(NakReason::NotSpecified.encode(pdu.call_id))
            };
        };
        let mut bound = Bound {
            max_xmit_frag: bind
                .max_recv_frag
                .clamp(MUST_RECEIVE_FRAGMENT, MAX_FRAGMENT),
            group: match bind.assoc_group_id {
                0 => ASSOCIATION_GROUP,
                group => group,
            },
            contexts: Vec::new(),
            call: None,
        };
        let address = format!("\\PIPE\\{}", self.service.name());
        let ack = bound.negotiate(&bind, self.service.interface(), address);
        self.bound = Some(bound);
        Outcome::answer(ack.encode(PduType::BIND_ACK, pdu.call_id))
    }

    fn alter_context(&mut self, pdu: &Pdu<'_>) -> Outcome {
        let Some(bound) = &mut self.bound else {
            return Outcome::protocol_error(pdu.call_id);
        };
        if pdu.authenticated || !pdu.flags.contains(PfcFlags::WHOLE) {
            return Outcome::protocol_error(pdu.call_id);
        }
        let Ok(bind) = Bind::decode(pdu) else {
            return Outcome::protocol_error(pdu.call_id);
        };
        let ack = bound.negotiate(&bind, self.service.interface(), String::new());
        Outcome::answer(ack.encode(PduType::ALTER_CONTEXT_RESPONSE, pdu.call_id))
    }

    fn request(&mut self, pdu: &Pdu<'_>, served: &Served) -> Outcome {
        let Some(bound) = &mut self.bound else {
            return Outcome::protocol_error(pdu.call_id);
        };
        let Ok(request) = Request::decode(pdu) else {
            return Outcome::protocol_error(pdu.call_id);
        };
        if pdu.authenticated {
            return Outcome::protocol_error(pdu.call_id);
        }
        let first = pdu.flags.contains(PfcFlags::FIRST_FRAG);
        let mut call = match (bound.call.take(), first) {
            (None, true) => Call {
                id: pdu.call_id,
                context_id: request.context_id,
                opnum: request.opnum,
                stub: Vec::new(),
            },
            (Some(call), false) if call.id == pdu.call_id => call,
            _ => return Outcome::protocol_error(pdu.call_id),
        };
        if call.stub.len() + request.stub.len() > MAX_REQUEST_STUB {
            return Outcome {
                ends: true,
                ..Outcome::fault(call.id, call.context_id, FaultStatus::REMOTE_NO_MEMORY)
            };
        }
        call.stub.extend_from_slice(request.stub);
        if !pdu.flags.contains(PfcFlags::LAST_FRAG) {
            bound.call = Some(call);
            return Outcome::default();
        }
        let answer = if bound.contexts.contains(&call.context_id) {
            self.service.call(call.opnum, &call.stub, served)
        } else {
            Err(FaultStatus::UNKNOWN_INTERFACE)
        };
        if pdu.flags.contains(PfcFlags::MAYBE) {
            return Outcome::default();
        }
        match answer {
            Ok(stub) => {
                let response = Response {
                    context_id: call.context_id,
                    stub: &stub,
                };
                Outcome {
                    fragments: response.encode(call.id, bound.max_xmit_frag),
                    ends: false,
                }
            }
            Err(status) => Outcome::fault(call.id, call.context_id, status),
        }
    }

    /// The client has given up a call it had begun to send (MS-RPCE 3.3.1.5.10).
    fn orphaned(&mut self, pdu: &Pdu<'_>) -> Outcome {
        if let Some(bound) = &mut self.bound {
            bound.call.take_if(|call| call.id == pdu.call_id);
        }
        Outcome::default()
    }
}

impl Bound {
    fn negotiate(&mut self, bind: &Bind, interface: SyntaxId, address: String) -> BindAck {
        let results = bind
            .contexts
            .iter()
            .map(|context| self.negotiate_context(context, &interface))
            .collect();
        BindAck {
            max_xmit_frag: self.max_xmit_frag,
            max_recv_frag: MAX_FRAGMENT,
            assoc_group_id: self.group,
            secondary_address: address,
            results,
        }
    }

    fn negotiate_context(
        &mut self,
        context: &PresentationContext,
        interface: &SyntaxId,
    ) -> ContextResult {
        if let Some(features) = context.features() {
            // Security contexts are not multiplexed: there are none.
            return ContextResult::Features(features & Bind::KEEP_CONNECTION_ON_ORPHAN);
        }
        if !interface.serves(&context.abstract_syntax) {
            return ContextResult::Rejected(RejectReason::AbstractSyntaxNotSupported);
        }
        if !context.transfer_syntaxes.contains(&SyntaxId::NDR20) {
            return ContextResult::Rejected(RejectReason::TransferSyntaxesNotSupported);
        }
        if !self.contexts.contains(&context.id) {
            if self.contexts.len() >= MAX_CONTEXTS {
                return ContextResult::Rejected(RejectReason::LocalLimitExceeded);
            }
            self.contexts.push(context.id);
        }
        ContextResult::Accepted(SyntaxId::NDR20)
    }
}
