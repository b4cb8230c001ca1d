//! Opening, creating, renaming and deleting in a temporary share.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use proto::smb2::access::CreateAction;
use proto::smb2::info::directory::{DirectoryClass, DirectoryEntry};
use proto::smb2::info::file::FileBasicInfo;
use proto::smb2::{
    AccessMask, CreateDisposition, CreateOptions, FileAttributes, FileTime, NtStatus, utf16,
};

use super::directory::Scan;
use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    share: Arc<Share>,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let share = Share::open("test", directory.path(), ShareOptions::default()).unwrap();
    Fixture {
        directory,
        share: Arc::new(share),
    }
}

fn request(path: &str, disposition: CreateDisposition) -> OpenRequest {
    OpenRequest {
        path: SharePath::from_text(path).unwrap(),
        desired: AccessMask::FILE_ALL_ACCESS,
        disposition,
        options: CreateOptions::empty(),
        attributes: FileAttributes::empty(),
        allocation_size: 0,
        ceiling: AccessMask::FILE_ALL_ACCESS,
        wants_maximal: false,
    }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, path: &str, disposition: CreateDisposition) -> Result<Opened, NtStatus> {
        open(&self.share, &request(path, disposition))
    }

    fn list(&self, directory: &str, pattern: &str) -> Result<Vec<String>, NtStatus> {
        let opened = self.open(directory, CreateDisposition::Open)?;
        let mut scan = Scan::start(&opened.file, Pattern::from_text(pattern, false))?;
        let mut names = Vec::new();
        loop {
            match scan.read(&opened.file, DirectoryClass::IdBothDirectory, 4096, false) {
                Ok(output) => names.extend(
                    DirectoryEntry::iter(DirectoryClass::IdBothDirectory, &output)
                        .map(|entry| utf16::decode(entry.unwrap().name, "name").unwrap()),
                ),
                Err(NtStatus::NO_MORE_FILES) => return Ok(names),
                Err(other) => return Err(other),
            }
        }
    }
}

#[test]
fn each_disposition_does_what_it_says_for_a_new_and_an_existing_file() {
    use CreateDisposition::*;
    for (disposition, new, existing) in [
        (
            Supersede,
            Ok(CreateAction::Created),
            Ok(CreateAction::Superseded),
        ),
        (
            Open,
            Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            Ok(CreateAction::Opened),
        ),
        (
            Create,
            Ok(CreateAction::Created),
            Err(NtStatus::OBJECT_NAME_COLLISION),
        ),
        (OpenIf, Ok(CreateAction::Created), Ok(CreateAction::Opened)),
        (
            Overwrite,
            Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            Ok(CreateAction::Overwritten),
        ),
        (
            OverwriteIf,
            Ok(CreateAction::Created),
            Ok(CreateAction::Overwritten),
        ),
    ] {
        let fixture = fixture();
        fs::write(fixture.path("old"), b"content").unwrap();
        let action = |path| fixture.open(path, disposition).map(|opened| opened.action);
        assert_eq!(action("new"), new, "{disposition:?}");
        assert_eq!(action("OLD"), existing, "{disposition:?}");
    }
}

#[test]
fn nothing_is_truncated_before_the_share_mode_is_granted() {
    let fixture = fixture();
    fs::write(fixture.path("f"), b"content").unwrap();
    let opened = fixture.open("f", CreateDisposition::Overwrite).unwrap();
    assert_eq!(fs::read(fixture.path("f")).unwrap(), b"content");
    assert_eq!(opened.truncate().unwrap().end_of_file, 0);
    assert_eq!(fs::read(fixture.path("f")).unwrap(), b"");
}

#[test]
fn directories_and_files_are_told_apart() {
    let fixture = fixture();
    fs::create_dir(fixture.path("d")).unwrap();
    fs::write(fixture.path("f"), b"").unwrap();
    let with = |path, disposition, options| {
        let request = OpenRequest {
            options,
            ..request(path, disposition)
        };
        open(&fixture.share, &request).map(|opened| opened.file.is_directory())
    };
    use CreateDisposition::{Create, Open, OverwriteIf};
    let (directory, file) = (
        CreateOptions::DIRECTORY_FILE,
        CreateOptions::NON_DIRECTORY_FILE,
    );
    assert_eq!(with("d", Open, directory), Ok(true));
    assert_eq!(with("d", Open, file), Err(NtStatus::FILE_IS_A_DIRECTORY));
    assert_eq!(with("f", Open, directory), Err(NtStatus::NOT_A_DIRECTORY));
    assert_eq!(
        with("f", Create, directory),
        Err(NtStatus::OBJECT_NAME_COLLISION)
    );
    assert_eq!(
        with("d", OverwriteIf, CreateOptions::empty()),
        Err(NtStatus::FILE_IS_A_DIRECTORY)
    );
    assert_eq!(with("new", Create, directory), Ok(true));
    assert_eq!(
        with("none\\new", Create, directory),
        Err(NtStatus::OBJECT_PATH_NOT_FOUND)
    );
    assert!(fixture.path("new").is_dir());
}

#[test]
fn a_link_to_nowhere_makes_no_file_where_it_points() {
    let fixture = fixture();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("made");
    symlink(&target, fixture.path("absolute")).unwrap();
    symlink("nowhere", fixture.path("dangling")).unwrap();
    for name in ["absolute", "dangling"] {
        for disposition in [CreateDisposition::OpenIf, CreateDisposition::Create] {
            assert!(fixture.open(name, disposition).is_err(), "{name}");
        }
    }
    assert!(!target.exists());
    assert!(!fixture.path("nowhere").exists());
}

#[test]
fn devices_and_pipes_of_the_machine_are_no_files() {
    let fixture = fixture();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fixture.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_bits_truncate(0o666),
        0,
    )
    .unwrap();
    assert_eq!(
        fixture.open("fifo", CreateDisposition::Open).unwrap_err(),
        NtStatus::ACCESS_DENIED
    );
}

#[test]
fn a_read_only_ceiling_lets_nothing_be_made_or_changed() {
    let fixture = fixture();
    fs::write(fixture.path("f"), b"x").unwrap();
    let with = |path, desired, disposition| {
        let request = OpenRequest {
            desired,
            ceiling: AccessMask::FILE_GENERIC_READ | AccessMask::FILE_GENERIC_EXECUTE,
            ..request(path, disposition)
        };
        open(&fixture.share, &request).map(|opened| opened.granted)
    };
    use CreateDisposition::{Open, OpenIf, Overwrite};
    let read = AccessMask::FILE_GENERIC_READ;
    assert_eq!(with("f", read, Open), Ok(read));
    assert_eq!(with("f", read, OpenIf), Ok(read));
    for refused in [
        with("f", AccessMask::WRITE_DATA, Open),
        with("f", AccessMask::DELETE, Open),
        with("f", read, Overwrite),
        with("new", read, OpenIf),
    ] {
        assert_eq!(refused, Err(NtStatus::ACCESS_DENIED));
    }
    let all = with("f", AccessMask::MAXIMUM_ALLOWED, Open).unwrap();
    assert!(all.contains(read) && !all.intersects(access::CHANGES));
}

#[test]
fn the_read_only_attribute_forbids_writing_and_deleting() {
    let fixture = fixture();
    let file = fixture.open("f", CreateDisposition::Create).unwrap().file;
    let read_only = FileBasicInfo {
        file_attributes: FileAttributes::READONLY,
        ..FileBasicInfo::default()
    };
    file.set_basic(&read_only).unwrap();
    if !file
        .metadata()
        .unwrap()
        .attributes
        .contains(FileAttributes::READONLY)
    {
        eprintln!("skipped: this file system has no extended attributes of users");
        return;
    }
    assert_eq!(
        fixture.open("f", CreateDisposition::Open).unwrap_err(),
        NtStatus::ACCESS_DENIED
    );
    assert_eq!(file.check_deletable(false), Err(NtStatus::CANNOT_DELETE));
    assert_eq!(file.check_deletable(true), Ok(()));
    assert_eq!(
        fixture.open("f", CreateDisposition::Overwrite).unwrap_err(),
        NtStatus::ACCESS_DENIED
    );
}

#[test]
fn a_rename_replaces_only_when_told_to() {
    let fixture = fixture();
    fs::write(fixture.path("a"), b"a").unwrap();
    fs::write(fixture.path("b"), b"b").unwrap();
    fs::create_dir(fixture.path("d")).unwrap();
    let file = fixture.open("a", CreateDisposition::Open).unwrap().file;
    let target = |text| SharePath::from_text(text).unwrap();
    assert_eq!(
        file.rename(&target("B"), false),
        Err(NtStatus::OBJECT_NAME_COLLISION)
    );
    assert_eq!(
        file.rename(&target("d"), true),
        Err(NtStatus::ACCESS_DENIED)
    );
    assert_eq!(
        file.rename(&target("none\\a"), true),
        Err(NtStatus::OBJECT_PATH_NOT_FOUND)
    );
    assert_eq!(file.rename(&target("d\\moved"), false), Ok(()));
    assert_eq!(file.path().as_str(), "d/moved");
    assert_eq!(file.rename(&target("b"), true), Ok(()));
    assert_eq!(fs::read(fixture.path("b")).unwrap(), b"a");
    // Letter case alone is a new name.
    assert_eq!(file.rename(&target("B"), false), Ok(()));
    assert!(fixture.path("B").exists() && !fixture.path("b").exists());
    assert_eq!(file.rename(&target("B"), false), Ok(()));
}

#[test]
fn a_file_is_deleted_where_it_is_now_and_only_if_it_is_the_same() {
    let fixture = fixture();
    fs::write(fixture.path("a"), b"a").unwrap();
    let file = fixture.open("a", CreateDisposition::Open).unwrap().file;
    fs::create_dir(fixture.path("d")).unwrap();
    fs::rename(fixture.path("a"), fixture.path("d/moved")).unwrap();
    fs::write(fixture.path("a"), b"another").unwrap();
    file.delete().unwrap();
    assert!(fixture.path("a").exists() && !fixture.path("d/moved").exists());
    assert_eq!(file.delete(), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    assert!(fixture.path("a").exists());
}

#[test]
fn deleting_through_a_link_takes_the_link_and_leaves_the_file() {
    let fixture = fixture();
    fs::write(fixture.path("target"), b"x").unwrap();
    symlink("target", fixture.path("link")).unwrap();
    let file = fixture.open("link", CreateDisposition::Open).unwrap().file;
    file.delete().unwrap();
    assert!(fixture.path("target").exists());
    assert!(fs::symlink_metadata(fixture.path("link")).is_err());
}

#[test]
fn a_directory_is_deletable_once_it_is_empty_and_the_share_itself_never() {
    let fixture = fixture();
    fs::create_dir(fixture.path("d")).unwrap();
    fs::write(fixture.path("d/f"), b"").unwrap();
    let directory = fixture.open("d", CreateDisposition::Open).unwrap().file;
    assert_eq!(
        directory.check_deletable(false),
        Err(NtStatus::DIRECTORY_NOT_EMPTY)
    );
    fs::remove_file(fixture.path("d/f")).unwrap();
    assert_eq!(directory.check_deletable(false), Ok(()));
    directory.delete().unwrap();
    assert!(!fixture.path("d").exists());
    let root = OpenRequest {
        desired: AccessMask::FILE_GENERIC_READ,
        ..request("", CreateDisposition::Open)
    };
    let root = open(&fixture.share, &root).unwrap().file;
    assert_eq!(root.check_deletable(false), Err(NtStatus::ACCESS_DENIED));
    assert_eq!(root.delete(), Err(NtStatus::ACCESS_DENIED));
}

#[test]
fn times_are_set_and_left_alone_by_the_rules_of_zero_and_minus_one() {
    let fixture = fixture();
    let file = fixture.open("f", CreateDisposition::Create).unwrap().file;
    let time = FileTime::from_unix(1_500_000_000, 123_456_700);
    file.set_basic(&FileBasicInfo {
        last_write_time: time,
        last_access_time: time,
        ..FileBasicInfo::default()
    })
    .unwrap();
    for left_alone in [FileTime::UNCHANGED, FileTime::FREEZE, FileTime::THAW] {
        file.set_basic(&FileBasicInfo {
            last_write_time: left_alone,
            last_access_time: left_alone,
            creation_time: left_alone,
            change_time: left_alone,
            file_attributes: FileAttributes::empty(),
        })
        .unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.last_write_time, time);
        assert_eq!(metadata.last_access_time, time);
        assert_eq!(metadata.attributes, FileAttributes::ARCHIVE);
    }
}

#[test]
fn a_directory_lists_what_a_client_can_open() {
    let fixture = fixture();
    fs::create_dir(fixture.path("d")).unwrap();
    for name in ["d/b.txt", "d/A.TXT", "d/c.rs", "d/no:client", "d/.dot"] {
        fs::write(fixture.path(name), b"").unwrap();
    }
    symlink("b.txt", fixture.path("d/link.txt")).unwrap();
    symlink("/etc/passwd", fixture.path("d/escape.txt")).unwrap();
    symlink("nowhere", fixture.path("d/dangling.txt")).unwrap();
    let sorted = |pattern| {
        fixture.list("d", pattern).map(|mut names| {
            names.sort();
            names
        })
    };
    assert_eq!(
        sorted("*").unwrap(),
        [".", "..", ".dot", "A.TXT", "b.txt", "c.rs", "link.txt"]
    );
    assert_eq!(sorted("*.txt").unwrap(), ["A.TXT", "b.txt", "link.txt"]);
    assert_eq!(sorted("a.txt").unwrap(), ["A.TXT"]);
    assert_eq!(sorted("none"), Err(NtStatus::NO_SUCH_FILE));
    assert_eq!(sorted("*.none"), Err(NtStatus::NO_SUCH_FILE));
}

#[test]
fn a_big_directory_comes_in_portions_that_miss_and_repeat_nothing() {
    let fixture = fixture();
    fs::create_dir(fixture.path("d")).unwrap();
    for number in 0..3000 {
        fs::write(
            fixture.path(&format!("d/a file with a long name {number}")),
            b"",
        )
        .unwrap();
    }
    let mut names = fixture.list("d", "*").unwrap();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3002);
}

#[test]
fn an_entry_that_fits_no_buffer_is_said_to_overflow() {
    let fixture = fixture();
    fs::write(fixture.path(&"n".repeat(200)), b"").unwrap();
    let root = fixture.open("", CreateDisposition::Open).unwrap().file;
    let mut scan = Scan::start(&root, Pattern::from_text("n*", false)).unwrap();
    let class = DirectoryClass::Names;
    assert_eq!(
        scan.read(&root, class, 5, false),
        Err(NtStatus::INFO_LENGTH_MISMATCH)
    );
    assert_eq!(
        scan.read(&root, class, 100, false),
        Err(NtStatus::BUFFER_OVERFLOW)
    );
    assert!(scan.read(&root, class, 1000, false).is_ok());
}

#[test]
fn locks_of_one_open_hold_off_another() {
    let fixture = fixture();
    let one = fixture.open("f", CreateDisposition::Create).unwrap().file;
    let two = fixture.open("f", CreateDisposition::Open).unwrap().file;
    one.lock(Lock::Exclusive, 0, 10).unwrap();
    assert_eq!(
        two.lock(Lock::Shared, 5, 1),
        Err(NtStatus::LOCK_NOT_GRANTED)
    );
    assert_eq!(
        two.check_locks(false, 9, 5),
        Err(NtStatus::FILE_LOCK_CONFLICT)
    );
    assert_eq!(one.check_locks(true, 0, 10), Ok(()));
    assert_eq!(two.check_locks(true, 10, 5), Ok(()));
    one.lock(Lock::Unlock, 0, 10).unwrap();
    assert_eq!(two.lock(Lock::Exclusive, u64::MAX - 1, 1), Ok(()));
    assert_eq!(two.lock(Lock::Shared, 0, u64::MAX), Ok(()));
}

#[test]
fn a_hard_link_is_another_name_of_the_same_file() {
    let fixture = fixture();
    let file = fixture.open("f", CreateDisposition::Create).unwrap().file;
    let name = SharePath::from_text("second").unwrap();
    file.link(&name, false).unwrap();
    assert_eq!(file.metadata().unwrap().links, 2);
    assert_eq!(
        file.link(&SharePath::from_text("SECOND").unwrap(), false),
        Err(NtStatus::OBJECT_NAME_COLLISION)
    );
    let other = Metadata::of(fs::File::open(fixture.path("second")).unwrap().as_fd()).unwrap();
    assert_eq!(other.key, file.key());
}

#[test]
fn a_file_of_a_read_only_share_is_not_deleted_by_its_close_whatever_is_asked_for() {
    let fixture = fixture();
    fs::write(fixture.path("f"), b"content").unwrap();
    let open_with = |desired, ceiling| {
        let request = OpenRequest {
            desired,
            ceiling,
            options: CreateOptions::DELETE_ON_CLOSE,
            ..request("f", CreateDisposition::OpenIf)
        };
        open(&fixture.share, &request).map(|opened| opened.granted)
    };
    let read_only = AccessMask::FILE_GENERIC_READ | AccessMask::FILE_GENERIC_EXECUTE;
    for desired in [
        AccessMask::MAXIMUM_ALLOWED,
        AccessMask::MAXIMUM_ALLOWED | AccessMask::READ_DATA,
        AccessMask::DELETE,
    ] {
        assert_eq!(
            open_with(desired, read_only),
            Err(NtStatus::ACCESS_DENIED),
            "{desired:?}"
        );
    }
    let granted = open_with(AccessMask::MAXIMUM_ALLOWED, AccessMask::FILE_ALL_ACCESS).unwrap();
    assert!(granted.contains(AccessMask::DELETE));
}
