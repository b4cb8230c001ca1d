//! Whom the server tells that a session is closed (MS-SMB2 2.2.44): each of its channels but the one that asked for it.

use proto::smb2::negotiate::{Capabilities, SecurityMode};
use proto::smb2::notification::SessionClosed;
use proto::smb2::session_setup::{SessionSetupFlags, SessionSetupRequest};
use proto::smb2::{Command, HeaderFlags, MessageId, NtStatus, SessionId, TreeId};
use tests::client::{Connection, Offer, Session, Tcp};
use tests::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, USER};

fn knowing() -> Offer {
    let mut offer = Offer {
        ciphers: vec![smbd::security::encryption::Cipher::Aes128Gcm],
        ..Offer::default()
    };
    offer.capabilities |= Capabilities::NOTIFICATIONS;
    offer
}

fn connect(server: &Server, offer: &Offer) -> Connection {
    Connection::negotiate(Tcp::connect(server.address()).unwrap(), offer.clone()).unwrap()
}

/// A session with these channels, the first its own.
fn channels(server: &Server, offer: &Offer, count: usize) -> (Session, Vec<Connection>) {
    let mut first = connect(server, offer);
    let session = first.log_on(USER, PASSWORD).unwrap();
    let mut all = Vec::new();
    for _ in 1..count {
        let mut channel = connect(server, offer);
        channel.bind(session, &first, USER, PASSWORD).unwrap();
        all.push(channel);
    }
    all.insert(0, first);
    (session, all)
}

/// The one notification of this session on a channel.
#[track_caller]
fn assert_told(channel: &mut Connection, session: Session) {
    let told = channel.wait(MessageId::UNSOLICITED).unwrap();
    let header = told.header;
    assert_eq!(header.command(), Ok(Command::ServerToClientNotification));
    assert_eq!(header.session_id, session.id);
    assert_eq!((header.status, header.credits), (NtStatus::SUCCESS, 0));
    assert_eq!(header.flags, HeaderFlags::SERVER_TO_REDIR);
    SessionClosed::decode(&told.element).unwrap();
    assert_not_told(channel);
}

/// Nothing came before the answer to an ECHO.
#[track_caller]
fn assert_not_told(channel: &mut Connection) {
    channel.echo().unwrap();
    assert_eq!(channel.strays(), 0);
}

#[test]
fn a_logoff_is_told_to_the_other_channels() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let (session, mut channels) = channels(&server, &knowing(), 3);
    let mut bystander = connect(&server, &knowing());
    bystander.log_on(USER, PASSWORD).unwrap();
    channels[1].log_off(session).unwrap();
    assert_not_told(&mut channels[1]);
    for index in [0, 2] {
        assert_told(&mut channels[index], session);
        // It is so; who has ended it has no key left to sign that with.
        channels[index].forget_key(session.id);
        let refused = channels[index].tree_connect(session, "share");
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(NtStatus::USER_SESSION_DELETED));
    }
    assert_not_told(&mut bystander);
}

#[test]
fn a_session_that_its_user_has_replaced_is_closed_on_all_its_channels() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    // From the same process, and by way of the broker from that of another ClientGuid.
    for another_process in [false, true] {
        let offer = knowing();
        let (session, mut channels) = channels(&server, &offer, 2);
        let offer = match another_process {
            true => knowing(),
            false => offer,
        };
        let mut again = connect(&server, &offer);
        let replaced = again
            .log_on_after(session, OTHER_USER, OTHER_PASSWORD)
            .unwrap();
        for channel in &mut channels {
            assert_not_told(channel);
        }
        again.log_off(replaced).unwrap();
        let mut again = connect(&server, &offer);
        again.log_on_after(session, USER, PASSWORD).unwrap();
        for channel in &mut channels {
            assert_told(channel, session);
        }
        assert_not_told(&mut again);
    }
}

#[test]
fn a_reauthentication_that_fails_is_told_to_the_other_channel() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let (session, mut channels) = channels(&server, &knowing(), 2);
    let mut body = Vec::new();
    SessionSetupRequest {
        flags: SessionSetupFlags::empty(),
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::empty(),
        channel: 0,
        previous_session_id: SessionId(0),
        security_buffer: &[0x60, 0],
    }
    .encode(&mut body);
    let header = channels[0].header(Command::SessionSetup, Some(session.id), TreeId(0));
    let refused = channels[0].exchange(header, &body).unwrap();
    assert!(
        refused.header.status.is_error(),
        "{:?}",
        refused.header.status
    );
    assert_told(&mut channels[1], session);
    assert_not_told(&mut channels[0]);
}

#[test]
fn it_is_told_encrypted_where_the_session_is() {
    let server = Server::builder()
        .global("server smb encrypt = required")
        .start_or_skip();
    let Some(server) = server else {
        return;
    };
    let (session, channels) = channels(&server, &knowing(), 2);
    let [mut first, mut second]: [Connection; 2] = channels.try_into().ok().unwrap();
    first.encrypt(session).unwrap();
    second.encrypt_like(session, &first).unwrap();
    first.log_off(session).unwrap();
    // The client takes nothing of such a session that is in the clear.
    assert_told(&mut second, session);
}

#[test]
fn who_does_not_know_notifications_hears_of_none() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let mut unknowing = knowing();
    unknowing.capabilities -= Capabilities::NOTIFICATIONS;
    let (session, mut channels) = channels(&server, &unknowing, 2);
    channels[0].log_off(session).unwrap();
    assert_not_told(&mut channels[1]);
}

/// MS-SMB2 3.3.5.5, step 4.
#[test]
fn all_channels_of_a_session_know_notifications_or_none_does() {
    let Some(server) = Server::start_or_skip() else {
        return;
    };
    let knowing = knowing();
    let mut unknowing = knowing.clone();
    unknowing.capabilities -= Capabilities::NOTIFICATIONS;
    for (one, other) in [(&knowing, &unknowing), (&unknowing, &knowing)] {
        let mut first = connect(&server, one);
        let session = first.log_on(USER, PASSWORD).unwrap();
        let mut further = connect(&server, other);
        let refused = further.bind(session, &first, USER, PASSWORD);
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(NtStatus::INVALID_PARAMETER));
        first.tree_connect(session, "share").unwrap();
    }
}
