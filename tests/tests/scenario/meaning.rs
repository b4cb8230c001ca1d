//! Whether a decoder that is not ours shows in a recording the values that this project meant: of
//! SMB Direct's negotiation and data messages, of SMB2's NEGOTIATE, of the list of interfaces.

use proto::smbdirect::Parameters;
use tests::lab::Outcome;

const SERVER: &str = "10.9.0.1";
const CLIENT: &str = "10.9.0.2";
/// Credits of a client nobody has logged on for (ARCHITECTURE.md, "Relay").
const UNATTACHED_CREDITS: &str = "10";

/// Checks the recording of the first link.
#[track_caller]
pub fn check(outcome: &Outcome) {
    negotiation(outcome);
    data_messages(outcome);
    smb2_negotiate(outcome);
    interfaces(outcome);
}

#[track_caller]
fn rows(outcome: &Outcome, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
    let found = outcome.fields(1, filter, names);
    let found = found.unwrap_or_else(|error| panic!("{filter}: {error}"));
    assert!(!found.is_empty(), "the recording has no {filter}");
    found
}

/// MS-SMBD 2.2.1 and 2.2.2.
fn negotiation(outcome: &Outcome) {
    let client = Parameters::client();
    let asked = [
        CLIENT.to_owned(),
        "0x0100".to_owned(),
        "0x0100".to_owned(),
        client.send_credit_target.to_string(),
        client.max_send_size.to_string(),
        client.max_receive_size.to_string(),
        client.max_fragmented_receive_size.to_string(),
    ];
    let names = [
        "ip.src",
        "smb_direct.version.min",
        "smb_direct.version.max",
        "smb_direct.credits.requested",
        "smb_direct.preferred_send_size",
        "smb_direct.max_receive_size",
        "smb_direct.max_fragmented_size",
    ];
    for row in rows(outcome, "smb_direct.negotiate_request", &names) {
        assert_eq!(row, asked, "{names:?}");
    }
    let server = Parameters::server();
    let answered = [
        SERVER.to_owned(),
        "0x0100".to_owned(),
        "0x0100".to_owned(),
        "0x0100".to_owned(),
        server.send_credit_target.to_string(),
        UNATTACHED_CREDITS.to_owned(),
        "0x00000000".to_owned(),
        server.max_read_write_size.to_string(),
        server.max_send_size.to_string(),
        server.max_receive_size.to_string(),
        server.max_fragmented_receive_size.to_string(),
    ];
    let names = [
        "ip.src",
        "smb_direct.version.min",
        "smb_direct.version.max",
        "smb_direct.version.negotiated",
        "smb_direct.credits.requested",
        "smb_direct.credits.granted",
        "smb_direct.status",
        "smb_direct.max_read_write_size",
        "smb_direct.preferred_send_size",
        "smb_direct.max_receive_size",
        "smb_direct.max_fragmented_size",
    ];
    for row in rows(outcome, "smb_direct.negotiate_response", &names) {
        assert_eq!(row, answered, "{names:?}");
    }
}

/// MS-SMBD 2.2.3: an empty message has no offset and nothing behind it, any other its data at 24.
fn data_messages(outcome: &Outcome) {
    let names = [
        "smb_direct.credits.requested",
        "smb_direct.credits.granted",
        "smb_direct.flags",
        "smb_direct.remaining_length",
        "smb_direct.data_offset",
        "smb_direct.data_length",
    ];
    let parameters = Parameters::server();
    let mut with_data = 0;
    for row in rows(outcome, "smb_direct.data_message", &names) {
        let number = |at: usize| {
            let text = row[at].as_str();
            match text.strip_prefix("0x") {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => text.parse(),
            }
            .unwrap_or_else(|_| panic!("{names:?} are {row:?}"))
        };
        let (requested, granted, flags) = (number(0), number(1), number(2));
        let (remaining, offset, length) = (number(3), number(4), number(5));
        assert_eq!(
            requested,
            u32::from(parameters.send_credit_target),
            "{row:?}"
        );
        assert!(
            granted <= u32::from(parameters.receive_credit_max),
            "{row:?}"
        );
        assert!(flags <= 1, "{row:?}");
        match length {
            0 => assert_eq!((remaining, offset), (0, 0), "{row:?}"),
            _ => {
                with_data += 1;
                assert_eq!(offset, 24, "{row:?}");
                assert!(offset + length <= parameters.max_receive_size, "{row:?}");
                let whole = u64::from(remaining) + u64::from(length);
                assert!(
                    whole <= u64::from(parameters.max_fragmented_receive_size),
                    "{row:?}"
                );
            }
        }
    }
    assert!(with_data > 0);
    let wrong = outcome.fields(1, "smb_direct.fragment.error", &["frame.number"]);
    assert_eq!(wrong.expect("it decodes"), Vec::<Vec<String>>::new());
}

/// MS-SMB2 2.2.4: 3.1.1, large messages and several channels, signing enabled and not required.
fn smb2_negotiate(outcome: &Outcome) {
    let names = [
        "ip.src",
        "smb2.dialect",
        "smb2.capabilities",
        "smb2.sec_mode",
    ];
    for row in rows(outcome, "smb2.cmd == 0 && smb2.flags.response == 1", &names) {
        assert_eq!(row[..2], [SERVER, "0x0311"], "{row:?}");
        assert_eq!(row[2..], ["0x0000000c", "0x01"], "{names:?} are {row:?}");
    }
}

/// MS-SMB2 2.2.32.5: one at least can do RDMA, none is without a speed.
fn interfaces(outcome: &Outcome) {
    let names = [
        "smb2.ioctl.network_interfaces.capabilities.rdma",
        "smb2.ioctl.network_interfaces.link_speed",
    ];
    let filter = "smb2.ioctl.network_interfaces.link_speed && smb2.flags.response == 1";
    for row in rows(outcome, filter, &names) {
        let mut rdma = row[0].split(',');
        assert!(rdma.any(|one| one == "1" || one == "True"), "{row:?}");
        let mut speeds = row[1].split(',');
        assert!(speeds.all(|speed| speed.parse() != Ok(0u64)), "{row:?}");
    }
}
