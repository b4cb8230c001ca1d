//! Where RDMA payload is copied: nowhere. The daemons count what they copy of regions, the only way
//! they have to touch one, and strace shows which of their system calls carry bytes.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use proto::control::child::Transport;
use proto::control::status::StatusReport;

use tests::hazards::{Scene, Strace, pattern};

use crate::deaths::{Mount, owner};

const MIB: usize = 1 << 20;

/// A buffer that O_DIRECT takes.
#[repr(C, align(4096))]
struct Block([u8; MIB]);

/// Bytes since smbdirectd and the child were started.
#[derive(Debug)]
struct Moved {
    rdma_read: u64,
    rdma_write: u64,
    copied_by_smbdirectd: u64,
    copied_by_children: u64,
}

/// 64 MiB each way by the kernel's client: of a hundred bytes, the daemons copy less than one, and
/// the file calls alone carry bytes.
pub fn payload_is_not_copied(scene: &Scene) {
    let mount = Mount::over_rdma();
    let path = format!("{}/payload", mount.folder());
    move_both_ways(&path, 1); // whatever is set up at first
    let before = moved(&scene.status());
    move_both_ways(&path, 64);
    let payload = 64 * MIB as u64;
    // Bytes are counted when the device says so, which may be after the client has them.
    let (after, read, written) = scene.wait_for("64 MiB moved by RDMA each way", |report| {
        let after = moved(report);
        let read = after.rdma_read - before.rdma_read;
        let written = after.rdma_write - before.rdma_write;
        (read >= payload && written >= payload).then_some((after, read, written))
    });
    println!("before {before:?}, after {after:?}");
    for (who, copied) in [
        (
            "smbdirectd",
            after.copied_by_smbdirectd - before.copied_by_smbdirectd,
        ),
        (
            "the child",
            after.copied_by_children - before.copied_by_children,
        ),
    ] {
        println!("{who} copied {copied} bytes while {read} + {written} moved by RDMA");
        assert!(copied < (read + written) / 100, "{who} copied {copied}");
    }

    let smbdirectd = scene.status().gateway.expect("it runs").pid;
    let child = owner(scene, Transport::Rdma);
    // And it does count: a long listing travels through the region.
    for number in 0..200 {
        let name = format!("{path}-with-a-name-of-some-length-{number}");
        std::fs::write(name, b"").expect("a file on the mount");
    }
    std::fs::read_dir(mount.folder())
        .expect("a listing")
        .for_each(drop);
    assert!(moved(&scene.status()).copied_by_children > after.copied_by_children);

    if !Strace::is_there_or_skip() {
        return;
    }
    let traced = [smbdirectd, child].map(Strace::count_bytes);
    move_both_ways(&path, 8);
    let [smbdirectd, child] = traced.map(Strace::bytes_by_call);
    println!("bytes by system call: smbdirectd {smbdirectd:?}, the child {child:?}");
    let few = 16 * MIB as u64 / 100;
    assert!(smbdirectd.values().sum::<u64>() < few, "smbdirectd");
    let (payload, other): (Vec<_>, Vec<_>) = child
        .iter()
        .partition(|(call, _)| ["preadv", "pwrite64", "pwritev2"].contains(&call.as_str()));
    let sum = |calls: &[(&String, &u64)]| calls.iter().map(|(_, bytes)| **bytes).sum::<u64>();
    assert!(sum(&payload) >= 16 * MIB as u64, "{payload:?}");
    assert!(sum(&other) < few, "{other:?}");
}

/// Writes so many MiB past the client's cache, reads them back and compares.
fn move_both_ways(path: &str, mib: usize) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(path)
        .expect("the mount takes it");
    let mut block = Box::new(Block([0; MIB]));
    let patterns: Vec<Vec<u8>> = (0..8).map(|seed| pattern(MIB, seed)).collect();
    for number in 0..mib {
        block.0.copy_from_slice(&patterns[number % 8]);
        let offset = (number * MIB) as u64;
        file.write_all_at(&block.0, offset).expect("it is written");
    }
    for number in 0..mib {
        let offset = (number * MIB) as u64;
        file.read_exact_at(&mut block.0, offset)
            .expect("it is read");
        assert!(
            block.0[..] == patterns[number % 8][..],
            "MiB {number} is wrong"
        );
    }
}

fn moved(report: &StatusReport) -> Moved {
    let gateway = report.gateway.as_ref();
    let totals = gateway.and_then(|gateway| gateway.totals);
    let totals = totals.expect("smbdirectd answers");
    let children = report.children.iter();
    Moved {
        rdma_read: totals.rdma_read_bytes,
        rdma_write: totals.rdma_write_bytes,
        copied_by_smbdirectd: totals.region_bytes_copied,
        copied_by_children: children
            .map(|child| child.status.as_ref().expect("it answers"))
            .map(|status| status.region_bytes_copied)
            .sum(),
    }
}
