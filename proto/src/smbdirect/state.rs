//! The states of a connection and every transition between them, in one table.
//! [MS-SMBD] 3.1.1.1 names them CREATED, CONNECTING, NEGOTIATE, ESTABLISHED and DISCONNECTED;
//! here NEGOTIATE is split by what is awaited, so that nothing has to be guessed from flags.

/// Which side of the connection this is, [MS-SMBD] 3.1.1.1 Connection.Role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server: answers the negotiate request.
    Passive,
    /// The client: sends it.
    Active,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Passive: neither the connection manager's word nor the request is here.
    Accepting,
    /// Passive: the request overtook the connection manager's word, as some devices deliver it.
    AwaitingEstablished,
    /// Passive: established, the request is due.
    AwaitingRequest,
    /// Passive: the answer waits for receives to be posted, and to be sent.
    Answering,
    /// Active: the connection manager has not spoken.
    Connecting,
    /// Active: the request is to be sent.
    Requesting,
    /// Active: the response is due.
    AwaitingResponse,
    /// Both: data may flow.
    Established,
    /// Both: over. Nothing is sent, everything received is refused.
    Closed,
}

/// What moves a connection from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    ConnectionEstablished,
    RequestReceived,
    ResponseSent,
    RefusalSent,
    RequestSent,
    ResponseAccepted,
    Close,
}

impl Role {
    pub(super) const fn initial_state(self) -> State {
        match self {
            Self::Passive => State::Accepting,
            Self::Active => State::Connecting,
        }
    }
}

impl State {
    /// The whole table, [MS-SMBD] 3.1.5.2 to 3.1.5.7 and 3.1.6. `None`: the event has no place here.
    #[rustfmt::skip]
    pub(super) const fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            (Self::Accepting,           Event::ConnectionEstablished) => Self::AwaitingRequest,
            (Self::Accepting,           Event::RequestReceived)       => Self::AwaitingEstablished,
            (Self::AwaitingEstablished, Event::ConnectionEstablished) => Self::Answering,
            (Self::AwaitingRequest,     Event::RequestReceived)       => Self::Answering,
            (Self::Answering,           Event::ResponseSent)          => Self::Established,
            (Self::Answering,           Event::RefusalSent)           => Self::Closed,
            (Self::Connecting,          Event::ConnectionEstablished) => Self::Requesting,
            (Self::Requesting,          Event::RequestSent)           => Self::AwaitingResponse,
            (Self::AwaitingResponse,    Event::ResponseAccepted)      => Self::Established,
            (_,                         Event::Close)                 => Self::Closed,
            _ => return None,
        })
    }

    /// For log lines: "the connection was …".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::AwaitingEstablished => "awaiting establishment",
            Self::AwaitingRequest => "awaiting the negotiate request",
            Self::Answering => "answering the negotiate request",
            Self::Connecting => "connecting",
            Self::Requesting => "about to send the negotiate request",
            Self::AwaitingResponse => "awaiting the negotiate response",
            Self::Established => "established",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 9] = [
        State::Accepting,
        State::AwaitingEstablished,
        State::AwaitingRequest,
        State::Answering,
        State::Connecting,
        State::Requesting,
        State::AwaitingResponse,
        State::Established,
        State::Closed,
    ];

    const EVENTS: [Event; 7] = [
        Event::ConnectionEstablished,
        Event::RequestReceived,
        Event::ResponseSent,
        Event::RefusalSent,
        Event::RequestSent,
        Event::ResponseAccepted,
        Event::Close,
    ];

    #[test]
    fn closed_is_reached_from_everywhere_and_never_left() {
        for state in STATES {
            assert_eq!(state.after(Event::Close), Some(State::Closed));
        }
        for event in EVENTS {
            assert!(matches!(
                State::Closed.after(event),
                None | Some(State::Closed)
            ));
        }
    }

    #[test]
    fn only_a_finished_negotiation_establishes() {
        let establishing: Vec<_> = STATES
            .into_iter()
            .flat_map(|state| EVENTS.map(|event| (state, event)))
            .filter(|(state, event)| state.after(*event) == Some(State::Established))
            .collect();
        assert_eq!(
            establishing,
            [
                (State::Answering, Event::ResponseSent),
                (State::AwaitingResponse, Event::ResponseAccepted),
            ]
        );
    }
}
