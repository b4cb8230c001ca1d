//! Proves the lab on its own ground, without a daemon of ours: two hosts with RDMA between them, a status that comes
//! back whatever happens to the guest, recordings that decode, and a host on which nothing was written.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::lab::{Ending, Guest, LabError, RdmaKind, lab_folder, skip};

#[test]
fn both_hosts_have_an_active_device_and_reach_each_other_by_rdma() {
    let Some(outcome) = Guest::builder()
        .script(
            r#"
            grep -q ACTIVE /sys/class/infiniband/rdma_c1/ports/1/state
            grep -q ACTIVE /sys/class/infiniband/rdma_s1/ports/1/state
            server rping -s -a 10.9.0.1 -p 7174 -C 10 -S 4096 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 10 -S 4096
            echo "sent $(cat /sys/class/infiniband/rdma_c1/ports/1/hw_counters/sent_pkts)"
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    let sent = outcome
        .output
        .lines()
        .find_map(|line| line.strip_prefix("sent "))
        .and_then(|count| count.parse::<u64>().ok())
        .expect("the script prints its packet count");
    // Ten round trips of 4,096 bytes, each an RDMA READ and an RDMA WRITE by the server.
    assert!(sent >= 30, "only {sent} RDMA packets left the client");
}

#[test]
fn two_links_carry_rdma_each() {
    let Some(outcome) = Guest::builder()
        .links(2)
        .script(
            r#"
            for address in 10.9.0.1 10.9.1.1; do
                server rping -s -a $address -p 7174 -C 3 &
                sleep 0.2
                rping -c -a $address -p 7174 -C 3
                wait
            done
            for device in rdma_c1 rdma_c2; do
                [ "$(cat /sys/class/infiniband/$device/ports/1/hw_counters/sent_pkts)" -gt 5 ]
            done
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
}

#[test]
fn soft_iwarp_devices_are_there_on_request() {
    let Some(outcome) = Guest::builder()
        .rdma(RdmaKind::Siw)
        .script(
            r#"
            server rping -s -a 10.9.0.1 -p 7174 -C 3 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 3
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
}

#[test]
fn script_is_running_within_a_second_and_a_half() {
    // The best of some boots: what else this machine does is not the guest's doing.
    let mut boots = Vec::new();
    while boots.len() < 8 && boots.iter().all(|seconds| *seconds >= 1.5) {
        let Some(outcome) = Guest::builder().script("true").run_or_skip() else {
            return;
        };
        outcome.assert_succeeded();
        let ready = outcome
            .read("ready")
            .expect("the guest notes when it was ready");
        let seconds: f64 = ready
            .trim()
            .parse()
            .expect("seconds since the kernel started");
        boots.push(seconds);
    }
    let best = boots.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 1.5, "the script started after {boots:?} s");
}

#[test]
fn failing_script_hands_back_its_status() {
    let Some(outcome) = Guest::builder()
        .script("echo before; exit 42")
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::Status(42));
    assert!(outcome.output.contains("before"));
}

#[test]
fn statuses_the_runner_uses_itself_are_handed_back_too() {
    for status in [124, 125] {
        let script = format!("exit {status}");
        let Some(outcome) = Guest::builder().script(&script).run_or_skip() else {
            return;
        };
        assert_eq!(outcome.ending, Ending::Status(status));
    }
}

#[test]
fn guest_that_dies_without_a_status_has_failed() {
    let Some(outcome) = Guest::builder()
        .script("echo o >/proc/sysrq-trigger; sleep 5; exit 0")
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::Silent);
    assert!(!outcome.succeeded());
}

#[test]
fn guest_that_hangs_is_killed_at_its_time_limit() {
    let started = Instant::now();
    let Some(outcome) = Guest::builder()
        .script("echo hanging; sleep 1000")
        .time_limit(Duration::from_secs(3))
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(
        outcome.output.contains("hanging"),
        "what it printed is kept"
    );
    // Waiting for a free core comes on top of the limit, so only the order of magnitude can be checked.
    assert!(started.elapsed() < Duration::from_secs(200));
}

#[test]
fn guest_ends_with_its_runner() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script.sh");
    std::fs::write(&script, "echo up; sleep 1000").expect("the script");
    let results = folder.path().join("results");
    let mut runner = Command::new(lab_folder().join("run.sh"))
        .arg("--results")
        .arg(&results)
        .arg(&script)
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash starts");
    let mut line = String::new();
    let output = runner.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("text");
    if let Some(reason) = line.strip_prefix("lab: skipped: ") {
        runner.wait().expect("the runner ends");
        return skip::report(reason.trim());
    }
    assert_eq!(line, "up\n");
    assert!(guest_runs(&results));
    runner.kill().expect("the runner is there");
    runner.wait().expect("the runner ends");
    let killed = Instant::now();
    while guest_runs(&results) {
        assert!(
            killed.elapsed() < Duration::from_secs(5),
            "the guest outlives its runner"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a kernel runs that was started for this results folder.
fn guest_runs(results: &Path) -> bool {
    let argument = format!("lab.results={}", results.display());
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes.flatten().any(|process| {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        command
            .split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}

#[test]
fn shares_can_lie_on_a_file_system_that_fills_up() {
    let Some(outcome) = Guest::builder()
        .rdma(RdmaKind::None)
        .script(
            r#"
            loop_share 16M ext4 /srv/small
            ! dd if=/dev/zero of=/srv/small/big bs=1M count=32 2>$LAB_RESULTS/dd
            grep -q 'No space left' $LAB_RESULTS/dd
            loop_share 320M xfs /srv/disk
            stat -f -c %T /srv/small /srv/disk
            "#,
        )
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    assert!(outcome.output.contains("ext2/ext3"), "{}", outcome.output);
    assert!(outcome.output.contains("xfs"), "{}", outcome.output);
}

#[test]
fn nothing_of_the_host_is_written() {
    let marker = format!("smbdirect-lab-marker-{}", std::process::id());
    let folders = [
        "/", "/etc", "/tmp", "/var/tmp", "/root", "/dev/shm", "/run", "/mnt", "/srv",
    ];
    let script = format!(
        "for folder in {}; do echo x >$folder/{marker}; test -s $folder/{marker}; done; rm /etc/hostname; test ! -e /etc/hostname",
        folders.join(" ")
    );
    let hostname = std::fs::read("/etc/hostname").ok();
    let Some(outcome) = Guest::builder().script(&script).run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    for folder in folders {
        let path = Path::new(folder).join(&marker);
        assert!(!path.exists(), "{} is on the host", path.display());
    }
    assert_eq!(std::fs::read("/etc/hostname").ok(), hostname);
}

#[test]
fn results_folder_is_the_one_way_out() {
    let Some(outcome) = Guest::builder()
        .script("echo measured >$LAB_RESULTS/figures; echo \"$COLOUR $1\"")
        .environment("COLOUR", "blue; green's $x")
        .argument("an argument")
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    assert_eq!(
        outcome.read("figures").expect("written by the script"),
        "measured\n"
    );
    assert!(outcome.output.contains("blue; green's $x an argument"));
}

#[test]
fn recording_of_the_wire_decodes() {
    let Some(outcome) = Guest::builder()
        .capture(true)
        .script(
            r#"
            server rping -s -a 10.9.0.1 -p 7174 -C 5 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 5
            "#,
        )
        .time_limit(Duration::from_secs(30))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    let wire = match outcome.wire(1) {
        Ok(wire) => wire,
        Err(LabError::Skip(reason)) => return skip::report(&reason),
        Err(error) => panic!("{error}"),
    };
    assert!(wire.infiniband >= 40, "{wire:?}");
    assert_eq!((wire.malformed, wire.dropped), (0, 0), "{wire:?}");
}

#[test]
fn script_that_cannot_run_here_is_no_success() {
    let result = Guest::builder().script("skip 'no such device'").run();
    match result {
        Err(LabError::Skip(reason)) if reason != "no such device" => {
            skip::report(&reason);
        }
        Err(LabError::Skip(_)) => {}
        other => panic!("expected a skip, got {other:?}"),
    }
}
