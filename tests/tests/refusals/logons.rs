//! Who gets no session, or none that may do as it likes: passwords, guests, dialects, signatures,
//! further channels.

use proto::smb2::fsctl::CtlCode;
use proto::smb2::ioctl::IoctlRequest;
use proto::smb2::negotiate::{Capabilities, SecurityMode};
use proto::smb2::session_setup::{SessionFlags, SessionSetupFlags, SessionSetupRequest};
use proto::smb2::{Command, Dialect, FileId, NtStatus, SessionId, TreeId};
use smbd::security::ntlm::Credentials;
use tests::client::{ClientError, Offer};
use tests::server::{PASSWORD, Server, USER};

use super::scene::{Client, Scene, connect, speaking, status};

const SHARE: &str = "    read only = no";

#[test]
fn a_wrong_password_is_a_logon_failure() {
    let Some(mut scene) = Scene::of(
        Server::builder()
            .global("failed logon delay = 0")
            .share("share", SHARE),
    ) else {
        return;
    };
    for (user, password) in [(USER, "Secret-2"), (USER, ""), ("stranger", PASSWORD)] {
        let refused = scene.refused("a logon failed", |server| {
            connect(server, Offer::default())
                .unwrap()
                .log_on(user, password)
        });
        assert_eq!(status(refused), NtStatus::LOGON_FAILURE, "{user}");
    }
}

/// `map to guest = bad user`: who is not known becomes a guest, who is must know the password.
#[test]
fn a_guest_is_made_of_unknown_users_alone_and_let_in_where_guests_are() {
    let Some(mut scene) = Scene::of(
        Server::builder()
            .global("map to guest = bad user")
            .share("share", SHARE)
            .share("open", "    guest ok = yes"),
    ) else {
        return;
    };
    let refused = scene.refused("a logon failed", |server| {
        connect(server, Offer::default())
            .unwrap()
            .log_on(USER, "wrong")
    });
    assert_eq!(status(refused), NtStatus::LOGON_FAILURE);
    let refused = scene.refused("guest ok = no", |server| {
        let mut connection = connect(server, Offer::default()).unwrap();
        let session = connection.log_on("stranger", "anything").unwrap();
        assert_eq!(session.flags, SessionFlags::IS_GUEST);
        connection.tree_connect(session, "open").unwrap();
        connection.tree_connect(session, "share")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
}

/// Nobody is let in by default, where guests are, and not where names are asked for all the same.
#[test]
fn nobody_gets_a_session_only_where_guests_do() {
    for (settings, lets_in) in [
        (&["map to guest = never"][..], false),
        (&["map to guest = bad user"], true),
        (
            &["map to guest = bad user", "restrict anonymous = 2"],
            false,
        ),
    ] {
        let mut builder = Server::builder().share("share", "    guest ok = yes");
        for setting in settings {
            builder = builder.global(setting);
        }
        let Some(mut scene) = Scene::of(builder) else {
            return;
        };
        let attempt = |server: &Server| {
            connect(server, Offer::default())
                .unwrap()
                .log_on_with(Credentials::Anonymous, false)
        };
        if lets_in {
            let session = attempt(&scene.server).unwrap();
            assert_eq!(session.flags, SessionFlags::IS_NULL);
        } else {
            let refused = scene.refused("anonymous logon is not allowed", attempt);
            assert_eq!(status(refused), NtStatus::ACCESS_DENIED, "{settings:?}");
        }
    }
}

/// The tests' client means to log on to `cifs/server`. Nobody can be a bystander there.
#[test]
fn a_proof_meant_for_another_server_is_denied_where_names_are_hardened() {
    for hardening in ["if_present", "required"] {
        let server = |alias: &str| {
            Server::builder()
                .global(&format!("server name hardening = {hardening}"))
                .global(&format!("netbios aliases = {alias}"))
                .share("share", SHARE)
                .start_or_skip()
        };
        let Some(another) = server("other") else {
            return;
        };
        let refused = connect(&another, Offer::default())
            .unwrap()
            .log_on(USER, PASSWORD);
        assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
        let log = another.log();
        assert!(log.contains("means to log on to \"cifs/server\""), "{log}");
        let Some(meant) = server("server") else {
            return;
        };
        connect(&meant, Offer::default())
            .unwrap()
            .log_on(USER, PASSWORD)
            .unwrap();
    }
}

#[test]
fn no_cipher_is_agreed_on_where_encryption_is_off() {
    let Some(mut scene) = Scene::of(
        Server::builder()
            .global("server smb encrypt = off")
            .share("share", SHARE)
            .share("sealed", "    smb encrypt = required"),
    ) else {
        return;
    };
    let refused = scene.refused("smb encrypt = required, and this client", |server| {
        let mut connection = connect(server, able_to_encrypt()).unwrap();
        let told = connection.negotiated().capabilities;
        assert!(!told.contains(Capabilities::ENCRYPTION), "{told:?}");
        let session = connection.log_on(USER, PASSWORD).unwrap();
        connection.tree_connect(session, "share").unwrap();
        connection.tree_connect(session, "sealed")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
}

#[test]
fn a_dialect_out_of_bounds_is_not_supported() {
    let cases = [
        ("server min protocol = SMB3_02", Dialect::Smb300),
        ("server min protocol = SMB3_11", Dialect::Smb210),
        ("server max protocol = SMB3_02", Dialect::Smb311),
        ("server max protocol = SMB2_10", Dialect::Smb300),
    ];
    for (setting, dialect) in cases {
        let builder = Server::builder().global(setting).share("share", SHARE);
        let Some(mut scene) = Scene::of(builder) else {
            return;
        };
        let refused = scene.refused("NEGOTIATE is refused", |server| {
            connect(server, Offer::only(dialect)).map(|_| ())
        });
        assert_eq!(status(refused), NtStatus::NOT_SUPPORTED, "{setting}");
    }
}

fn must_sign() -> Option<Scene> {
    Scene::of(
        Server::builder()
            .global("server signing = mandatory")
            .global("map to guest = bad user")
            .share("share", "    read only = no\n    guest ok = yes"),
    )
}

fn credentials() -> Credentials {
    Credentials::with_password(USER, "WORKGROUP", PASSWORD)
}

#[test]
fn an_unsigned_request_is_denied_where_signing_is_mandatory() {
    let Some(mut scene) = must_sign() else {
        return;
    };
    let refused = scene.refused("it is not signed", |server| {
        let mut connection = speaking(server, Dialect::Smb302);
        assert!(
            connection
                .negotiated()
                .security_mode
                .contains(SecurityMode::SIGNING_REQUIRED)
        );
        let session = connection.log_on_with(credentials(), false).unwrap();
        connection.tree_connect(session, "share")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    // 3.1.1 ends the connection instead (MS-SMB2 3.3.5.7).
    let lost = scene.refused("MS-SMB2 3.3.5.", |server| {
        let mut connection = speaking(server, Dialect::Smb311);
        let session = connection.log_on_with(credentials(), false).unwrap();
        connection.tree_connect(session, "share")
    });
    assert!(
        matches!(&lost, Err(ClientError::Closed))
            || lost.as_ref().err().and_then(ClientError::status) == Some(NtStatus::ACCESS_DENIED),
        "{lost:?}"
    );
}

#[test]
fn a_guest_gets_no_session_where_signing_is_mandatory() {
    let Some(mut scene) = must_sign() else {
        return;
    };
    let refused = scene.refused("a guest is refused", |server| {
        connect(server, Offer::default())
            .unwrap()
            .log_on("stranger", "anything")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
}

#[test]
fn a_request_in_the_clear_is_denied_in_an_encrypted_session() {
    // The bystander offers no cipher, and is served in the clear.
    let Some(mut scene) = Scene::of(
        Server::builder()
            .global("server smb encrypt = desired")
            .share("share", SHARE),
    ) else {
        return;
    };
    let refused = scene.refused("it is not encrypted", |server| {
        let mut connection = connect(server, able_to_encrypt()).unwrap();
        let session = connection.log_on(USER, PASSWORD).unwrap();
        assert_eq!(session.flags, SessionFlags::ENCRYPT_DATA);
        connection.tree_connect(session, "share")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
}

/// Nobody can be a bystander there who does not encrypt: the refused client shows that the server
/// goes on.
#[test]
fn who_can_not_encrypt_gets_no_session_where_encryption_is_required() {
    let server = Server::builder()
        .global("server smb encrypt = required")
        .share("share", SHARE)
        .start_or_skip();
    let Some(server) = server else { return };
    let mut connection = connect(&server, Offer::only(Dialect::Smb302)).unwrap();
    let refused = connection.log_on(USER, PASSWORD);
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    connection.echo().unwrap();
    let log = server.log();
    let naming = log.matches("server smb encrypt = required").count();
    assert_eq!(naming, 1, "{log}");
    let mut able = connect(&server, able_to_encrypt()).unwrap();
    able.log_on(USER, PASSWORD).unwrap();
}

/// AES-128-CCM, which 3.0.2 has without asking.
fn able_to_encrypt() -> Offer {
    Offer {
        capabilities: Capabilities::LARGE_MTU | Capabilities::ENCRYPTION,
        ..Offer::only(Dialect::Smb302)
    }
}

#[test]
fn a_wrong_signature_is_denied() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    let refused = scene.refused("a signature is wrong", |server| {
        let mut client = Client::of(server, "share");
        let other = smbd::security::signing::SigningKey::new(
            client.connection.negotiated().signing,
            &smbd::security::keys::KeySchedule::Smb30
                .signing_key(&smbd::security::ntlm::SessionKey::from_bytes([7; 16])),
        );
        let header = client
            .connection
            .header(Command::Logoff, Some(client.session.id), TreeId(0));
        client.connection.use_key(client.session.id, other);
        let message = client.connection.submit(header, &[4, 0, 0, 0]).unwrap();
        client.connection.forget_key(client.session.id);
        client.connection.wait(message).unwrap().header.status
    });
    assert_eq!(refused, NtStatus::ACCESS_DENIED);
}

#[test]
fn no_further_channel_is_bound_where_multichannel_is_off() {
    let Some(mut scene) = Scene::of(
        Server::builder()
            .global("server multi channel support = no")
            .share("share", SHARE),
    ) else {
        return;
    };
    let refused = scene.refused("server multi channel support = no", |server| {
        let offer = Offer {
            capabilities: Capabilities::all(),
            ..Offer::default()
        };
        let mut first = connect(server, offer.clone()).unwrap();
        let told = first.negotiated().capabilities;
        assert!(!told.contains(Capabilities::MULTI_CHANNEL), "{told:?}");
        let session = first.log_on(USER, PASSWORD).unwrap();
        let mut second = connect(server, offer).unwrap();
        let mut body = Vec::new();
        SessionSetupRequest {
            flags: SessionSetupFlags::BINDING,
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::empty(),
            channel: 0,
            previous_session_id: SessionId(0),
            security_buffer: &[0x60, 0],
        }
        .encode(&mut body);
        let header = second.header(Command::SessionSetup, Some(session.id), TreeId(0));
        second.exchange(header, &body).unwrap().header.status
    });
    assert_eq!(refused, NtStatus::REQUEST_NOT_ACCEPTED);
    let refused = scene.refused_silently(|server| {
        let mut client = Client::of(server, "share");
        let mut body = Vec::new();
        IoctlRequest {
            ctl_code: CtlCode::QUERY_NETWORK_INTERFACE_INFO,
            file_id: FileId::RELATED,
            max_input_response: 0,
            max_output_response: 4096,
            flags: IoctlRequest::IS_FSCTL,
            input: &[],
            output: &[],
        }
        .encode(&mut body);
        let (tree, connection) = (client.tree, &mut client.connection);
        let header = connection.header(Command::Ioctl, Some(tree.session), tree.id);
        connection.exchange(header, &body).unwrap().header.status
    });
    assert_eq!(refused, NtStatus::NOT_SUPPORTED);
}
