//! What a client offers, and how it misbehaves from the start. Misbehaviour in the middle of a
//! connection is a method of [`super::SmbDirect`].

use std::net::SocketAddr;

use proto::smbdirect::Parameters;

/// A client's ways. The default is a good client.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What it offers; `receive_credit_max` is the most credits it ever grants.
    pub parameters: Parameters,
    /// It sends the negotiate request. If not, it stays silent once connected, and whatever it
    /// receives is handed out as it came.
    pub negotiates: bool,
    /// It answers when asked for a sign of life.
    pub answers_keepalive: bool,
    /// RDMA READs of the server's it serves at a time.
    pub reads_served: u8,
    /// Which of its addresses it comes from; the routing table chooses without one.
    pub from: Option<SocketAddr>,
    /// What it says beside its connection request.
    pub private_data: Vec<u8>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            parameters: Parameters::client(),
            negotiates: true,
            answers_keepalive: true,
            reads_served: 16,
            from: None,
            private_data: Vec::new(),
        }
    }
}

impl Behaviour {
    /// Lets the server hold at most this many credits.
    pub fn granting(credits: u16) -> Behaviour {
        let mut behaviour = Behaviour::default();
        behaviour.parameters.receive_credit_max = credits;
        behaviour
    }

    /// Connects and says nothing.
    pub fn silent() -> Behaviour {
        Behaviour {
            negotiates: false,
            ..Behaviour::default()
        }
    }
}
