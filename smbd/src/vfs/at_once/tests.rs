//! Transfers of one pass, on a file system in memory, as the server itself.

use std::pin::pin;

use futures::FutureExt;
use futures::future::join_all;
use proto::smb2::{AccessMask, CreateDisposition, CreateOptions, FileAttributes};

use super::*;
use crate::channel::{Buffers, Message};
use crate::vfs::{Lock, OpenRequest, Share, ShareOptions, SharePath, open};

struct Fixture {
    share: Arc<Share>,
    transfers: Transfers,
    server: Arc<Identity>,
    _directory: tempfile::TempDir,
}

/// `None` where nothing is in memory.
fn fixture() -> Option<Fixture> {
    let directory = tempfile::tempdir_in("/dev/shm").ok();
    let Some(directory) = directory else {
        eprintln!("skipped: there is no /dev/shm to write to");
        return None;
    };
    let share = Share::open("test", directory.path(), ShareOptions::default()).unwrap();
    Some(Fixture {
        share: Arc::new(share),
        transfers: Transfers::on(4),
        server: Arc::new(Identity {
            user: "server".into(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        }),
        _directory: directory,
    })
}

impl Fixture {
    fn open(&self, disposition: CreateDisposition) -> Arc<File> {
        let request = OpenRequest {
            path: SharePath::from_text("f").unwrap(),
            desired: AccessMask::FILE_ALL_ACCESS,
            disposition,
            options: CreateOptions::empty(),
            attributes: FileAttributes::empty(),
            allocation_size: 0,
            ceiling: AccessMask::FILE_ALL_ACCESS,
            wants_maximal: false,
        };
        Arc::new(open(&self.share, &request).unwrap().file)
    }

    fn write(&self, file: &Arc<File>, bytes: &[u8], offset: u64) -> Result<u32, NtStatus> {
        let message = Arc::new(Message::new(bytes.to_vec(), 0, &Buffers::default()));
        let part = Message::share(&message, &message).unwrap();
        let mut write = pin!(self.transfers.write(file, part, offset, &self.server));
        assert!(write.as_mut().now_or_never().is_none(), "before the pass");
        self.transfers.run();
        write.now_or_never().unwrap()
    }
}

#[test]
fn one_look_for_locks_serves_a_pass_and_a_lock_holds_off_only_what_it_covers() {
    let Some(fixture) = fixture() else { return };
    let file = fixture.open(CreateDisposition::Create);
    let other = fixture.open(CreateDisposition::Open);
    assert_eq!(fixture.write(&file, &[7; 3000], 0), Ok(3000));
    let read_three = || {
        let reads = [0, 1000, 2500].map(|offset| {
            let buffer = b"room".to_vec();
            fixture.transfers.read(&file, buffer, 1000, offset)
        });
        let mut all = pin!(join_all(reads));
        assert!(all.as_mut().now_or_never().is_none(), "before the pass");
        fixture.transfers.run();
        let lengths = all.now_or_never().unwrap().into_iter();
        lengths
            .map(|(bytes, read)| read.unwrap().map(|_| bytes.len() - b"room".len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(read_three(), [Ok(1000), Ok(1000), Ok(500)]);
    other.lock(Lock::Exclusive, 1500, 10).unwrap();
    let refused = Err(NtStatus::FILE_LOCK_CONFLICT);
    assert_eq!(read_three(), [Ok(1000), refused, Ok(500)]);
    assert_eq!(
        fixture.write(&file, &[8; 10], 1509),
        Err(NtStatus::FILE_LOCK_CONFLICT)
    );
    assert_eq!(fixture.write(&file, &[8; 10], 1510), Ok(10));
}

#[test]
fn a_pass_is_bounded_and_the_rest_is_made_in_the_next() {
    let Some(fixture) = fixture() else { return };
    let file = fixture.open(CreateDisposition::Create);
    fixture.write(&file, &[7; 100], 0).unwrap();
    let count = BYTES_A_PASS / u64::from(MAX_LENGTH) + 3;
    let reads = (0..count).map(|_| fixture.transfers.read(&file, Vec::new(), MAX_LENGTH, 0));
    let mut all = pin!(join_all(reads));
    assert!(all.as_mut().now_or_never().is_none());
    fixture.transfers.run();
    assert!(!fixture.transfers.is_empty());
    assert!(all.as_mut().now_or_never().is_none(), "not all of them");
    fixture.transfers.run();
    assert!(fixture.transfers.is_empty());
    let read = all.now_or_never().unwrap();
    assert!(read.into_iter().all(|(bytes, _)| bytes == [7; 100]));
}

#[test]
fn long_writes_are_tried_where_two_processors_are_all_there_are() {
    let Some(mut fixture) = fixture() else { return };
    let file = fixture.open(CreateDisposition::Create);
    let long = vec![7; MAX_LONG_WRITE as usize];
    let refuse = |fixture: &Fixture, bytes: &[u8]| {
        let message = Arc::new(Message::new(bytes.to_vec(), 0, &Buffers::default()));
        let part = Message::share(&message, &message).unwrap();
        let write = fixture.transfers.write(&file, part, 0, &fixture.server);
        write.now_or_never() == Some(Ok(0))
    };
    assert!(refuse(&fixture, &long));
    fixture.transfers = Transfers::on(2);
    assert_eq!(fixture.write(&file, &long, 0), Ok(MAX_LONG_WRITE));
    assert!(refuse(&fixture, &[long, vec![7]].concat()));
}

#[test]
fn long_ones_are_not_tried() {
    let Some(fixture) = fixture() else { return };
    let file = fixture.open(CreateDisposition::Create);
    let long = fixture
        .transfers
        .read(&file, b"room".to_vec(), MAX_LENGTH + 1, 0);
    assert_eq!(long.now_or_never().unwrap(), (b"room".to_vec(), None));
    assert!(fixture.transfers.is_empty());
}
