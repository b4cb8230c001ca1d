//! What the benchmarks measure with: a client of one running server, over TCP or SMB Direct, and the relay alone. Prints a line `KEY VALUE` for
//! each figure. The scripts under `tests/bench` start the servers and set the figures side by side; this program
//! knows nothing of which server it is talking to.

mod echo;
mod files;
mod folder;
mod handoff;
mod payload;
mod processes;
mod relay;
mod setup;
mod transfer;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use fabric::rdma::Fabric;
use proto::smb2::{Dialect, Guid};
use tests::client::{ClientError, Connection, Offer, Session, Tcp, Tree, simulated, verbs};

use processes::ProcessTree;
use transfer::Protection;

/// The address of the client's device on a simulated fabric.
const SIMULATED_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

#[derive(Parser)]
#[command(about = "Measures an SMB server on loopback")]
struct Arguments {
    #[command(subcommand)]
    figures: Figures,
}

/// A share, and who may use it.
#[derive(Args)]
struct Share {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    user: String,
    #[arg(long)]
    password: String,
    #[arg(long = "share")]
    name: String,
}

/// The server that is measured.
#[derive(Args)]
struct Target {
    #[command(flatten)]
    share: Share,
    /// The first of the server's processes.
    #[arg(long)]
    server_pid: u32,
}

/// The server that is measured, over SMB Direct.
#[derive(Args)]
struct RdmaTarget {
    #[command(flatten)]
    share: Share,
    /// The simulated fabric in this folder, instead of the machine's devices.
    #[arg(long)]
    fabric: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Figures {
    /// Operations on many small files, by one client that waits for each answer.
    Files {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// One large file to the server and back, by smbclient.
    Transfer {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        smbclient: PathBuf,
        /// What is sent.
        #[arg(long)]
        file: PathBuf,
        /// This protection alone; all of them without it.
        #[arg(long)]
        protection: Option<Protection>,
    },
    /// Clients that log on, one after the other.
    Setup {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 300)]
        count: u32,
    },
    /// Connections of a client that has a process already, and what an idle client's process takes.
    Handoff {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 1000)]
        count: u32,
    },
    /// READ and WRITE over SMB Direct, unsigned, signed by RDMA transform, signed in the messages.
    Payload {
        #[command(flatten)]
        target: RdmaTarget,
        #[command(flatten)]
        plan: payload::Plan,
    },
    /// ECHO over SMB Direct, one at a time.
    Echo {
        #[command(flatten)]
        target: RdmaTarget,
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// The relay between smbdirectd and a child, with nothing at either end.
    Relay {
        #[arg(long, default_value_t = 20_000)]
        count: u32,
    },
}

impl Share {
    fn enter(&self, connection: &mut Connection) -> Result<(Session, Tree), ClientError> {
        let session = connection.log_on(&self.user, &self.password)?;
        let tree = connection.tree_connect(session, &self.name)?;
        Ok((session, tree))
    }
}

impl Target {
    fn processes(&self) -> ProcessTree {
        ProcessTree::of(self.server_pid)
    }

    /// A connection of the client that is called `guid`, or of a new one.
    fn connect(&self, guid: Option<Guid>) -> Result<Connection, ClientError> {
        let mut offer = Offer::default();
        offer.client_guid = guid.unwrap_or(offer.client_guid);
        Connection::negotiate(Tcp::connect(self.share.address)?, offer)
    }

    /// Logs on and connects to the share, then leaves off signing: 3.1.1 wants it for the tree connect alone, and
    /// the client's cost is not what is measured.
    fn enter(&self, connection: &mut Connection) -> Result<(Session, Tree), ClientError> {
        let (session, tree) = self.share.enter(connection)?;
        connection.forget_key(session.id);
        Ok((session, tree))
    }
}

impl RdmaTarget {
    fn offer(&self) -> Offer {
        Offer::only(Dialect::Smb311)
    }

    /// Before anything else, where the devices are simulated.
    fn enter_fabric(&self) {
        if let Some(folder) = &self.fabric {
            Fabric::new(folder, "client0", SIMULATED_CLIENT).enter();
        }
    }

    /// A new client, logged on and connected to the share.
    fn enter(&self, offer: Offer) -> Result<(Connection, Tree), ClientError> {
        let mut connection = match &self.fabric {
            None => {
                let behaviour = verbs::Behaviour::default();
                let transport = verbs::SmbDirect::connect(self.share.address, behaviour)?;
                Connection::negotiate(transport, offer)?
            }
            Some(_) => {
                let behaviour = simulated::Behaviour::default();
                let transport = simulated::SmbDirect::connect(self.share.address, behaviour)?;
                Connection::negotiate(transport, offer)?
            }
        };
        let (_, tree) = self.share.enter(&mut connection)?;
        Ok((connection, tree))
    }
}

/// Something done many times: how long it took, and what the server's processes spent on it.
struct Phase {
    times: u64,
    elapsed: Duration,
    server: Duration,
}

impl Phase {
    fn measure(
        target: &Target,
        work: impl FnOnce() -> Result<u64, ClientError>,
    ) -> Result<Phase, ClientError> {
        let spent = target.processes().cpu_time();
        let began = Instant::now();
        let times = work()?;
        Ok(Phase {
            times,
            elapsed: began.elapsed(),
            server: target.processes().cpu_time().saturating_sub(spent),
        })
    }

    /// `KEY` a second of time, and `KEY_cpu` a second of the server's processor time. The kernel counts that in
    /// steps of 10 ms, so a phase of one step says nothing.
    fn print(&self, key: &str, unit: f64) {
        let amount = self.times as f64 / unit;
        println!("{key} {:.1}", amount / self.elapsed.as_secs_f64());
        if self.server >= Duration::from_millis(50) {
            println!("{key}_cpu {:.1}", amount / self.server.as_secs_f64());
        }
    }
}

fn main() {
    let outcome = match Arguments::parse().figures {
        Figures::Files { target, count } => files::measure(&target, count),
        Figures::Transfer {
            target,
            smbclient,
            file,
            protection,
        } => transfer::measure(&target, &smbclient, &file, protection),
        Figures::Setup { target, count } => setup::measure(&target, count),
        Figures::Handoff { target, count } => handoff::measure(&target, count),
        Figures::Payload { target, plan } => {
            target.enter_fabric();
            payload::measure(&target, &plan)
        }
        Figures::Echo { target, count } => {
            target.enter_fabric();
            echo::measure(&target, count)
        }
        Figures::Relay { count } => relay::measure(count),
    };
    if let Err(error) = outcome {
        eprintln!("bench: {error}");
        std::process::exit(1);
    }
}
