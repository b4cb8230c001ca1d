//! The conformance driver for SMB Direct: the active side of it and of SMB2 over it, able to
//! misbehave. It starts a server for itself, on the simulated fabric or, inside the lab's guest, on
//! the devices there, plays the table of cases and prints it. `./x conformance` calls it.

mod cases;
mod endpoint;
mod runner;
mod scene;
mod table;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tests::client::{simulated, verbs};
use tests::server::Server;

use endpoint::Endpoint;
use scene::{Enter, Scene};
use table::{Case, Devices};

#[derive(Parser)]
#[command(about = "Plays conformance cases against a server of ours")]
struct Arguments {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Subcommand)]
enum Protocol {
    /// SMB Direct (MS-SMBD), and SMB2 over it.
    Smbdirect {
        /// On the simulated fabric; otherwise on the devices of the lab's guest, where it then runs.
        #[arg(long)]
        sim: bool,
        /// Says which cases there are, and plays none.
        #[arg(long)]
        list: bool,
        /// Only cases whose name, or whose group's, has this in it.
        filter: Vec<String>,
    },
}

fn main() -> ExitCode {
    let Protocol::Smbdirect { sim, list, filter } = Arguments::parse().protocol;
    match sim || list {
        true => on_fabric(&filter, list),
        false => in_lab(&filter),
    }
}

fn on_fabric(filter: &[String], list: bool) -> ExitCode {
    let cases = chosen::<simulated::SmbDirect>(filter);
    if list {
        runner::list(&cases);
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().expect("a folder for the fabric");
    let path = folder.path().to_owned();
    let enter: Enter = Arc::new(move |host: u8| {
        let address: IpAddr = [10, 9, 0, 2 + host].into();
        fabric::rdma::Fabric::new(&path, &format!("client{host}"), address).enter();
    });
    play(&cases, Devices::Simulated, &enter, |settings| {
        let rdma = SocketAddr::from(([10, 9, 0, 1], port(settings.iwarp)));
        let builder = Server::builder().on_fabric(folder.path());
        Scene::begin(Devices::Simulated, builder, settings, rdma)
    })
}

fn in_lab(filter: &[String]) -> ExitCode {
    let cases = chosen::<verbs::SmbDirect>(filter);
    let devices = match std::env::var("LAB_RDMA").as_deref() {
        Ok("rxe") => Devices::Rxe,
        Ok("siw") => Devices::Siw,
        _ => {
            eprintln!("conformance: this runs in the lab's guest: './x conformance' boots one");
            return ExitCode::from(2);
        }
    };
    // Each thread is a client's host of its own only on a simulated fabric.
    let enter: Enter = Arc::new(|_| {});
    let rdma = SocketAddr::from(([10, 9, 0, 1], port(devices == Devices::Siw)));
    play(&cases, devices, &enter, |settings| {
        Scene::begin(devices, Server::builder().in_lab(), settings, rdma)
    })
}

/// MS-SMBD 2.1: another port on iWARP.
fn port(iwarp: bool) -> u16 {
    if iwarp { 5445 } else { 445 }
}

fn play<E: Endpoint>(
    cases: &[Case<E>],
    devices: Devices,
    enter: &Enter,
    begin: impl Fn(&table::Settings) -> Result<Scene<E>, String>,
) -> ExitCode {
    if cases.is_empty() {
        eprintln!("conformance: no case has such a name; '--list' shows them");
        return ExitCode::from(2);
    }
    match runner::run(cases, devices, enter, begin).failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn chosen<E: Endpoint>(filter: &[String]) -> Vec<Case<E>> {
    let mut cases = table::table();
    cases.retain(|case: &Case<E>| {
        let group = case.group.to_string();
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| case.name.contains(wanted.as_str()) || group == *wanted)
    });
    cases
}
