//! The client's end: first token, answer to the challenge, check of the server's last word.
//!
//! Called by the project's own client. `bare` leaves SPNEGO away, as the Linux client does.

use der::asn1::ObjectIdentifier;

use crate::security::ntlm::{
    Initiated, Initiator as NtlmInitiator, MessageSignatures, Refusal, SessionKey,
};

use super::token::{NTLMSSP, NegState, NegTokenInit, NegTokenResp};

/// What a server's token led to.
#[derive(Debug)]
pub enum InitiatorStep {
    Continue(Vec<u8>),
    /// The server accepted, and proved the key where it sent a MIC.
    Done,
}

#[derive(Debug)]
pub struct Initiator {
    ntlm: NtlmInitiator,
    mechanisms: Option<Vec<ObjectIdentifier>>,
    mechanism_list: Vec<u8>,
    mic_demanded: bool,
    initiated: Option<Initiated>,
}

impl Initiator {
    pub fn new(ntlm: NtlmInitiator) -> Initiator {
        Initiator::with_mechanisms(ntlm, &[NTLMSSP])
    }

    /// Offers `mechanisms` in this order. NTLM's token goes along only if NTLM comes first.
    pub fn with_mechanisms(ntlm: NtlmInitiator, mechanisms: &[ObjectIdentifier]) -> Initiator {
        Initiator {
            ntlm,
            mechanisms: Some(mechanisms.to_vec()),
            mechanism_list: Vec::new(),
            mic_demanded: false,
            initiated: None,
        }
    }

    /// NTLM messages without SPNEGO around them.
    pub fn bare(ntlm: NtlmInitiator) -> Initiator {
        Initiator {
            ntlm,
            mechanisms: None,
            mechanism_list: Vec::new(),
            mic_demanded: false,
            initiated: None,
        }
    }

    /// The token of the first SESSION_SETUP request.
    pub fn first_token(&mut self) -> Vec<u8> {
        let Some(mechanisms) = &self.mechanisms else {
            return self.ntlm.negotiate().to_vec();
        };
        let optimistic =
            (mechanisms.first() == Some(&NTLMSSP)).then(|| self.ntlm.negotiate().to_vec());
        let init = NegTokenInit::new(mechanisms, optimistic);
        let token = init.build();
        self.mechanism_list = init.mechanism_list;
        token
    }

    /// Takes the token of a SESSION_SETUP response, the successful last one included.
    pub fn step(&mut self, token: &[u8]) -> Result<InitiatorStep, Refusal> {
        match (&self.mechanisms, &self.initiated) {
            (None, None) => self.answer(token).map(InitiatorStep::Continue),
            (None, Some(_)) => Ok(InitiatorStep::Done),
            (Some(_), None) => self.negotiated(NegTokenResp::parse(token)?),
            (Some(_), Some(initiated)) => {
                self.check_last(NegTokenResp::parse(token)?, initiated)?;
                Ok(InitiatorStep::Done)
            }
        }
    }

    /// The session's key, known once the challenge has been answered.
    pub fn session_key(&self) -> Option<&SessionKey> {
        self.initiated
            .as_ref()
            .map(|initiated| &initiated.session_key)
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Refusal> {
        let initiated = self.ntlm.authenticate(challenge)?;
        let message = initiated.authenticate.clone();
        self.initiated = Some(initiated);
        Ok(message)
    }

    fn negotiated(&mut self, response: NegTokenResp) -> Result<InitiatorStep, Refusal> {
        if response.state == Some(NegState::Reject)
            || response
                .mechanism
                .is_some_and(|mechanism| mechanism != NTLMSSP)
        {
            return Err(Refusal::NoCommonMechanism);
        }
        self.mic_demanded |= response.state == Some(NegState::RequestMic);
        let mut reply = NegTokenResp::default();
        match response.response_token {
            None => reply.response_token = Some(self.ntlm.negotiate().to_vec()),
            Some(challenge) => {
                reply.response_token = Some(self.answer(&challenge)?);
                reply.mech_list_mic = self
                    .signatures()
                    .map(|signatures| signatures.by_client(&self.mechanism_list).to_vec());
            }
        }
        Ok(InitiatorStep::Continue(reply.build()))
    }

    fn check_last(&self, response: NegTokenResp, initiated: &Initiated) -> Result<(), Refusal> {
        if response.state != Some(NegState::AcceptCompleted) {
            return Err(Refusal::OutOfTurn);
        }
        match (
            response.mech_list_mic,
            MessageSignatures::new(&initiated.session_key, initiated.flags),
        ) {
            (Some(mic), Some(signatures))
                if signatures.is_by_server(&self.mechanism_list, &mic) =>
            {
                Ok(())
            }
            (None, _) if !self.mic_demanded => Ok(()),
            _ => Err(Refusal::AlteredMechanisms),
        }
    }

    fn signatures(&self) -> Option<MessageSignatures> {
        let initiated = self.initiated.as_ref()?;
        MessageSignatures::new(&initiated.session_key, initiated.flags)
    }
}
