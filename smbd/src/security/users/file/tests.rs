//! The user file's format, its permissions, and writers at the same time.

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

const HASH: &str = "a4f49c406510bdcab6824ee7c30fd852";

fn parse(text: &str) -> Result<UserFile, UserFileError> {
    UserFile::parse(Path::new("users"), text)
}

fn entry(name: &str) -> UserEntry {
    UserEntry {
        name: name.into(),
        uid: None,
        hash: NtHash::of_password(name),
        disabled: false,
    }
}

fn put(path: &Path, name: &str) -> Result<(), UserFileError> {
    UserFile::edit(path, |file| file.put(entry(name)))
}

#[test]
fn lines_are_read_and_comments_skipped() {
    let file = parse(&format!("# users\n\n alice::{HASH}:\nbob:1001:{HASH}:D\n")).unwrap();
    let [alice, bob] = file.entries() else {
        panic!("two users")
    };
    assert_eq!(
        (alice.name.as_str(), alice.uid, alice.disabled),
        ("alice", None, false)
    );
    assert_eq!(
        (bob.name.as_str(), bob.uid, bob.disabled),
        ("bob", Some(1001), true)
    );
    assert_eq!(alice.hash, NtHash::of_password("Password"));
}

#[test]
fn a_disabled_user_is_told_from_an_unknown_one() {
    let file = parse(&format!("alice::{HASH}:\nbob::{HASH}:D\n")).unwrap();
    assert_eq!(
        file.account("ALICE"),
        Account::Enabled(NtHash::of_password("Password"))
    );
    assert_eq!(file.account("bob"), Account::Disabled);
    assert_eq!(file.account("carol"), Account::Unknown);
}

#[test]
fn wrong_lines_are_named_and_hashes_kept_out_of_the_message() {
    for (line, expected) in [
        ("alice", "1 fields instead of 4"),
        (":::", "it is empty"),
        ("alice:x:00:", "uid \"x\" is not a number"),
        ("alice::a4f49c40:", "the hash is not 32 hexadecimal digits"),
        (
            "alice::a4f49c406510bdcab6824ee7c30fd85g:",
            "the hash is not 32 hexadecimal digits",
        ),
        (
            "alice::a4f49c406510bdcab6824ee7c30fd852:X",
            "only D (disabled) is known",
        ),
    ] {
        let error = parse(&format!("# heading\n{line}\n"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("user file users, line 2: "), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("a4f49c40"), "{error}");
    }
    let twice = parse(&format!("alice::{HASH}:\nAlice::{HASH}:\n"))
        .unwrap_err()
        .to_string();
    assert!(
        twice.contains("line 2") && twice.contains("a second time"),
        "{twice}"
    );
}

#[test]
fn what_is_written_reads_back_the_same_and_is_for_the_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let mut bob = entry("Bob Ünal");
    (bob.uid, bob.disabled) = (Some(7), true);
    put(&path, "alice").unwrap();
    UserFile::edit(&path, |file| file.put(bob.clone())).unwrap();
    assert_eq!(
        UserFile::load(&path).unwrap().entries(),
        [entry("alice"), bob]
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        2,
        "the file and its lock"
    );
}

#[test]
fn a_file_others_can_read_is_refused_with_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    put(&path, "alice").unwrap();
    for mode in [0o640, 0o604, 0o620, 0o610] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = UserFile::load(&path).unwrap_err();
        assert!(
            matches!(error, UserFileError::ReadableByOthers { .. }),
            "{mode:o}"
        );
        assert!(error.to_string().contains("run `chmod 600"), "{error}");
        assert!(put(&path, "bob").is_err(), "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(UserFile::load(&path).is_ok());
}

#[test]
fn a_missing_file_and_a_directory_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let missing = UserFile::load(&directory.path().join("users"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("smbd passwd add"), "{missing}");
    let error = UserFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, UserFileError::NotAFile { .. }), "{error}");
}

#[test]
fn a_planted_link_is_not_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, beside(&path, ".new")).unwrap();
    put(&path, "alice").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(beside(&path, ".lock")).unwrap();
    symlink(&victim, beside(&path, ".lock")).unwrap();
    assert!(put(&path, "bob").is_err());
}

#[test]
fn a_failed_change_leaves_the_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    put(&path, "alice").unwrap();
    let before = fs::read(&path).unwrap();
    let outcome = UserFile::edit(&path, |file| {
        file.remove("alice");
        file.put(entry("a:b"))
    });
    assert!(matches!(outcome, Err(UserFileError::BadName { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for number in 0..10 {
                    put(path, &format!("user{writer}-{number}")).unwrap();
                }
            });
        }
    });
    assert_eq!(UserFile::load(&path).unwrap().entries().len(), 40);
}

#[test]
fn names_that_would_break_a_line_are_refused() {
    let mut file = UserFile::default();
    for name in ["", "a:b", "a\nb", "#a", " a", "a ", &"x".repeat(257)] {
        assert!(
            matches!(file.put(entry(name)), Err(UserFileError::BadName { .. })),
            "{name:?}"
        );
    }
    assert!(file.put(entry("Jörg von Ä")).is_ok());
}

#[test]
fn hashes_are_not_printed() {
    let shown = format!("{:?}", parse(&format!("alice::{HASH}:\n")).unwrap());
    assert!(
        shown.contains("redacted") && !shown.contains("a4"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9:#\nDé ]{0,120}|\\PC{0,80}") {
        let _ = parse(&text);
    }
}
