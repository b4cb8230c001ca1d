//! What a Windows client does when a folder is opened and a file is copied each way, as its own captures have
//! it: TCP first, the interfaces asked, two RDMA connections bound, payload by RDMA. Each kind of message that this
//! project speaks is in it, for a decoder that is not ours to show (`tests::wire`). `FLOW_ROUNDS` copies.

use proto::smb2::change_notify::{ChangeNotifyFlags, ChangeNotifyRequest, CompletionFilter};
use proto::smb2::close::{CloseFlags, CloseRequest};
use proto::smb2::create::{CreateRequest, CreateResponse};
use proto::smb2::create_context::{CreateContext, CreateContexts, name};
use proto::smb2::flush::FlushRequest;
use proto::smb2::info::{FileInfoClass, InfoType};
use proto::smb2::lease::{Lease, LeaseContext, LeaseFlags, LeaseState};
use proto::smb2::lock::{LockElement, LockFlags, LockRequest};
use proto::smb2::negotiate_context::{compression, rdma_transform};
use proto::smb2::query_directory::{QueryDirectoryFlags, QueryDirectoryRequest};
use proto::smb2::query_info::{QueryInfoFlags, QueryInfoRequest};
use proto::smb2::set_info::SetInfoRequest;
use proto::smb2::{
    AccessMask, Channel, Command, CreateOptions, FileAttributes, FileId, MessageId, NtStatus,
    SessionId, ShareAccess, TreeId,
};
use smbd::security::encryption::Cipher;
use tests::client::{ClientError, Connection, Offer, OpenOptions, Tree};
use tests::hazards::{Scene, guid, pattern};
use tests::server::{PASSWORD, USER};

use crate::deaths::Mount;

const CLIENT: u8 = 1;
const PIECE: usize = 96 << 10;

pub fn copies_as_windows_does(scene: &Scene) {
    let rounds = std::env::var("FLOW_ROUNDS").ok();
    let rounds: u64 = rounds.map_or(1, |rounds| rounds.parse().expect("FLOW_ROUNDS is a number"));
    let mut tcp = scene.connect_tcp().expect("the server listens");
    negotiate(&mut tcp);
    let session = tcp.log_on(USER, PASSWORD).expect("the user logs on");
    let ipc = tcp.tree_connect(session, "IPC$").expect("IPC$");
    let interfaces = tcp.interfaces(ipc).expect("the server's interfaces");
    assert!(!interfaces.is_empty());
    let tree = tcp.tree_connect(session, "share").expect("the share");
    let mut channels = Vec::new();
    for _ in 0..2 {
        let mut channel = scene.connect_rdma(CLIENT).expect("the server accepts");
        negotiate(&mut channel);
        let bound = channel.bind(session, &tcp, USER, PASSWORD);
        bound.expect("the channel is bound");
        // Signed, a client without the transform could not move payload by RDMA.
        channel.forget_key(session.id);
        channels.push(channel);
    }
    look_around(&mut channels[0], tree);
    for round in 0..rounds {
        for channel in &mut channels {
            copy(channel, tree, round);
        }
    }
    watch(&mut channels[1], tree);
    channels[1].echo().expect("ECHO");
    disconnect(&mut tcp, ipc);
    disconnect(&mut tcp, tree);
    tcp.log_off(session).expect("LOGOFF");
    kernel_client();
}

/// Verbs let nobody invalidate what this project's client registers; what the kernel's does, the server invalidates.
fn kernel_client() {
    let mount = Mount::over_rdma();
    let path = format!("{}/copied by the kernel", mount.folder());
    let data = pattern(PIECE, 3);
    std::fs::write(&path, &data).expect("it is written");
    assert!(std::fs::read(&path).expect("it is read") == data);
    std::fs::remove_file(&path).expect("it is removed");
}

fn negotiate(connection: &mut Connection) {
    let offer = Offer {
        client_guid: guid(CLIENT),
        ciphers: vec![Cipher::Aes128Gcm, Cipher::Aes128Ccm],
        compression: vec![compression::LZ4, compression::PATTERN_V1],
        chained_compression: true,
        rdma_transforms: vec![rdma_transform::ENCRYPTION, rdma_transform::SIGNING],
        ..Offer::default()
    };
    connection.exchange_negotiate(offer).expect("NEGOTIATE");
}

/// The share's root: what it is, what is in it, and a name that is not there.
fn look_around(channel: &mut Connection, tree: Tree) {
    let folder = OpenOptions {
        options: CreateOptions::DIRECTORY_FILE,
        ..OpenOptions::read()
    };
    let contexts = [
        (name::MAXIMAL_ACCESS, &[][..]),
        (name::QUERY_ON_DISK_ID, &[]),
    ];
    let root = open(channel, tree, "", folder, &contexts);
    for class in [1, 3, 5, 7] {
        query(channel, tree, root, InfoType::FileSystem, class);
    }
    query(
        channel,
        tree,
        root,
        InfoType::File,
        FileInfoClass::All.into(),
    );
    for (first, status) in [(true, NtStatus::SUCCESS), (false, NtStatus::NO_MORE_FILES)] {
        let mut body = Vec::new();
        QueryDirectoryRequest {
            file_information_class: FileInfoClass::IdBothDirectory.into(),
            flags: match first {
                true => QueryDirectoryFlags::RESTART_SCANS,
                false => QueryDirectoryFlags::empty(),
            },
            file_index: 0,
            file_id: root,
            pattern: &utf16("*"),
            output_buffer_length: 32768,
        }
        .encode(&mut body);
        assert_eq!(ask(channel, tree, Command::QueryDirectory, body), status);
    }
    channel.close(tree, root).expect("CLOSE");
    let missing = channel.open(tree, "no such file", OpenOptions::read());
    let status = missing.expect_err("it is not there").status();
    assert_eq!(status, Some(NtStatus::OBJECT_NAME_NOT_FOUND));
    compound(channel, tree);
}

/// CREATE, QUERY_INFO and CLOSE in one message, the later ones related to the first.
fn compound(channel: &mut Connection, tree: Tree) {
    let create = tests::client::create_body("", OpenOptions::read());
    let (mut query, mut close) = (Vec::new(), Vec::new());
    query_body(
        FileId::RELATED,
        InfoType::File,
        FileInfoClass::NetworkOpen.into(),
        &mut query,
    );
    CloseRequest {
        flags: CloseFlags::POSTQUERY_ATTRIB,
        file_id: FileId::RELATED,
    }
    .encode(&mut close);
    let bodies = [
        (Command::Create, create),
        (Command::QueryInfo, query),
        (Command::Close, close),
    ];
    let mut chain = Vec::new();
    for (command, body) in bodies {
        let mut header = channel.header(command, Some(tree.session), tree.id);
        if command != Command::Create {
            header.flags |= proto::smb2::HeaderFlags::RELATED_OPERATIONS;
            header.session_id = SessionId::RELATED;
            header.addressing = proto::smb2::Addressing::Sync(TreeId::RELATED);
        }
        chain.push((header, body));
    }
    let numbers: Vec<MessageId> = chain.iter().map(|(header, _)| header.message_id).collect();
    channel.submit_chain(chain).expect("a compound");
    for number in numbers {
        let reply = channel.wait(number).expect("an answer");
        reply.check().expect("a success");
    }
}

/// A file written and read back: by RDMA in one and in several descriptors, invalidated or not, and inline.
fn copy(channel: &mut Connection, tree: Tree, round: u64) {
    let lease = LeaseContext {
        lease: Lease {
            key: [7; 16],
            state: LeaseState::READ_CACHING | LeaseState::HANDLE_CACHING,
            flags: LeaseFlags::empty(),
        },
        v2: None,
    };
    let mut data = Vec::new();
    lease.encode(&mut data);
    let contexts = [
        (name::DURABLE_REQUEST, &[0; 16][..]),
        (name::MAXIMAL_ACCESS, &[]),
        (name::QUERY_ON_DISK_ID, &[]),
        (name::LEASE, &data),
    ];
    let options = OpenOptions {
        access: AccessMask::GENERIC_READ | AccessMask::GENERIC_WRITE | AccessMask::DELETE,
        ..OpenOptions::read_write()
    };
    let file = open(channel, tree, "copied", options, &contexts);
    let end_of_file = (2 * PIECE as u64).to_le_bytes();
    set(channel, tree, file, FileInfoClass::EndOfFile, &end_of_file);
    let kinds = [(Channel::RdmaV1, 1), (Channel::RdmaV1, 3)];
    for (number, (kind, pieces)) in (0..).zip(kinds) {
        let (offset, data) = (number * PIECE as u64, pattern(PIECE, round + number));
        let written = channel.write_rdma(tree, file, offset, &data, kind, pieces);
        assert_eq!(written.expect("WRITE"), PIECE as u32);
        let read = channel.read_rdma(tree, file, offset, PIECE as u32, kind, pieces);
        assert!(read.expect("READ") == data);
    }
    // Small pieces go inline, as Windows sends them.
    let short = pattern(700, round);
    let written = channel.write(tree, file, 0, &short).expect("WRITE");
    assert_eq!(written, 700);
    assert!(channel.read(tree, file, 0, 700).expect("READ") == short);
    // Longer than what one SMB Direct message holds: in fragments.
    let long = channel.read(tree, file, 0, 20_000).expect("READ");
    assert_eq!(long.len(), 20_000);
    let beyond = channel.read(tree, file, 1 << 30, 100);
    assert_eq!(
        beyond.expect_err("nothing there").status(),
        Some(NtStatus::END_OF_FILE)
    );
    lock(
        channel,
        tree,
        file,
        LockFlags::EXCLUSIVE | LockFlags::FAIL_IMMEDIATELY,
    );
    lock(channel, tree, file, LockFlags::UNLOCK);
    let mut flush = Vec::new();
    FlushRequest { file_id: file }.encode(&mut flush);
    assert_eq!(ask(channel, tree, Command::Flush, flush), NtStatus::SUCCESS);
    let mut basic = [0; 40];
    basic[16..24].copy_from_slice(&0x01d0_0000_0000_0000u64.to_le_bytes());
    set(channel, tree, file, FileInfoClass::Basic, &basic);
    set(channel, tree, file, FileInfoClass::Disposition, &[1]);
    channel.close(tree, file).expect("CLOSE");
}

/// CHANGE_NOTIFY, answered as pending, and its cancellation.
fn watch(channel: &mut Connection, tree: Tree) {
    let root = channel.open(tree, "", OpenOptions::read());
    let root = root.expect("the root opens");
    let mut body = Vec::new();
    ChangeNotifyRequest {
        flags: ChangeNotifyFlags::WATCH_TREE,
        output_buffer_length: 4096,
        file_id: root,
        completion_filter: CompletionFilter::FILE_NAME | CompletionFilter::LAST_WRITE,
    }
    .encode(&mut body);
    let header = channel.header(Command::ChangeNotify, Some(tree.session), tree.id);
    let watch = channel.submit(header, &body).expect("CHANGE_NOTIFY");
    channel.echo().expect("ECHO");
    let mut cancel = channel.header(Command::Cancel, Some(tree.session), tree.id);
    cancel.message_id = watch;
    cancel.credit_charge = 0;
    cancel.credits = 0;
    channel.submit(cancel, &[4, 0, 0, 0]).expect("CANCEL");
    let reply = channel.wait(watch).expect("an answer");
    assert_eq!(reply.header.status, NtStatus::CANCELLED);
    channel.close(tree, root).expect("CLOSE");
}

fn open(
    channel: &mut Connection,
    tree: Tree,
    path: &str,
    options: OpenOptions,
    contexts: &[(&[u8], &[u8])],
) -> FileId {
    let contexts: Vec<CreateContext<'_>> = contexts
        .iter()
        .map(|(name, data)| CreateContext { name, data })
        .collect();
    let mut body = Vec::new();
    CreateRequest {
        // SMB2_OPLOCK_LEVEL_LEASE where there is one.
        requested_oplock_level: if contexts.len() > 2 { 0xff } else { 0 },
        impersonation_level: 2,
        desired_access: options.access,
        file_attributes: FileAttributes::NORMAL,
        share_access: ShareAccess::all(),
        create_disposition: options.disposition.into(),
        create_options: options.options,
        name: &utf16(path),
        contexts: CreateContexts(&[]),
    }
    .encode(&contexts, &mut body);
    let header = channel.header(Command::Create, Some(tree.session), tree.id);
    let reply = channel
        .exchange(header, &body)
        .and_then(|reply| reply.check());
    let reply = reply.expect("it opens");
    let (response, _) = CreateResponse::decode(&reply.element).expect("a CREATE response");
    response.file_id
}

fn query_body(file: FileId, kind: InfoType, class: u8, body: &mut Vec<u8>) {
    QueryInfoRequest {
        info_type: kind.into(),
        file_info_class: class,
        output_buffer_length: 4096,
        additional_information: 0,
        flags: QueryInfoFlags::empty(),
        file_id: file,
        input: &[],
    }
    .encode(body);
}

fn query(channel: &mut Connection, tree: Tree, file: FileId, kind: InfoType, class: u8) {
    let mut body = Vec::new();
    query_body(file, kind, class, &mut body);
    let status = ask(channel, tree, Command::QueryInfo, body);
    assert_eq!(status, NtStatus::SUCCESS, "{kind:?} {class}");
}

fn set(channel: &mut Connection, tree: Tree, file: FileId, class: FileInfoClass, buffer: &[u8]) {
    let mut body = Vec::new();
    SetInfoRequest {
        info_type: InfoType::File.into(),
        file_info_class: class.into(),
        additional_information: 0,
        file_id: file,
        buffer,
    }
    .encode(&mut body);
    let status = ask(channel, tree, Command::SetInfo, body);
    assert_eq!(status, NtStatus::SUCCESS, "{class:?}");
}

fn lock(channel: &mut Connection, tree: Tree, file: FileId, flags: LockFlags) {
    let range = LockElement {
        offset: 10,
        length: 20,
        flags,
    };
    let mut body = Vec::new();
    LockRequest::encode(0, file, &[range], &mut body);
    assert_eq!(ask(channel, tree, Command::Lock, body), NtStatus::SUCCESS);
}

fn disconnect(channel: &mut Connection, tree: Tree) {
    let status = ask(channel, tree, Command::TreeDisconnect, vec![4, 0, 0, 0]);
    assert_eq!(status, NtStatus::SUCCESS);
}

fn ask(channel: &mut Connection, tree: Tree, command: Command, body: Vec<u8>) -> NtStatus {
    let header = channel.header(command, Some(tree.session), tree.id);
    match channel.exchange(header, &body) {
        Ok(reply) => reply.header.status,
        Err(ClientError::Status(status)) => status,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
