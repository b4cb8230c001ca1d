//! Plays one scenario against a whole server inside the lab's guest: `server_scenario NAME`.
//! The client's host is where it runs; smbd, its children, broker, zygote and smbdirectd run on the
//! server's. `tests/tests/hazards.rs` and `tests/tests/deaths.rs` boot a guest for each. Those of
//! `tests::hazards` run natively too; these here want the kernel's client.

mod copies;
mod deaths;
mod interfaces;
mod windows;

use std::process::ExitCode;

use tests::hazards::{Ground, Scene, play, scenario};

type Scenario = fn(&Scene);

const SCENARIOS: &[(&str, Scenario)] = &[
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
    ("interfaces", interfaces::answers_follow_every_change),
    ("copies", copies::payload_is_not_copied),
    ("windows-flow", windows::copies_as_windows_does),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let mut here = SCENARIOS.iter();
    let found = here.find(|(known, _)| *known == name);
    let found = found.map(|(_, found)| *found).or_else(|| scenario(&name));
    let Some(found) = found else {
        eprintln!("server_scenario: it knows no scenario {name:?}, and runs in the lab's guest");
        return ExitCode::from(2);
    };
    match play(Ground::Lab, &name, found) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
