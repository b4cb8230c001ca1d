//! The command against a file in a directory of its own, with passwords from memory.

use std::path::PathBuf;

use super::*;
use crate::security::ntlm::Account;

struct Fixture {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        Fixture {
            _directory: directory,
            path,
        }
    }

    fn run(&self, command: PasswdCommand, typed: &str) -> Result<String, String> {
        let mut output = Vec::new();
        run(
            &self.path,
            &command,
            &mut Piped(typed.as_bytes()),
            &mut output,
        )
        .map_err(|error| error.to_string())?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn with_root(self) -> Fixture {
        self.run(add("root"), "first\n").unwrap();
        self
    }

    fn file(&self) -> UserFile {
        UserFile::load(&self.path).unwrap()
    }
}

fn password(password: &str) -> Account {
    Account::Enabled(NtHash::of_password(password))
}

fn add(user: &str) -> PasswdCommand {
    PasswdCommand::Add {
        user: user.into(),
        uid: None,
    }
}

#[test]
fn an_added_user_can_log_on_with_the_password_given() {
    let fixture = Fixture::new();
    let said = fixture.run(add("root"), "geheim ß\r\nnext line\n").unwrap();
    assert_eq!(
        said,
        "user root added: files are accessed as root (uid 0)\n"
    );
    assert_eq!(fixture.file().account("ROOT"), password("geheim ß"));
}

#[test]
fn a_user_can_have_another_account() {
    let fixture = Fixture::new();
    let command = PasswdCommand::Add {
        user: "Alice Smith".into(),
        uid: Some(0),
    };
    fixture.run(command, "secret\n").unwrap();
    assert_eq!(fixture.file().find("alice smith").unwrap().uid, Some(0));
}

#[test]
fn a_user_without_an_account_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    let said = fixture
        .run(add("no-such-account-here"), "secret\n")
        .unwrap_err();
    assert!(said.contains("useradd"), "{said}");
    assert!(!fixture.path.exists());
}

#[test]
fn a_second_user_of_a_name_is_refused() {
    let fixture = Fixture::new().with_root();
    let said = fixture
        .run(
            PasswdCommand::Add {
                user: "Root".into(),
                uid: Some(0),
            },
            "x\n",
        )
        .unwrap_err();
    assert!(
        said.contains("exists already") && said.contains("smbd passwd change"),
        "{said}"
    );
}

#[test]
fn a_changed_password_replaces_the_old_one() {
    let fixture = Fixture::new().with_root();
    fixture
        .run(
            PasswdCommand::Change {
                user: "root".into(),
            },
            "second",
        )
        .unwrap();
    assert_eq!(fixture.file().account("root"), password("second"));
}

#[test]
fn a_disabled_user_keeps_the_password_for_later() {
    let fixture = Fixture::new().with_root();
    fixture
        .run(
            PasswdCommand::Disable {
                user: "root".into(),
            },
            "",
        )
        .unwrap();
    assert_eq!(fixture.file().account("root"), Account::Disabled);
    fixture
        .run(
            PasswdCommand::Change {
                user: "root".into(),
            },
            "second",
        )
        .unwrap();
    assert_eq!(fixture.file().account("root"), Account::Disabled);
    fixture
        .run(
            PasswdCommand::Enable {
                user: "root".into(),
            },
            "",
        )
        .unwrap();
    assert_eq!(fixture.file().account("root"), password("second"));
}

#[test]
fn a_removed_user_is_gone() {
    let fixture = Fixture::new().with_root();
    fixture
        .run(
            PasswdCommand::Remove {
                user: "root".into(),
            },
            "",
        )
        .unwrap();
    assert!(fixture.file().entries().is_empty());
}

#[test]
fn commands_for_a_user_who_is_not_there_say_so() {
    let fixture = Fixture::new().with_root();
    let user = String::from("carol");
    for command in [
        PasswdCommand::Change { user: user.clone() },
        PasswdCommand::Disable { user: user.clone() },
        PasswdCommand::Enable { user: user.clone() },
        PasswdCommand::Remove { user },
    ] {
        let said = fixture.run(command, "secret\n").unwrap_err();
        assert_eq!(
            said,
            "there is no user \"carol\"; `smbd passwd list` shows who there is"
        );
    }
}

#[test]
fn the_list_names_users_their_state_and_account_and_no_hash() {
    let fixture = Fixture::new().with_root();
    fixture
        .run(
            PasswdCommand::Disable {
                user: "root".into(),
            },
            "",
        )
        .unwrap();
    assert_eq!(
        fixture.run(PasswdCommand::List, "").unwrap(),
        "root\tdisabled\troot (uid 0)\n"
    );
}

#[test]
fn a_terminal_does_not_show_what_is_typed_and_does_again_afterwards() {
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut keyboard = File::from(pair.master);
    let mut terminal = File::from(pair.slave);
    let watch = terminal.try_clone().unwrap();
    let typed = std::thread::scope(|scope| {
        let asked = scope.spawn(move || ask(&mut terminal, "Password: ").unwrap());
        let shown = read_some(&mut keyboard, "Password: ".len());
        assert_eq!(shown, "Password: ");
        keyboard.write_all(b"hidden\n").unwrap();
        asked.join().unwrap()
    });
    assert_eq!(*typed, "hidden");
    let restored = tcgetattr(&watch).unwrap();
    assert!(restored.local_flags.contains(LocalFlags::ECHO));
    assert_eq!(read_some(&mut keyboard, 2), "\r\n");
}

fn read_some(keyboard: &mut File, length: usize) -> String {
    let mut bytes = vec![0; length];
    io::Read::read_exact(keyboard, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn empty_and_endless_passwords_are_refused() {
    let fixture = Fixture::new();
    assert!(
        fixture
            .run(add("root"), "\n")
            .unwrap_err()
            .contains("empty")
    );
    assert!(fixture.run(add("root"), "").unwrap_err().contains("empty"));
    assert!(
        fixture
            .run(add("root"), &"x".repeat(257))
            .unwrap_err()
            .contains("256 bytes")
    );
    assert!(
        fixture
            .run(add("root"), &"x".repeat(100_000))
            .unwrap_err()
            .contains("256 bytes")
    );
    assert!(!fixture.path.exists());
    fixture.run(add("root"), &"x".repeat(256)).unwrap();
}
