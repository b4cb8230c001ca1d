//! Random sizes, credits, delays, late receives and missed timers: what is queued arrives intact
//! and in order, no credit is granted without a buffer, and nothing deadlocks.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Connection, Parameters, Role};
use super::pair::{Pair, Schedule, Who};
use super::{Message, START, established_server, waiting_server};

fn credits() -> impl Strategy<Value = u16> {
    prop_oneof![Just(1_u16), 2_u16..8, 1_u16..=255]
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (
        credits(),
        credits(),
        128_u32..1500,
        128_u32..1500,
        prop_oneof![1_u16..4, 1_u16..=255],
    )
        .prop_map(
            |(receive_credit_max, send_credit_target, send, receive, outstanding)| Parameters {
                receive_credit_max,
                send_credit_target,
                max_send_size: send,
                max_receive_size: receive,
                max_outstanding_sends: outstanding,
                ..Parameters::server()
            },
        )
}

fn messages() -> impl Strategy<Value = Vec<(bool, u32, Option<u32>)>> {
    let length = prop_oneof![1_u32..200, 1_u32..20_000, Just(131_072_u32)];
    prop::collection::vec((any::<bool>(), length, any::<Option<u32>>()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn everything_queued_arrives_intact_and_in_order(
        client in parameters(),
        server in parameters(),
        messages in messages(),
        seed in any::<u64>(),
        longest_delay in 1_u64..2_000,
        late_posts in prop_oneof![Just(0_u8), any::<u8>()],
        fire_timers in any::<bool>(),
    ) {
        let schedule = Schedule::random(seed, Duration::from_micros(longest_delay), late_posts);
        let mut pair = Pair::new(client, server, schedule);
        pair.negotiate();
        for (index, (from_client, length, token)) in messages.into_iter().enumerate() {
            let who = if from_client { Who::Client } else { Who::Server };
            pair.queue_invalidating(who, length, token);
            if fire_timers {
                pair.fire_timers();
            }
            if index % 3 == 0 {
                pair.run_until_delivered();
            }
        }
        pair.run_until_delivered();
    }

    #[test]
    fn no_bytes_from_a_peer_make_a_machine_panic(
        first in prop::collection::vec(any::<u8>(), 0..64),
        following in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
    ) {
        let mut server = waiting_server(Parameters::server());
        let _ = server.handle_receive(START, &first);
        let mut client = Connection::new(Role::Active, Parameters::client(), START);
        client.handle_established(START);
        client.handle_posted(1);
        client.poll_send(START);
        let _ = client.handle_receive(START, &first);
        let mut server = established_server(Parameters::server(), 255);
        for message in following {
            let _ = server.handle_receive(START, &message);
            while server.poll_send(START).is_some() {}
        }
    }

    #[test]
    fn what_is_accepted_lies_inside_the_message_and_inside_the_limits(
        fields in prop::collection::vec(
            (1_u16..=255, 0_u16..5, 0_u16..2, 0_u32..300, 0_u32..5, 0_u32..40),
            1..40,
        ),
    ) {
        let mut server = established_server(Parameters::server(), 255);
        let mut place = 0;
        for (requested, granted, flags, remaining, offset, length) in fields {
            let mut message = Message::empty(granted).requesting(requested);
            message.header.flags = flags;
            message.header.remaining_data_length = remaining;
            message.header.data_offset = offset * 8;
            message.header.data_length = length;
            message.payload = vec![7; 30];
            let bytes = message.bytes();
            match server.handle_receive(START, &bytes) {
                Ok(super::Received::Fragment { data, message_length, offset_in_message, last }) => {
                    prop_assert!(data.end <= bytes.len());
                    prop_assert_eq!(offset_in_message, place);
                    place += length;
                    prop_assert!(place <= message_length);
                    prop_assert_eq!(last, place == message_length);
                    if last {
                        place = 0;
                    }
                }
                Ok(_) => prop_assert_eq!(length, 0),
                Err(_) => break,
            }
            server.handle_posted(server.receives_to_post());
            while server.poll_send(START).is_some() {
                server.handle_send_complete(START, 1);
            }
            let credits = server.credits();
            prop_assert!(credits.granted <= credits.posted);
        }
    }
}
