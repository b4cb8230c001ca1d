//! What `./x bench rdma` is made of: its client, which must do what it measures, and its table and last line, which must
//! show the figures they are given. No figure is taken here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::lab::{binary, lab_folder, skip};
use tests::server::{PASSWORD, Server, USER};

type Figures = BTreeMap<String, f64>;

/// Runs the benchmarks' client against a server on a simulated fabric; its figures by their keys, or what it says.
fn figures_of(program: &Path, fabric: &Path, arguments: &[&str]) -> Result<Figures, String> {
    let output = Command::new(program)
        .args(arguments)
        .args(["--address", "10.9.0.1:445", "--share", "share"])
        .args(["--user", USER, "--password", PASSWORD])
        .arg("--fabric")
        .arg(fabric)
        .output()
        .expect("start bench_client");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let figure = |line: &str| {
        let (key, value) = line.split_once(' ').expect("KEY VALUE");
        (key.to_owned(), value.parse().expect("a number"))
    };
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().map(figure).collect())
}

/// Times a few ECHOs, as soon as somebody answers: smbdirectd starts after smbd.
fn echoes(program: &Path, fabric: &Path) -> Figures {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match figures_of(program, fabric, &["echo", "--count", "100"]) {
            Ok(figures) => return figures,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_client_moves_payload_every_way_and_echoes() {
    let program = match binary("bench_client") {
        Ok(program) => program,
        Err(error) => return skip::report(&error.to_string()),
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .share("share", "    read only = no")
        .on_fabric(folder.path())
        .start_or_skip();
    let Some(server) = server else {
        return;
    };
    let figures = echoes(&program, folder.path());
    let (half, most) = (figures["echo_p50"], figures["echo_p99"]);
    assert!(0.0 < half && half <= most, "{figures:?}");
    let ways = "unsigned,signed-transform,signed-inline";
    let short = ["--passes", "1", "--milliseconds", "20", "--mebibytes", "4"];
    let payload = [&["payload", "--ways", ways], &short[..]].concat();
    let figures = figures_of(&program, folder.path(), &payload).unwrap();
    for way in ["unsigned", "signed_transform", "signed_inline"] {
        for job in ["write", "read", "seq_write", "seq_read"] {
            let figure = figures.get(&format!("{way}_{job}"));
            assert!(figure.is_some_and(|rate| *rate > 0.0), "{figures:?}");
        }
        let file = server.share("share").join(way);
        // Blocks of 960 KiB in messages, of 1 MiB by RDMA: four of either.
        assert!(
            std::fs::metadata(file).unwrap().len() >= 4 * (960 << 10),
            "{way}"
        );
    }
}

/// What the scripts of the benchmark print of these figures: the table, then the last line.
fn printed(figures: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("figures"), figures).unwrap();
    let scripts: PathBuf = lab_folder().with_file_name("bench");
    let script = "
        . $1/report.sh && . $1/rdma-rows.sh
        figures=$2/figures rows=$2/rows
        write_rows >$rows
        print_table $rows ksmbd smbdirect 'devices alone'
        last_line";
    let output = Command::new("bash")
        .args(["-euc", script, "bash"])
        .args([&scripts, folder.path()])
        .output()
        .expect("start bash");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_signed_session_stands_beside_the_peer_unsigned_and_beside_itself_in_messages() {
    let said = printed(
        "ours signed_transform_write 300\nours signed_transform_write 400\n\
         ours signed_inline_write 80\npeer unsigned_write 500\npeer unsigned_write 450\n\
         ours seq_write 600\nwire wire_read 700\npeer skipped nothing\n",
    );
    let row = said
        .lines()
        .find(|line| line.contains("write 1 MiB, depth 4, signed, RDMA transform"));
    let cells: Vec<_> = row.expect("the row").split('|').map(str::trim).collect();
    assert_eq!(cells[2..6], ["MiB/s", "400", "500", "0.80"]);
    assert_eq!(
        said.lines().last(),
        Some(
            "bench rdma: signed_transform_write=0.80 signed_inline_write=0.16 \
             transform_over_inline_write=5.00"
        )
    );
}

#[test]
fn of_several_times_the_shortest_counts() {
    let said = printed(
        "ours echo_p50 130\nours echo_p50 120\npeer echo_p50 60\npeer echo_p50 70\n\
         ours write4k_qd32 10\nours write4k_qd32 20\npeer write4k_qd32 10\n",
    );
    assert_eq!(
        said.lines().last(),
        Some("bench rdma: write4k_qd32=2.00 echo_p50=2.00")
    );
}
