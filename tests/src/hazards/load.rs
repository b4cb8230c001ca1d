//! Somebody who only wants to work: clients that write, read back and compare all the time, on a
//! thread of their own, and tell how long they ever had to wait.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::kernel_client::Standing;
use super::{Ground, RdmaClient, pattern};

/// Bytes of a write and of the read that checks it.
const BLOCK: usize = 128 << 10;
/// Blocks of the file written to.
const BLOCKS: u64 = 16;

/// So long without progress, the kernel's client is asked what it waits for.
const SUSPICIOUS: Duration = Duration::from_secs(4);

/// A client at work.
pub struct Load {
    shared: Arc<Shared>,
    /// It is the kernel's.
    on_mount: bool,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    operations: AtomicU64,
    errors: AtomicU64,
    /// Microseconds, since it was last asked for.
    longest: AtomicU64,
}

/// A buffer that O_DIRECT takes.
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

impl Load {
    /// A client of the project's own, over SMB Direct.
    pub(super) fn over_rdma(ground: &Ground, last: u8) -> Load {
        let ground = ground.clone();
        Load::start(false, move |shared| {
            let mut client = RdmaClient::log_on(&ground, last, None);
            let file = client.create(&format!("load-{last}"));
            let mut round = 0;
            while !shared.stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let offset = round % BLOCKS * BLOCK as u64;
                client.write_and_check(file, offset, BLOCK, round);
                shared.done(began);
                round += 1;
            }
            client.connection.close(client.tree, file).expect("CLOSE");
        })
    }

    /// The kernel's client, on a mount, past its cache. One that tolerates errors counts them and
    /// begins its block again.
    pub fn on_mount(mount: &str, tolerant: bool) -> Load {
        let path = Path::new(mount).join("load");
        Load::start(true, move |shared| {
            let mut block = Box::new(Block([0; BLOCK]));
            let mut file = None;
            let mut round = 0;
            while !shared.stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                match write_and_read(&path, &mut file, round, &mut block) {
                    Ok(()) => {
                        shared.done(began);
                        round += 1;
                    }
                    Err(error) if tolerant => {
                        println!("load on {}: {error}", path.display());
                        shared.errors.fetch_add(1, Ordering::Relaxed);
                        file = None;
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        })
    }

    fn start(on_mount: bool, work: impl FnOnce(&Shared) + Send + 'static) -> Load {
        let shared = Arc::<Shared>::default();
        let its = Arc::clone(&shared);
        let thread = std::thread::spawn(move || work(&its));
        Load {
            shared,
            on_mount,
            thread,
        }
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::Relaxed)
    }

    /// Errors so far.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// The longest operation that ended since this was last asked.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.shared.longest.swap(0, Ordering::Relaxed))
    }

    /// Operations a second, over this time.
    pub fn rate(&self, time: Duration) -> f64 {
        let (before, began) = (self.operations(), Instant::now());
        std::thread::sleep(time);
        (self.operations() - before) as f64 / began.elapsed().as_secs_f64()
    }

    /// Waits until it has done that many more; how long that took. A kernel's client that stands still for no
    /// reason of the server's ends the guest, which is then booted again.
    #[track_caller]
    pub fn wait_for_more(&self, more: u64, patience: Duration) -> Duration {
        let (wanted, began) = (self.operations() + more, Instant::now());
        let mut asked = Instant::now();
        while self.operations() < wanted {
            assert!(!self.thread.is_finished(), "the load has ended");
            let is_late = began.elapsed() >= patience;
            if self.on_mount && (is_late || asked.elapsed() > SUSPICIOUS) {
                if let Some(standing) = Standing::stands_still() {
                    standing.end_guest();
                }
                asked = Instant::now();
            }
            assert!(
                !is_late,
                "no progress within {patience:?}; {}",
                self.standing()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }

    fn standing(&self) -> String {
        match self.on_mount {
            true => format!("the kernel's client: {}", Standing::look()),
            false => "a client of the project's own".to_owned(),
        }
    }

    /// Ends it; how many operations it did. Panics if something was wrong.
    pub fn finish(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.shared.operations.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn done(&self, began: Instant) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let micros = began.elapsed().as_micros() as u64;
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }
}

/// One block, with the file opened if it is not.
fn write_and_read(
    path: &PathBuf,
    file: &mut Option<File>,
    round: u64,
    block: &mut Block,
) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        None => {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
                .open(path)?;
            file.insert(opened)
        }
    };
    let offset = round % BLOCKS * BLOCK as u64;
    let expected = pattern(BLOCK, round);
    block.0.copy_from_slice(&expected);
    file.write_all_at(&block.0, offset)?;
    block.0.fill(0);
    file.read_exact_at(&mut block.0, offset)?;
    // A wrong byte is no error to be tolerated.
    assert!(block.0[..] == expected[..], "block {round} came back wrong");
    Ok(())
}
