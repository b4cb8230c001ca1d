//! Plays one scenario against a whole server inside the lab's guest: `server_scenario NAME`.
//! The client's host is where it runs; smbd, its children, broker, zygote and smbdirectd run on the
//! server's. `tests/tests/hazards.rs` and `tests/tests/deaths.rs` boot a guest for each. Every
//! scenario ends with what the server held, in descriptors, memory and processes, before it.

mod client;
mod copies;
mod deaths;
mod hazards;
mod load;
mod server;
mod strace;

use std::process::ExitCode;
use std::time::Instant;

use server::Server;

type Scenario = (&'static str, fn(&Server));

const SCENARIOS: &[Scenario] = &[
    (
        "stalled-child",
        hazards::a_stalled_child_stops_only_its_client,
    ),
    (
        "one-credit",
        hazards::a_peer_that_grants_one_credit_is_served_whole,
    ),
    ("fragments", hazards::fragments_of_one_byte_arrive_whole),
    (
        "lost-read",
        hazards::a_connection_lost_during_a_file_call_costs_nobody_a_byte,
    ),
    (
        "killed-children",
        deaths::clients_of_killed_children_come_back,
    ),
    (
        "killed-smbdirectd",
        deaths::a_killed_smbdirectd_comes_back_and_tcp_never_stops,
    ),
    (
        "killed-broker",
        deaths::a_killed_broker_or_zygote_is_not_noticed,
    ),
    (
        "killed-channels",
        deaths::a_mount_of_two_channels_comes_back,
    ),
    ("copies", copies::payload_is_not_copied),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let known = |name: &String| SCENARIOS.iter().find(|(known, _)| known == name);
    let Some((name, scenario)) = arguments.get(1).and_then(known) else {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| name).collect();
        eprintln!("server_scenario: run it in the lab's guest with one of {names:?}");
        return ExitCode::from(2);
    };
    let server = Server::start();
    // What is made once and kept, such as a log's descriptor, is there before anything is counted.
    server.warm_up();
    let before = server.held();
    let started = Instant::now();
    scenario(&server);
    server.wait_until_held(&before);
    let seconds = started.elapsed().as_secs_f64();
    println!("server_scenario {name}: ok seconds={seconds:.1} {before:?}");
    server.stop();
    ExitCode::SUCCESS
}
