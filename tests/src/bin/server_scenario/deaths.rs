//! Processes are killed under the kernel's client, with one mount over SMB Direct and one over TCP
//! at work: whose process it was comes back by itself, the other notices nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use proto::control::child::Transport;
use proto::control::status::StatusReport;
use rustix::process::Signal;
use tests::hazards::{ADDRESS, Load, Scene, signal};
use tests::server::{PASSWORD, USER};

/// What nobody else may notice: no operation takes longer. The kernel's client gives a server up after 3 s.
const NOTICED: Duration = Duration::from_secs(2);
/// The kernel's client waits 3 s between its attempts to connect.
const RECONNECTED: Duration = Duration::from_secs(20);
/// Of two channels the kernel's client sometimes connects one, sends nothing on it and stands still, until
/// the server lets go of that connection after 10 s; now and then that happens twice in a row.
const BOTH_RECONNECTED: Duration = Duration::from_secs(45);

/// A mount that ends with this value.
pub struct Mount {
    path: &'static str,
}

impl Mount {
    pub fn over_rdma() -> Mount {
        Mount::new("/mnt/rdma", "rdma,")
    }

    pub fn over_tcp(scene: &Scene) -> Mount {
        Mount::new("/mnt/tcp", &format!("port={},", scene.port()))
    }

    /// On two links, with a channel over each.
    fn over_channels() -> Mount {
        Mount::new("/mnt/channels", "rdma,multichannel,max_channels=2,")
    }

    fn new(path: &'static str, transport: &str) -> Mount {
        std::fs::create_dir_all(path).expect("a mount point");
        let options = format!(
            "{transport}vers=3.1.1,username={USER},password={PASSWORD},hard,echo_interval=1,\
             nosharesock,cache=none,noperm"
        );
        let mut command = Command::new("mount");
        command.args(["-t", "cifs", &format!("//{ADDRESS}/share"), path]);
        let status = command.args(["-o", &options]).status().expect("run mount");
        assert!(status.success(), "mount: {status}");
        Mount { path }
    }

    /// A folder for this mount's own files.
    pub fn folder(&self) -> String {
        let folder = format!("{}/of{}", self.path, self.path.replace('/', "-"));
        std::fs::create_dir_all(&folder).expect("a folder on the mount");
        folder
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.path).status();
        assert!(
            std::thread::panicking() || status.is_ok_and(|status| status.success()),
            "umount {}",
            self.path
        );
    }
}

/// The child that serves the kernel's client over this transport.
pub fn owner(scene: &Scene, transport: Transport) -> i32 {
    scene.wait_for("a child serves the mount", |report| {
        let mut children = report.children.iter();
        let found = children.find(|child| {
            let status = child.status.as_ref();
            status.is_some_and(|status| {
                status.sessions > 0
                    && status
                        .channels
                        .iter()
                        .any(|channel| channel.transport == transport)
            })
        });
        found.map(|child| child.pid)
    })
}

/// Twenty children, those of either mount in turn.
pub fn clients_of_killed_children_come_back(scene: &Scene) {
    let (rdma, tcp) = (Mount::over_rdma(), Mount::over_tcp(scene));
    let loads = [
        (Transport::Rdma, Load::on_mount(&rdma.folder(), true)),
        (Transport::Tcp, Load::on_mount(&tcp.folder(), true)),
    ];
    for (_, load) in &loads {
        load.wait_for_more(3, RECONNECTED);
    }
    let began = Instant::now();
    let mut kills = 0;
    while kills < 20 && (kills < 8 || began.elapsed() < Duration::from_secs(35)) {
        let (victim, witness) = match kills % 2 {
            0 => (&loads[0], &loads[1]),
            _ => (&loads[1], &loads[0]),
        };
        let child = owner(scene, victim.0);
        let other = owner(scene, witness.0);
        witness.1.wait_for_more(1, RECONNECTED);
        let errors = witness.1.errors();
        witness.1.longest();
        signal(child, Signal::KILL);
        let back = victim.1.wait_for_more(2, RECONNECTED);
        witness.1.wait_for_more(2, NOTICED);
        let longest = witness.1.longest();
        println!(
            "killed a child over {:?}: its client was back after {back:?}; the other's longest \
             operation took {longest:?}",
            victim.0
        );
        assert!(longest < NOTICED, "the other client noticed");
        assert_eq!(witness.1.errors(), errors, "the other client had errors");
        assert_ne!(owner(scene, victim.0), child);
        assert_eq!(owner(scene, witness.0), other, "the other child lives");
        kills += 1;
    }
    println!("{kills} children killed in {:?}", began.elapsed());
    finish(loads);
}

/// It comes back within a second, every time, and with it the mounts over SMB Direct.
pub fn a_killed_smbdirectd_comes_back_and_tcp_never_stops(scene: &Scene) {
    let (rdma, tcp) = (Mount::over_rdma(), Mount::over_tcp(scene));
    let loads = [
        (Transport::Rdma, Load::on_mount(&rdma.folder(), true)),
        (Transport::Tcp, Load::on_mount(&tcp.folder(), false)),
    ];
    for (_, load) in &loads {
        load.wait_for_more(3, RECONNECTED);
    }
    let tcp_owner = owner(scene, Transport::Tcp);
    for round in 0..3 {
        let old = scene.wait_for("smbdirectd runs", |report| {
            report.gateway.as_ref().map(|gateway| gateway.pid)
        });
        loads[1].1.longest();
        let killed = Instant::now();
        signal(old, Signal::KILL);
        scene.wait_for("smbdirectd listens again", |report| {
            report
                .gateway
                .as_ref()
                .filter(|gateway| gateway.pid != old && !gateway.interfaces.is_empty())
                .map(|_| ())
        });
        let listening = killed.elapsed();
        let back = loads[0].1.wait_for_more(2, RECONNECTED);
        loads[1].1.wait_for_more(2, NOTICED);
        let longest = loads[1].1.longest();
        println!(
            "killed smbdirectd: it listened after {listening:?}, its client was back after {back:?}; \
             the longest operation over TCP took {longest:?}"
        );
        assert!(listening < Duration::from_secs(1), "after {listening:?}");
        assert!(longest < NOTICED, "TCP stopped");
        assert_eq!(owner(scene, Transport::Tcp), tcp_owner);
        owner(scene, Transport::Rdma);
        // One that runs for ten seconds counts as settled: the next end is a first one again.
        if round < 2 {
            loads[0].1.wait_for_more(1, RECONNECTED);
            let settled = Duration::from_millis(10_200).saturating_sub(killed.elapsed());
            std::thread::sleep(settled);
        }
    }
    finish(loads);
}

/// Nobody notices: who is there works on, and who comes is served.
pub fn a_killed_broker_or_zygote_is_not_noticed(scene: &Scene) {
    let (rdma, tcp) = (Mount::over_rdma(), Mount::over_tcp(scene));
    let loads = [
        (Transport::Rdma, Load::on_mount(&rdma.folder(), false)),
        (Transport::Tcp, Load::on_mount(&tcp.folder(), false)),
    ];
    for (_, load) in &loads {
        load.wait_for_more(3, RECONNECTED);
    }
    let owners = loads.each_ref().map(|(kind, _)| owner(scene, *kind));
    let broker = |report: &StatusReport| report.broker;
    let zygote = |report: &StatusReport| report.zygote;
    for round in 0..4u8 {
        let pid: &dyn Fn(&StatusReport) -> Option<i32> =
            if round % 2 == 0 { &broker } else { &zygote };
        let old = scene.wait_for("it runs", pid);
        for (_, load) in &loads {
            load.longest();
        }
        signal(old, Signal::KILL);
        // Waits for the new one, which after the first death takes a second to come.
        let mut newcomer = scene.client(10 + round);
        let file = newcomer.create(&format!("newcomer-{round}"));
        newcomer.write_and_check(file, 0, 1 << 20, round.into());
        scene.wait_for("there is another", |report| {
            pid(report).filter(|pid| *pid != old)
        });
        for (transport, load) in &loads {
            load.wait_for_more(2, NOTICED);
            let longest = load.longest();
            println!("round {round}, {transport:?}: the longest operation took {longest:?}");
            assert!(longest < NOTICED, "{transport:?} noticed");
        }
    }
    assert_eq!(
        owners,
        loads.each_ref().map(|(kind, _)| owner(scene, *kind))
    );
    finish(loads);
}

/// Both channels end, and both come back, to one child.
pub fn a_mount_of_two_channels_comes_back(scene: &Scene) {
    let mount = Mount::over_channels();
    let load = Load::on_mount(&mount.folder(), true);
    let two_channels = |report: &StatusReport, other_than: i32| {
        let mut children = report.children.iter();
        let found = children.find(|child| {
            let status = child.status.as_ref();
            child.pid != other_than && status.is_some_and(|status| status.channels.len() >= 2)
        });
        found.map(|child| child.pid)
    };
    let mut child = scene.wait_for("two channels", |report| two_channels(report, 0));
    let began = Instant::now();
    for round in 0..5 {
        if round >= 2 && began.elapsed() > Duration::from_secs(25) {
            break;
        }
        load.wait_for_more(2, BOTH_RECONNECTED);
        signal(child, Signal::KILL);
        let back = load.wait_for_more(2, BOTH_RECONNECTED);
        println!("killed the child of both channels: back after {back:?}");
        child = scene.wait_at_most(BOTH_RECONNECTED, "two channels again", |report| {
            two_channels(report, child)
        });
    }
    println!("{} operations, {} errors", load.operations(), load.errors());
    load.finish();
}

fn finish(loads: [(Transport, Load); 2]) {
    for (transport, load) in loads {
        let errors = load.errors();
        let operations = load.finish();
        println!("{transport:?}: {operations} operations, {errors} errors");
    }
}
