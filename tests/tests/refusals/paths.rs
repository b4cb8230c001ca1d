//! Paths that lead out of a share, and a share that is full.

use std::os::unix::fs::symlink;

use proto::smb2::create::CreateRequest;
use proto::smb2::create_context::{CreateContext, CreateContexts, name};
use proto::smb2::info::{FileInfoClass, InfoType};
use proto::smb2::set_info::SetInfoRequest;
use proto::smb2::{
    AccessMask, Command, CreateDisposition, CreateOptions, FileAttributes, FileId, NtStatus,
};
use tests::client::{OpenOptions, create_body};
use tests::server::Server;

use super::scene::{Client, Scene, status};

#[test]
fn a_path_with_dots_or_from_the_root_is_refused() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    for (path, expected, cause) in [
        ("..", NtStatus::OBJECT_PATH_SYNTAX_BAD, "a path with .."),
        (
            "..\\elsewhere\\work",
            NtStatus::OBJECT_PATH_SYNTAX_BAD,
            "a path with ..",
        ),
        (
            "a\\..\\..\\users",
            NtStatus::OBJECT_PATH_SYNTAX_BAD,
            "a path with ..",
        ),
        (
            "\\etc\\passwd",
            NtStatus::INVALID_PARAMETER,
            "must be relative",
        ),
    ] {
        for options in [OpenOptions::read(), OpenOptions::read_write()] {
            let refused = scene.refused(cause, |server| {
                Client::of(server, "share").open(path, options)
            });
            assert_eq!(status(refused), expected, "{path}");
        }
    }
    // Not a separator of this protocol, nor a name that can be.
    let refused = scene
        .refused_silently(|server| Client::of(server, "share").open("../x", OpenOptions::read()));
    assert_eq!(status(refused), NtStatus::OBJECT_NAME_INVALID);
}

#[test]
fn a_rename_out_of_the_share_is_refused() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    for (target, expected, cause) in [
        (
            "..\\stolen",
            NtStatus::OBJECT_PATH_SYNTAX_BAD,
            "a path with ..",
        ),
        (
            "\\tmp\\stolen",
            NtStatus::INVALID_PARAMETER,
            "must be relative",
        ),
    ] {
        let refused = scene.refused(cause, |server| {
            let mut client = Client::of(server, "share");
            let file = client.open("file", OpenOptions::read_write()).unwrap();
            rename(&mut client, file, target)
        });
        assert_eq!(refused, expected, "{target}");
    }
    let folder = scene.server.folder();
    assert!(folder.join("shares/share/file").exists());
    assert!(!folder.join("shares/stolen").exists());
}

fn rename(client: &mut Client, file: FileId, target: &str) -> NtStatus {
    let name: Vec<u8> = target.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // MS-FSCC 2.4.42.2: ReplaceIfExists, reserved, RootDirectory, FileNameLength, FileName.
    let mut buffer = vec![0; 16];
    buffer.extend_from_slice(&(name.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&name);
    let mut body = Vec::new();
    SetInfoRequest {
        info_type: InfoType::File.into(),
        file_info_class: FileInfoClass::Rename.into(),
        additional_information: 0,
        file_id: file,
        buffer: &buffer,
    }
    .encode(&mut body);
    let (tree, connection) = (client.tree, &mut client.connection);
    let header = connection.header(Command::SetInfo, Some(tree.session), tree.id);
    connection.exchange(header, &body).unwrap().header.status
}

#[test]
fn a_symbolic_link_out_of_the_share_is_refused() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    let folder = scene.server.share("share");
    std::fs::write(scene.server.folder().join("shares/secret"), b"secret").unwrap();
    symlink("../secret", folder.join("relative")).unwrap();
    symlink("/etc/passwd", folder.join("absolute")).unwrap();
    symlink("/proc/self/root", folder.join("magic")).unwrap();
    symlink("..", folder.join("up")).unwrap();
    for path in ["relative", "absolute", "magic\\etc\\passwd", "up\\secret"] {
        let refused = scene.refused("leads out of the share", |server| {
            Client::of(server, "share").open(path, OpenOptions::read())
        });
        assert_eq!(status(refused), NtStatus::ACCESS_DENIED, "{path}");
    }
    // Nor is anything made where one leads.
    symlink("../made", folder.join("dangling")).unwrap();
    let refused = scene.refused("leads out of the share", |server| {
        Client::of(server, "share").open("dangling", OpenOptions::read_write())
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
    assert!(!scene.server.folder().join("shares/made").exists());
}

#[test]
fn no_symbolic_link_is_followed_where_the_share_says_so() {
    let lines = "    read only = no\n    follow symlinks = no";
    let Some(mut scene) = Scene::of(Server::builder().share("share", lines)) else {
        return;
    };
    let folder = scene.server.share("share");
    std::fs::write(folder.join("file"), b"").unwrap();
    symlink("file", folder.join("link")).unwrap();
    let refused = scene.refused("follow symlinks = no", |server| {
        Client::of(server, "share").open("link", OpenOptions::read())
    });
    assert_eq!(status(refused), NtStatus::ACCESS_DENIED);
}

/// One MiB, filled: what does not fit is refused, what did stays, and room that is made is used.
#[test]
fn a_full_disk_is_told_as_such() {
    let builder = Server::builder()
        .share("share", "    read only = no")
        .volume("share", "1m");
    let Some(mut scene) = Scene::of(builder) else {
        return;
    };
    const BLOCK: usize = 65536;
    let mut kept = 0;
    let refused = scene.refused("is full", |server| {
        let mut client = Client::of(server, "share");
        let file = client.open("big", OpenOptions::read_write()).unwrap();
        let outcome = loop {
            let data = vec![kept as u8; BLOCK];
            let offset = (kept * BLOCK) as u64;
            match client.connection.write(client.tree, file, offset, &data) {
                Ok(count) => assert_eq!(count as usize, BLOCK),
                refused => break refused,
            }
            kept += 1;
            assert!(kept <= 16, "more than the file system holds");
        };
        for block in 0..kept {
            let offset = (block * BLOCK) as u64;
            let read = client
                .connection
                .read(client.tree, file, offset, BLOCK as u32);
            assert!(
                read.unwrap().iter().all(|byte| *byte == block as u8),
                "block {block}"
            );
        }
        outcome
    });
    assert_eq!(status(refused), NtStatus::DISK_FULL);
    assert!(kept >= 10, "only {kept} blocks fitted");
    let mut client = Client::of(&scene.server, "share");
    let delete = OpenOptions {
        access: AccessMask::DELETE,
        options: CreateOptions::DELETE_ON_CLOSE,
        ..OpenOptions::read()
    };
    let big = client.open("big", delete).unwrap();
    client.connection.close(client.tree, big).unwrap();
    let file = client.open("next", OpenOptions::read_write()).unwrap();
    let written = client
        .connection
        .write(client.tree, file, 0, &[1; BLOCK])
        .unwrap();
    assert_eq!(written as usize, BLOCK);
}

/// A CREATE that asks for more room than there is fails, and the file it made goes with it.
#[test]
fn a_create_that_finds_no_room_leaves_no_file() {
    let builder = Server::builder()
        .share("share", "    read only = no")
        .volume("share", "1m");
    let Some(mut scene) = Scene::of(builder) else {
        return;
    };
    let refused = scene.refused("is full", |server| {
        let mut client = Client::of(server, "share");
        let file_name: Vec<u8> = "new".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut body = Vec::new();
        let options = OpenOptions::read_write();
        CreateRequest {
            requested_oplock_level: 0,
            impersonation_level: 2,
            desired_access: options.access,
            file_attributes: FileAttributes::empty(),
            share_access: options.share,
            create_disposition: CreateDisposition::Create.into(),
            create_options: options.options,
            name: &file_name,
            contexts: CreateContexts(&[]),
        }
        .encode(
            &[CreateContext {
                name: name::ALLOCATION_SIZE,
                data: &(8u64 << 20).to_le_bytes(),
            }],
            &mut body,
        );
        let (tree, connection) = (client.tree, &mut client.connection);
        let header = connection.header(Command::Create, Some(tree.session), tree.id);
        let refused = connection.exchange(header, &body).unwrap().header.status;
        let there = client.open("new", OpenOptions::read());
        assert_eq!(status(there), NtStatus::OBJECT_NAME_NOT_FOUND);
        refused
    });
    assert_eq!(refused, NtStatus::DISK_FULL);
}

/// The open of a CREATE that ends up behind the end of its tree connect is nobody's: it must be
/// gone, or the file could never be opened exclusively again.
#[test]
fn a_create_that_its_tree_connect_does_not_outlive_leaves_no_open() {
    let Some(mut scene) = Scene::plain() else {
        return;
    };
    scene.put("file", b"");
    scene.refused_silently(|server| {
        let mut client = Client::of(server, "share");
        for _ in 0..50 {
            let tree = client.tree;
            let connection = &mut client.connection;
            let body = create_body("file", OpenOptions::read());
            let create = connection.header(Command::Create, Some(tree.session), tree.id);
            let end = connection.header(Command::TreeDisconnect, Some(tree.session), tree.id);
            let create = connection.submit(create, &body).unwrap();
            let end = connection.submit(end, &[4, 0, 0, 0]).unwrap();
            let opened = connection.wait(create).unwrap().header.status;
            let ended = connection.wait(end).unwrap().header.status;
            assert_eq!(ended, NtStatus::SUCCESS);
            assert!(
                [NtStatus::SUCCESS, NtStatus::NETWORK_NAME_DELETED].contains(&opened),
                "{opened}"
            );
            client.tree = connection.tree_connect(client.session, "share").unwrap();
        }
        let alone = OpenOptions {
            access: AccessMask::READ_DATA | AccessMask::WRITE_DATA,
            share: proto::smb2::ShareAccess::empty(),
            disposition: CreateDisposition::Open,
            options: CreateOptions::empty(),
        };
        client.open("file", alone).expect("nobody has it open");
    });
}
