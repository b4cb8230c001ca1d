//! READ and WRITE by RDMA (MS-SMB2 3.3.5.12, 3.3.5.13): the suite's 9 cases of the channel itself, its 6
//! of remote invalidation, its 2 of a session over TCP that gets an RDMA channel.

use std::net::SocketAddr;

use proto::smb2::read::ReadResponse;
use proto::smb2::write::WriteResponse;
use proto::smb2::{BufferDescriptorV1, Channel, Command, Dialect, NtStatus};
use tests::client::{
    Access, ClientError, Connection, ExposedMemory, Offer, OpenOptions, Tcp, read_body,
    write_rdma_body,
};
use tests::hazards::pattern;
use tests::server::{PASSWORD, USER};

use crate::endpoint::Endpoint;
use crate::scene::{Scene, WireClient};
use crate::table::{Case, Devices, Group};
use crate::wire::Terms;

/// Operations of a case with many.
const MANY: u32 = 64;
const BLOCK: u32 = 100_000;

pub const NO_WINDOWS: &str =
    "the test's memory cannot be invalidated by a peer there: verbs ask for a memory window";

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let channel = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::RdmaChannel, name, section, rule, play);
    let invalidate = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Invalidate, name, section, rule, play);
    let multichannel = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Multichannel, name, section, rule, play);
    vec![
        channel("BVT_Smb2OverRdmaChannel_ReadLargeFile", "MS-SMB2 3.3.5.12",
            "a READ of MaxReadSize moves by RDMA", |scene| read(scene, 1)),
        channel("BVT_Smb2OverRdmaChannel_WriteLargeFile", "MS-SMB2 3.3.5.13",
            "a WRITE of MaxWriteSize moves by RDMA", |scene| write(scene, 1)),
        channel("Smb2OverRdmaChannel_ReadMultipleOperation", "MS-SMB2 3.3.5.12",
            "READs one after the other move by RDMA", |scene| read(scene, MANY)),
        channel("Smb2OverRdmaChannel_WriteMultipleOperation", "MS-SMB2 3.3.5.13",
            "WRITEs one after the other move by RDMA", |scene| write(scene, MANY)),
        channel("Smb2OverRdmaChannel_ReadWriteMultipleBufferDescriptorList", "MS-SMB2 2.2.19, 2.2.21",
            "several descriptors are one buffer", several_descriptors),
        channel("Smb2OverRdmaChannel_InvalidBufferDescriptor_Offset", "MS-SMB2 3.3.5.12",
            "a wrong Offset gets an error or the end, and harms nobody else",
            |scene| bad_descriptor(scene, |good| good.offset = u64::from(good.length) + 1)),
        channel("Smb2OverRdmaChannel_InvalidBufferDescriptor_Length", "MS-SMB2 3.3.5.12",
            "a wrong Length gets an error or the end, and harms nobody else",
            |scene| bad_descriptor(scene, |good| good.length += 4096)),
        channel("Smb2OverRdmaChannel_InvalidBufferDescriptor_Token", "MS-SMB2 3.3.5.12",
            "a wrong Token gets an error or the end, and harms nobody else",
            |scene| bad_descriptor(scene, |good| good.token = good.token.wrapping_add(1))),
        channel("Smb2OverRdmaChannel_InvalidBufferDescriptor_DeregisteredBuffer", "MS-SMB2 3.3.5.12",
            "memory taken back gets an error or the end, and harms nobody else", deregistered),
        invalidate("BVT_Smb2OverRdma_Smb302_Write_SMB2_CHANNEL_RDMA_V1_INVALIDATE", "MS-SMB2 3.3.5.13",
            "a WRITE's reply invalidates the token when asked to", |scene| invalidated(scene, Command::Write))
            .without(Devices::Rxe, NO_WINDOWS).without(Devices::Siw, NO_WINDOWS),
        invalidate("BVT_Smb2OverRdma_Smb302_Read_SMB2_CHANNEL_RDMA_V1_INVALIDATE", "MS-SMB2 3.3.5.12",
            "a READ's reply invalidates the token when asked to", |scene| invalidated(scene, Command::Read))
            .without(Devices::Rxe, NO_WINDOWS).without(Devices::Siw, NO_WINDOWS),
        invalidate("Smb2OverRdma_Write_SMB2_CHANNEL_RDMA_V1", "MS-SMB2 3.3.5.13",
            "a WRITE's reply leaves the token valid unless asked", |scene| left_valid(scene, Command::Write)),
        invalidate("Smb2OverRdma_Read_SMB2_CHANNEL_RDMA_V1", "MS-SMB2 3.3.5.12",
            "a READ's reply leaves the token valid unless asked", |scene| left_valid(scene, Command::Read)),
        invalidate("Smb2OverRdma_Smb300_Write_SMB2_CHANNEL_RDMA_V1_INVALIDATE", "MS-SMB2 3.3.5.13",
            "3.0 has no invalidation: such a WRITE is refused", |scene| not_in_smb300(scene, Command::Write)),
        invalidate("Smb2OverRdma_Smb300_Read_SMB2_CHANNEL_RDMA_V1_INVALIDATE", "MS-SMB2 3.3.5.12",
            "3.0 has no invalidation: such a READ is refused", |scene| not_in_smb300(scene, Command::Read)),
        multichannel("BVT_Smb2MultipleChannel_2Channels_DiffNicTypeDiffTransport", "MS-SMB2 3.3.5.5.2",
            "RDMA joins a session over TCP on an interface without RDMA", |scene| {
                let tcp = scene.tcp_without_rdma();
                two_channels(scene, tcp);
            }),
        multichannel("Smb2Multichannel_2Channels_DiffTransport", "MS-SMB2 3.3.5.5.2",
            "RDMA joins a session over TCP on the same interface", |scene| {
                let tcp = scene.server.address();
                two_channels(scene, tcp);
            }).without(Devices::Simulated, "a simulated device carries no TCP"),
    ]
}

fn read<E: Endpoint>(scene: &Scene<E>, operations: u32) {
    let mut client = scene.client(Terms::BASIC);
    let most = client.connection.negotiated().max_read_size;
    let data = pattern(most as usize, 1);
    std::fs::write(&client.path, &data).expect("fill the file");
    let each = most / operations;
    for offset in (0..most).step_by(each as usize) {
        let (tree, file) = (client.tree, client.file);
        let read = client
            .connection
            .read_rdma(tree, file, offset.into(), each, Channel::RdmaV1, 1);
        let expected = &data[offset as usize..(offset + each) as usize];
        assert!(read.expect("READ") == expected, "{offset}");
    }
    client.leave_with(&data);
}

fn write<E: Endpoint>(scene: &Scene<E>, operations: u32) {
    let mut client = scene.client(Terms::BASIC);
    let most = client.connection.negotiated().max_write_size;
    let data = pattern(most as usize, 2);
    let each = most / operations;
    for (offset, part) in (0..).step_by(each as usize).zip(data.chunks(each as usize)) {
        let (tree, file) = (client.tree, client.file);
        let written = client
            .connection
            .write_rdma(tree, file, offset, part, Channel::RdmaV1, 1);
        assert_eq!(written.expect("WRITE"), each, "{offset}");
    }
    client.leave_with(&data);
}

fn several_descriptors<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let (tree, file) = (client.tree, client.file);
    let data = pattern(1 << 20, 3);
    for pieces in [2, 7, 32] {
        let connection = &mut client.connection;
        let written = connection.write_rdma(tree, file, 0, &data, Channel::RdmaV1, pieces);
        assert_eq!(written.expect("WRITE"), 1 << 20, "{pieces}");
        let read = connection.read_rdma(tree, file, 0, 1 << 20, Channel::RdmaV1, pieces);
        assert!(read.expect("READ") == data, "{pieces}");
    }
    client.leave_with(&data);
}

/// Memory of the client's, and a READ or a WRITE of it by that channel.
fn by_rdma<E: Endpoint>(
    client: &mut WireClient<E>,
    command: Command,
    channel: Channel,
    descriptor: BufferDescriptorV1,
    length: u32,
) -> Result<NtStatus, ClientError> {
    let (tree, file) = (client.tree, client.file);
    let body = match command {
        Command::Read => read_body(file, 0, length, channel, &[descriptor]),
        _ => write_rdma_body(file, 0, length, channel, &[descriptor]),
    };
    let header = client.connection.payload_header(command, tree, length);
    let reply = client.connection.exchange(header, &body)?;
    if !reply.header.status.is_error() {
        match command {
            Command::Read => {
                let response = ReadResponse::decode(&reply.element).expect("READ");
                assert_eq!(response.data.len(), 0, "DataLength");
                assert_eq!(response.data_remaining, length, "DataRemaining");
                assert_eq!(reply.element[64 + 2], 80, "DataOffset");
            }
            _ => {
                let response = WriteResponse::decode(&reply.element).expect("WRITE");
                assert_eq!(response.count, length, "Count");
            }
        }
    }
    Ok(reply.header.status)
}

#[track_caller]
fn expose<E: Endpoint>(client: &mut WireClient<E>, command: Command, data: &[u8]) -> ExposedMemory {
    let access = match command {
        Command::Read => Access::RemoteWrite,
        _ => Access::RemoteRead,
    };
    let rdma = client.connection.rdma().expect("RDMA");
    rdma.expose(data, access).expect("memory")
}

/// Both an error and the end of the connection are right; moving anything is not.
#[track_caller]
fn refused(outcome: Result<NtStatus, ClientError>) {
    match outcome {
        Ok(status) => assert!(status.is_error(), "answered {status}"),
        Err(ClientError::Closed) => {}
        Err(error) => panic!("neither refused nor ended: {error}"),
    }
}

fn bad_descriptor<E: Endpoint>(scene: &Scene<E>, spoil: fn(&mut BufferDescriptorV1)) {
    for command in [Command::Read, Command::Write] {
        let mut client = scene.client(Terms::BASIC);
        let before = pattern(BLOCK as usize, 4);
        if command == Command::Read {
            // Longer than the memory, so that each byte of the descriptor is used.
            let longer = pattern(2 * BLOCK as usize, 5);
            std::fs::write(&client.path, longer).expect("fill the file");
        }
        let memory = expose(&mut client, command, &before);
        let mut bad = memory.descriptor;
        spoil(&mut bad);
        refused(by_rdma(
            &mut client,
            command,
            Channel::RdmaV1,
            bad,
            bad.length,
        ));
        if command == Command::Write {
            assert_eq!(std::fs::read(&client.path).unwrap(), b"");
        }
        client.line.wire().disconnect();
    }
}

fn deregistered<E: Endpoint>(scene: &Scene<E>) {
    for command in [Command::Read, Command::Write] {
        let mut client = scene.client(Terms::BASIC);
        if command == Command::Read {
            std::fs::write(&client.path, pattern(BLOCK as usize, 5)).expect("fill the file");
        }
        let memory = expose(&mut client, command, &pattern(BLOCK as usize, 4));
        client.connection.rdma().unwrap().withdraw(memory).unwrap();
        let gone = memory.descriptor;
        refused(by_rdma(&mut client, command, Channel::RdmaV1, gone, BLOCK));
        if command == Command::Write {
            assert_eq!(std::fs::read(&client.path).unwrap(), b"");
        }
        client.line.wire().disconnect();
    }
}

/// The memory can be used once.
fn invalidated<E: Endpoint>(scene: &Scene<E>, command: Command) {
    let mut client = scene.client(Terms::BASIC);
    std::fs::write(&client.path, pattern(BLOCK as usize, 6)).expect("fill the file");
    let data = pattern(BLOCK as usize, 7);
    let memory = expose(&mut client, command, &data);
    let channel = Channel::RdmaV1Invalidate;
    let first = by_rdma(&mut client, command, channel, memory.descriptor, BLOCK);
    assert_eq!(first.expect("an answer"), NtStatus::SUCCESS);
    let stored = std::fs::read(&client.path).expect("the file is there");
    let contents = client.connection.rdma().unwrap().contents(memory).unwrap();
    assert!(stored == contents);
    refused(by_rdma(
        &mut client,
        command,
        channel,
        memory.descriptor,
        BLOCK,
    ));
    let rdma = client.connection.rdma().unwrap();
    assert!(rdma.withdraw(memory).unwrap(), "the token is still valid");
}

/// The memory can be used again.
fn left_valid<E: Endpoint>(scene: &Scene<E>, command: Command) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 8);
    std::fs::write(&client.path, &data).expect("fill the file");
    let memory = expose(&mut client, command, &data);
    for _ in 0..2 {
        let done = by_rdma(
            &mut client,
            command,
            Channel::RdmaV1,
            memory.descriptor,
            BLOCK,
        );
        assert_eq!(done.expect("an answer"), NtStatus::SUCCESS);
    }
    let rdma = client.connection.rdma().unwrap();
    assert!(rdma.contents(memory).unwrap() == data);
    assert!(!rdma.withdraw(memory).unwrap(), "nobody asked for it");
    client.leave_with(&data);
}

/// Refused, and the memory can be used as 3.0 knows it.
fn not_in_smb300<E: Endpoint>(scene: &Scene<E>, command: Command) {
    let mut client = scene.client_of(Terms::BASIC, Dialect::Smb300);
    let data = pattern(BLOCK as usize, 9);
    std::fs::write(&client.path, &data).expect("fill the file");
    let memory = expose(&mut client, command, &data);
    let own = memory.descriptor;
    let refused = by_rdma(&mut client, command, Channel::RdmaV1Invalidate, own, BLOCK);
    assert_eq!(refused.expect("an answer"), NtStatus::INVALID_PARAMETER);
    let served = by_rdma(&mut client, command, Channel::RdmaV1, own, BLOCK);
    assert_eq!(served.expect("an answer"), NtStatus::SUCCESS);
    client.leave_with(&data);
}

/// Written by TCP, read by RDMA in the same session.
fn two_channels<E: Endpoint>(scene: &Scene<E>, tcp: SocketAddr) {
    let offer = Offer::only(Dialect::Smb302);
    let over_tcp = Tcp::connect(tcp).expect("a TCP connection");
    let mut main = Connection::negotiate(over_tcp, offer.clone()).expect("NEGOTIATE");
    let session = main.log_on(USER, PASSWORD).expect("log on");
    let tree = main.tree_connect(session, "share").expect("connect");
    let (name, _) = scene.new_file();
    let file = main.open(tree, &name, OpenOptions::read_write());
    let file = file.expect("open");
    let data = pattern(1 << 20, 10);
    (0..4).for_each(|_| main.echo().expect("echo"));
    let written = main.write(tree, file, 0, &data).expect("WRITE");
    assert_eq!(written, 1 << 20);
    let mut alternative = scene.connect(offer).expect("NEGOTIATE");
    let bound = alternative.bind(session, &main, USER, PASSWORD);
    bound.expect("bind the channel");
    // From here on nothing is signed, or the bare payload would be refused.
    main.forget_key(session.id);
    alternative.forget_key(session.id);
    (0..4).for_each(|_| alternative.echo().expect("echo"));
    let read = alternative.read_rdma(tree, file, 0, 1 << 20, Channel::RdmaV1, 1);
    assert!(read.expect("READ") == data);
    alternative.close(tree, file).expect("close");
}
