//! Who may use a share, and for what: one negative test for each setting that says so.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use proto::smb2::negotiate::Capabilities;
use proto::smb2::tree_connect::ShareFlags;
use proto::smb2::{AccessMask, CreateDisposition, CreateOptions, Dialect, NtStatus};
use tests::client::{ClientError, Offer, OpenOptions, Tree};
use tests::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, USER};

use super::scene::{Client, Scene, connect, status};

fn scene_of(lines: &str) -> Option<Scene> {
    Scene::of(Server::builder().share("share", lines))
}

/// Connects to a share as [`USER`].
fn connecting(server: &Server, share: &str) -> Result<Tree, ClientError> {
    let mut connection = connect(server, Offer::default()).unwrap();
    let session = connection.log_on(USER, PASSWORD).unwrap();
    connection.tree_connect(session, share)
}

#[test]
fn an_unknown_share_is_a_bad_network_name() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    let refused = scene.refused("there is no such share", |server| {
        connecting(server, "absent")
    });
    assert_eq!(status(refused), NtStatus::BAD_NETWORK_NAME);
}

#[test]
fn a_share_that_is_not_available_is_a_bad_network_name() {
    let Some(mut scene) = scene_of("    available = no") else {
        return;
    };
    let refused = scene.refused("there is no such share", |server| {
        connecting(server, "share")
    });
    assert_eq!(status(refused), NtStatus::BAD_NETWORK_NAME);
}

#[test]
fn a_share_whose_directory_is_gone_is_a_bad_network_name() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    std::fs::remove_dir(scene.server.share("share")).unwrap();
    let refused = scene.refused("path is no directory", |server| connecting(server, "share"));
    assert_eq!(status(refused), NtStatus::BAD_NETWORK_NAME);
}

/// The bystander's share is not encrypted, and neither is the bystander.
#[test]
fn a_share_that_must_be_encrypted_is_denied_to_who_can_not_and_to_who_does_not() {
    let Some(mut scene) = scene_of("    smb encrypt = required") else {
        return;
    };
    let cause = "smb encrypt = required, and this client or guest can't encrypt";
    let refused = scene.refused(cause, |server| {
        let mut connection = connect(server, Offer::only(Dialect::Smb302)).unwrap();
        let session = connection.log_on(USER, PASSWORD).unwrap();
        connection.tree_connect(session, "share")
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    for setting in ["required", "desired"] {
        let Some(mut scene) = scene_of(&format!("    smb encrypt = {setting}")) else {
            return;
        };
        let refused = scene.refused("its share must be (smb encrypt)", |server| {
            let able = Offer {
                capabilities: Capabilities::LARGE_MTU | Capabilities::ENCRYPTION,
                ..Offer::only(Dialect::Smb302)
            };
            let mut connection = connect(server, able).unwrap();
            let session = connection.log_on(USER, PASSWORD).unwrap();
            let tree = connection.tree_connect(session, "share").unwrap();
            let flags = tree.response.share_flags;
            assert!(flags.contains(ShareFlags::ENCRYPT_DATA), "{flags:?}");
            connection.open(tree, "file", OpenOptions::read_write())
        });
        assert_eq!(status(refused), NtStatus::ACCESS_DENIED, "{setting}");
    }
}

/// Nobody can be a bystander there.
#[test]
fn an_address_that_the_server_keeps_out_gets_no_session() {
    for setting in ["hosts deny = 127.", "hosts allow = 10.0.0.0/8"] {
        let server = Server::builder()
            .global(setting)
            .share("share", "    hosts allow = ALL")
            .start_or_skip();
        let Some(server) = server else { return };
        let mut connection = connect(&server, Offer::default()).unwrap();
        let refused = connection.log_on(USER, PASSWORD);
        assert_eq!(status(refused), NtStatus::ACCESS_DENIED, "{setting}");
        let log = server.log();
        assert!(log.contains("hosts deny of [global]"), "{log}");
    }
}

#[test]
fn users_and_hosts_that_a_share_keeps_out_are_denied() {
    let users = "valid users and invalid users";
    let hosts = "hosts allow and hosts deny";
    for (setting, cause) in [
        ("valid users = games", users),
        ("valid users = @games", users),
        ("invalid users = nobody", users),
        ("invalid users = @nogroup", users),
        ("hosts allow = 10.0.0.0/8", hosts),
        ("hosts deny = 127.0.0.1", hosts),
        ("hosts deny = ALL", hosts),
    ] {
        let lines = format!("    read only = no\n    guest ok = yes\n    {setting}");
        let Some(mut scene) = scene_of(&lines) else {
            return;
        };
        let refused = scene.refused(cause, |server| connecting(server, "share"));
        assert_eq!(status(refused), NtStatus::ACCESS_DENIED, "{setting}");
    }
}

/// Everything that would change a share, each refused; and reading works.
fn nothing_can_be_changed(client: &mut Client) {
    let kept = client.open("kept", OpenOptions::read()).unwrap();
    let read = client.connection.read(client.tree, kept, 0, 100).unwrap();
    assert_eq!(read, b"kept");
    let written = client.connection.write(client.tree, kept, 0, b"lost");
    assert_eq!(status(written), NtStatus::ACCESS_DENIED);
    let reading = OpenOptions::read();
    for (name, options) in [
        ("kept", OpenOptions::read_write()),
        ("new", OpenOptions::read_write()),
        (
            "new",
            OpenOptions {
                disposition: CreateDisposition::Create,
                options: CreateOptions::DIRECTORY_FILE,
                ..reading
            },
        ),
        (
            "kept",
            OpenOptions {
                disposition: CreateDisposition::OverwriteIf,
                ..reading
            },
        ),
        (
            "kept",
            OpenOptions {
                access: AccessMask::DELETE,
                options: CreateOptions::DELETE_ON_CLOSE,
                ..reading
            },
        ),
        (
            "kept",
            OpenOptions {
                access: AccessMask::WRITE_DAC,
                ..reading
            },
        ),
    ] {
        let opened = client.open(name, options);
        assert_eq!(
            status(opened),
            NtStatus::ACCESS_DENIED,
            "{name} {options:?}"
        );
    }
}

#[test]
fn nothing_is_changed_in_a_share_that_is_read_only_for_the_user() {
    for setting in [
        "read only = yes",
        "read only = no\n    read list = nobody",
        "read only = no\n    read list = @nogroup",
        "read only = yes\n    write list = games",
    ] {
        let Some(mut scene) = scene_of(&format!("    {setting}")) else {
            return;
        };
        let folder = scene.server.share("share");
        scene.put("kept", b"kept");
        scene.refused("the share is read only", |server| {
            nothing_can_be_changed(&mut Client::of(server, "share"));
        });
        assert_eq!(std::fs::read(folder.join("kept")).unwrap(), b"kept");
        assert!(!folder.join("new").exists());
    }
    let Some(scene) = scene_of("    read only = yes\n    write list = games") else {
        return;
    };
    let mut writer = Client::named(&scene.server, OTHER_USER, OTHER_PASSWORD, "share");
    writer.open("new", OpenOptions::read_write()).unwrap();
}

fn private_file(folder: &Path, name: &str, owner: &str) {
    let user = nix::unistd::User::from_name(owner).unwrap().unwrap();
    let path = folder.join(name);
    std::fs::write(&path, b"private").unwrap();
    chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn force_user_takes_the_own_rights_and_gives_the_others() {
    let Some(mut scene) = scene_of("    read only = no\n    force user = games") else {
        return;
    };
    let folder = scene.server.share("share");
    private_file(&folder, "own", USER);
    private_file(&folder, "theirs", OTHER_USER);
    let refused = scene.refused_silently(|server| {
        let mut client = Client::of(server, "share");
        client.open("theirs", OpenOptions::read()).unwrap();
        client.open("new", OpenOptions::read_write()).unwrap();
        client.open("own", OpenOptions::read())
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    let owner = std::fs::metadata(folder.join("new")).unwrap().uid();
    let games = nix::unistd::User::from_name(OTHER_USER).unwrap().unwrap();
    assert_eq!(owner, games.uid.as_raw());
}

#[test]
fn force_group_replaces_the_users_own() {
    let Some(mut scene) = scene_of("    read only = no\n    force group = games") else {
        return;
    };
    let folder = scene.server.share("share");
    let games = nix::unistd::Group::from_name("games").unwrap().unwrap();
    // Root's, and readable by a group alone.
    for (name, group) in [("theirs", games.gid.as_raw()), ("roots", 0)] {
        std::fs::write(folder.join(name), b"").unwrap();
        chown(folder.join(name), Some(0), Some(group)).unwrap();
        let mode = std::fs::Permissions::from_mode(0o040);
        std::fs::set_permissions(folder.join(name), mode).unwrap();
    }
    let refused = scene.refused_silently(|server| {
        let mut client = Client::of(server, "share");
        client.open("theirs", OpenOptions::read()).unwrap();
        client.open("new", OpenOptions::read_write()).unwrap();
        client.open("roots", OpenOptions::read())
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    let group = std::fs::metadata(folder.join("new")).unwrap().gid();
    assert_eq!(group, games.gid.as_raw());
}

#[test]
fn a_new_file_or_directory_never_has_bits_outside_its_mask() {
    let Some(mut scene) =
        scene_of("    read only = no\n    create mask = 0640\n    directory mask = 0710")
    else {
        return;
    };
    scene.refused_silently(|server| {
        let mut client = Client::of(server, "share");
        client.open("file", OpenOptions::read_write()).unwrap();
        let directory = OpenOptions {
            disposition: CreateDisposition::Create,
            options: CreateOptions::DIRECTORY_FILE,
            ..OpenOptions::read()
        };
        client.open("directory", directory).unwrap();
    });
    for (name, mask) in [("file", 0o640), ("directory", 0o710)] {
        let path = scene.server.share("share").join(name);
        let mode = std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode & !mask, 0, "{name} has mode {mode:o}");
        assert_ne!(mode, 0, "{name}");
    }
}
