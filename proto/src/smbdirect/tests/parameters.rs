//! Values an operator may and may not set.

use std::time::Duration;

use super::super::Parameters;

#[test]
fn the_defaults_are_valid() {
    assert_eq!(Parameters::server().validate(), Ok(()));
    assert_eq!(Parameters::client().validate(), Ok(()));
}

#[test]
fn a_refused_value_is_named_with_what_is_allowed() {
    let parameters = Parameters {
        max_receive_size: 100,
        ..Parameters::server()
    };
    assert_eq!(
        parameters.validate().unwrap_err().to_string(),
        "max_receive_size is 100: set it to 128..=1048576 bytes ([MS-SMBD] needs at least 128)"
    );
}

#[test]
fn each_value_is_checked() {
    let default = Parameters::server;
    let wrong = [
        (
            "receive_credit_max",
            Parameters {
                receive_credit_max: 0,
                ..default()
            },
        ),
        (
            "send_credit_target",
            Parameters {
                send_credit_target: 0,
                ..default()
            },
        ),
        (
            "max_outstanding_sends",
            Parameters {
                max_outstanding_sends: 0,
                ..default()
            },
        ),
        (
            "max_send_size",
            Parameters {
                max_send_size: 127,
                ..default()
            },
        ),
        (
            "max_receive_size",
            Parameters {
                max_receive_size: u32::MAX,
                ..default()
            },
        ),
        (
            "max_fragmented_receive_size",
            Parameters {
                max_fragmented_receive_size: 131_071,
                ..default()
            },
        ),
        (
            "max_read_write_size",
            Parameters {
                max_read_write_size: 0,
                ..default()
            },
        ),
        (
            "keepalive_interval",
            Parameters {
                keepalive_interval: Duration::ZERO,
                ..default()
            },
        ),
        (
            "keepalive_reply_timeout",
            Parameters {
                keepalive_reply_timeout: Duration::MAX,
                ..default()
            },
        ),
        (
            "negotiate_timeout",
            Parameters {
                negotiate_timeout: Duration::ZERO,
                ..default()
            },
        ),
        (
            "partial_message_timeout",
            Parameters {
                partial_message_timeout: Duration::ZERO,
                ..default()
            },
        ),
    ];
    for (name, parameters) in wrong {
        assert_eq!(parameters.validate().unwrap_err().name, name);
    }
}

#[test]
fn the_negotiate_buffer_holds_a_request_with_trailing_bytes() {
    let small = Parameters {
        max_receive_size: 128,
        ..Parameters::server()
    };
    assert_eq!(small.negotiate_buffer_size(), 512);
    assert_eq!(Parameters::server().negotiate_buffer_size(), 1364);
}
