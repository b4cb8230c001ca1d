//! What a client says under its proof of the channel and the server it means.

use super::*;

/// An exchange in which the client's own AV pairs are as `change` makes them, under its proof.
fn with_pairs(server: Acceptor, change: impl FnOnce(&mut AvPairs)) -> Result<Accepted, Refusal> {
    let mut server = server;
    let client = initiator("alice", "Sésame-42");
    let challenge = server.challenge(client.negotiate()).unwrap();
    let initiated = client.authenticate_as(&challenge, change).unwrap();
    server.authenticate(&initiated.authenticate, &lookup)
}

#[test]
fn a_proof_for_another_channel_is_refused() {
    let bound = |hash: [u8; 16]| {
        with_pairs(acceptor(), |pairs| {
            pairs.replace(AvPairs::CHANNEL_BINDINGS, hash.to_vec())
        })
    };
    assert!(bound([0; 16]).is_ok());
    assert_eq!(
        bound([9; 16]).unwrap_err(),
        Refusal::ForeignChannel {
            user: "alice".into()
        }
    );
}

#[test]
fn a_proof_for_another_service_or_machine_is_refused() {
    let aimed = |hardening, target: &str, untrusted: bool| {
        let check = TargetCheck {
            hardening,
            names: vec!["files".into(), "10.0.0.1".into()],
        };
        let outcome = with_pairs(acceptor().target(check), |pairs| {
            pairs.replace(
                AvPairs::TARGET_NAME,
                crate::security::ntlm::message::utf16_bytes(target),
            );
            if untrusted {
                let flags = pairs.flags() | AvFlags::UNTRUSTED_TARGET_NAME;
                pairs.replace(AvPairs::FLAGS, flags.bits().to_le_bytes().to_vec());
            }
        });
        match outcome {
            Ok(_) => true,
            Err(Refusal::ForeignTarget { target: named, .. }) => {
                assert!(named == target || target.is_empty());
                false
            }
            Err(other) => panic!("{other}"),
        }
    };
    use NameHardening::{IfPresent, Required, Service};
    for (target, service, if_present, required) in [
        ("cifs/files", true, true, true),
        ("CIFS/FILES", true, true, true),
        ("cifs/10.0.0.1", true, true, true),
        ("host/files/REALM", true, true, true),
        ("cifs/elsewhere", true, false, false),
        ("", true, true, false),
        ("http/files", false, false, false),
        ("files", false, false, false),
    ] {
        assert_eq!(aimed(Service, target, false), service, "{target}");
        assert_eq!(aimed(IfPresent, target, false), if_present, "{target}");
        assert_eq!(aimed(Required, target, false), required, "{target}");
    }
    assert!(aimed(IfPresent, "cifs/files", true));
    assert!(!aimed(Required, "cifs/files", true));
}
