//! RDMA payload's rules that Microsoft's suite does not try: descriptors at their edges, channels that
//! are none, sizes, what is invalidated, and what SMB2 says of RDMA around it.

use proto::smb2::fsctl::InterfaceCapability;
use proto::smb2::negotiate::Capabilities;
use proto::smb2::read::ReadResponse;
use proto::smb2::write::WriteResponse;
use proto::smb2::{BufferDescriptorV1, Channel, Command, Dialect, NtStatus};
use tests::client::{
    Access, Connection, Offer, OpenOptions, Reply, Tcp, read_body, split, write_rdma_body,
};
use tests::hazards::pattern;
use tests::server::{PASSWORD, USER};

use crate::endpoint::Endpoint;
use crate::scene::{Scene, WireClient};
use crate::table::{Case, Devices, Group};
use crate::wire::{Line, Piece, Terms};

const BLOCK: u32 = 100_000;
const NO_WINDOWS: &str = super::rdma_channel::NO_WINDOWS;

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Beyond, name, section, rule, play);
    vec![
        case("Descriptors_MoreThanMoved", "MS-SMB2 3.3.5.12, .13",
            "descriptors may name more than is moved: what is left stays untouched", more_than_moved),
        case("Descriptors_FileTail", "MS-SMB2 3.3.5.12",
            "a READ beyond the end of the file moves what there is", file_tail),
        case("Descriptors_LessThanMoved", "MS-SMB2 3.3.5.12, .13",
            "descriptors that name less than is moved are refused", less_than_moved),
        case("Descriptors_None", "MS-SMB2 3.3.5.12, .13",
            "an RDMA channel without a whole descriptor is refused", no_descriptor),
        case("Descriptors_AnyPlace", "MS-SMBD 2.2.3.1",
            "payload of any length moves to and from any address", any_place),
        case("Channel_Unknown", "MS-SMB2 3.3.5.12, .13",
            "a channel that is none is refused", unknown_channel),
        case("Channel_OverTcp", "MS-SMB2 3.3.5.12, .13",
            "an RDMA channel over TCP is refused", over_tcp),
        case("Channel_None", "MS-SMB2 3.3.5.12, .13",
            "without a channel payload moves inside messages", inside_messages),
        case("Channel_MaxReadWriteSize", "MS-SMB2 3.3.5.12, .13",
            "more than MaxReadSize or MaxWriteSize is refused", max_read_write_size),
        case("Invalidate_FirstOnly", "MS-SMB2 3.3.5.12",
            "of several tokens the first is invalidated", first_only)
            .without(Devices::Rxe, NO_WINDOWS).without(Devices::Siw, NO_WINDOWS),
        case("Invalidate_Errors", "MS-SMB2 3.3.5.12, .13",
            "an error invalidates the token too", invalidating_errors)
            .without(Devices::Rxe, NO_WINDOWS).without(Devices::Siw, NO_WINDOWS),
        case("Dialect_Smb2", "MS-SMB2 2.1",
            "SMB Direct carries 3.x alone", smb2_dialects),
        case("Interfaces_Rdma", "MS-SMB2 3.3.5.15.11",
            "a client is told which interfaces have RDMA", interfaces)
            .without(Devices::Simulated, "a simulated device is on no network interface of this machine"),
        case("Context_EmptyTransformIds", "MS-SMB2 3.3.5.4",
            "an RDMA transform context without ids is refused",
            |scene| transform_context(scene, |context| context[8..10].fill(0))),
        case("Context_InvalidDataLength", "MS-SMB2 3.3.5.4",
            "an RDMA transform context shorter than its count is refused",
            |scene| transform_context(scene, |context| context[8] = 200)),
    ]
}

/// What a READ or WRITE with this body is answered.
#[track_caller]
fn status<E: Endpoint>(
    client: &mut WireClient<E>,
    command: Command,
    length: u32,
    body: &[u8],
) -> NtStatus {
    exchange(client, command, length, body).header.status
}

#[track_caller]
fn exchange<E: Endpoint>(
    client: &mut WireClient<E>,
    command: Command,
    length: u32,
    body: &[u8],
) -> Reply {
    let connection = &mut client.connection;
    let header = connection.payload_header(command, client.tree, length);
    connection.exchange(header, body).expect("an answer")
}

fn body<E: Endpoint>(
    client: &WireClient<E>,
    command: Command,
    length: u32,
    descriptors: &[BufferDescriptorV1],
) -> Vec<u8> {
    match command {
        Command::Read => read_body(client.file, 0, length, Channel::RdmaV1, descriptors),
        _ => write_rdma_body(client.file, 0, length, Channel::RdmaV1, descriptors),
    }
}

/// Three descriptors of 50,000 bytes for 60,000: the first whole, a part of the second.
fn more_than_moved<E: Endpoint>(scene: &Scene<E>) {
    const LENGTH: u32 = 60_000;
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(3 * 50_000, 1);
    let rdma = client.connection.rdma().expect("RDMA");
    let source = rdma.expose(&data, Access::RemoteRead).expect("memory");
    let list = split(source.descriptor, 3);
    let request = body(&client, Command::Write, LENGTH, &list);
    let reply = exchange(&mut client, Command::Write, LENGTH, &request);
    let reply = reply.check().expect("WRITE");
    assert_eq!(
        WriteResponse::decode(&reply.element).expect("WRITE").count,
        LENGTH
    );
    assert!(std::fs::read(&client.path).unwrap() == data[..LENGTH as usize]);

    let rdma = client.connection.rdma().expect("RDMA");
    let target = rdma
        .expose(&vec![0xee; 3 * 50_000], Access::RemoteWrite)
        .expect("memory");
    let request = body(&client, Command::Read, LENGTH, &split(target.descriptor, 3));
    let reply = exchange(&mut client, Command::Read, LENGTH, &request);
    let reply = reply.check().expect("READ");
    assert_eq!(
        ReadResponse::decode(&reply.element)
            .expect("READ")
            .data_remaining,
        LENGTH
    );
    let there = client.connection.rdma().unwrap().contents(target).unwrap();
    assert!(there[..LENGTH as usize] == data[..LENGTH as usize]);
    assert!(there[LENGTH as usize..].iter().all(|byte| *byte == 0xee));
    client.leave_with(&data[..LENGTH as usize]);
}

/// 129 KiB of a file, and 256 KiB asked for.
fn file_tail<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(129 << 10, 2);
    std::fs::write(&client.path, &data).expect("fill the file");
    let (tree, file) = (client.tree, client.file);
    for pieces in [1, 3] {
        let read = client
            .connection
            .read_rdma(tree, file, 0, 256 << 10, Channel::RdmaV1, pieces);
        assert!(read.expect("READ") == data, "{pieces}");
        let tail =
            client
                .connection
                .read_rdma(tree, file, 128 << 10, 64 << 10, Channel::RdmaV1, pieces);
        assert!(tail.expect("READ") == data[128 << 10..], "{pieces}");
    }
    let behind = client
        .connection
        .read_rdma(tree, file, 129 << 10, 4096, Channel::RdmaV1, 1);
    assert_eq!(behind.unwrap_err().status(), Some(NtStatus::END_OF_FILE));
    client.leave_with(&data);
}

fn less_than_moved<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 3);
    for (command, access) in [
        (Command::Read, Access::RemoteWrite),
        (Command::Write, Access::RemoteRead),
    ] {
        let memory = client.connection.rdma().unwrap().expose(&data, access);
        let memory = memory.expect("memory");
        let request = body(&client, command, BLOCK + 1, &[memory.descriptor]);
        let refused = status(&mut client, command, BLOCK + 1, &request);
        assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{command:?}");
        let there = client.connection.rdma().unwrap().contents(memory).unwrap();
        assert!(there == data, "{command:?}");
    }
    client.leave_with(b"");
}

/// Where a body has its channel information's offset and length, and the information.
fn information_fields(command: Command) -> (usize, usize) {
    // MS-SMB2 2.2.19 and 2.2.21.
    match command {
        Command::Read => (44, 46),
        _ => (40, 42),
    }
}

fn no_descriptor<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 4);
    let memory = client
        .connection
        .rdma()
        .unwrap()
        .expose(&data, Access::RemoteRead);
    let list = [memory.expect("memory").descriptor];
    for command in [Command::Read, Command::Write] {
        let (offset, length) = information_fields(command);
        let good = body(&client, command, BLOCK, &list);
        let mut bad: Vec<(&str, Vec<u8>)> = Vec::new();
        for (what, at, value) in [
            ("no information", length, 0u16),
            ("half a descriptor", length, 8),
            ("one and a half", length, 24),
            ("in the header", offset, 16),
            ("outside of the message", offset, 0xfff0),
            ("longer than the message", length, 0xfff0),
        ] {
            let mut body = good.clone();
            body[at..at + 2].copy_from_slice(&value.to_le_bytes());
            bad.push((what, body));
        }
        for (what, body) in bad {
            let refused = status(&mut client, command, BLOCK, &body);
            assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{command:?}: {what}");
        }
    }
    client.leave_with(b"");
}

fn any_place<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    for (length, skip) in [
        (1u32, 1u32),
        (511, 3),
        (4095, 7),
        (4096, 4095),
        (4097, 1),
        (65_537, 13),
    ] {
        let data = pattern(length as usize, 5);
        let mut around = vec![0xee; skip as usize];
        around.extend_from_slice(&data);
        around.extend_from_slice(&[0xee; 64]);
        let within = |whole: BufferDescriptorV1| BufferDescriptorV1 {
            offset: whole.offset + u64::from(skip),
            length,
            ..whole
        };
        let source = client
            .connection
            .rdma()
            .unwrap()
            .expose(&around, Access::RemoteRead);
        let source = within(source.expect("memory").descriptor);
        let request = body(&client, Command::Write, length, &[source]);
        assert_eq!(
            status(&mut client, Command::Write, length, &request),
            NtStatus::SUCCESS
        );
        assert!(std::fs::read(&client.path).unwrap()[..length as usize] == data);
        let empty = vec![0xee; around.len()];
        let target = client
            .connection
            .rdma()
            .unwrap()
            .expose(&empty, Access::RemoteWrite);
        let target = target.expect("memory");
        let request = body(&client, Command::Read, length, &[within(target.descriptor)]);
        assert_eq!(
            status(&mut client, Command::Read, length, &request),
            NtStatus::SUCCESS
        );
        let there = client.connection.rdma().unwrap().contents(target).unwrap();
        assert!(there == around, "{length} bytes at {skip}");
    }
    let all = pattern(65_537, 5);
    client.leave_with(&all);
}

fn unknown_channel<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 6);
    let memory = client
        .connection
        .rdma()
        .unwrap()
        .expose(&data, Access::RemoteRead);
    let list = [memory.expect("memory").descriptor];
    for (command, at) in [(Command::Read, 36), (Command::Write, 32)] {
        // 3 is the transform's, which dialect 3.0.2 does not know.
        for channel in [3, 4, 0x100, u32::MAX] {
            let mut request = body(&client, command, BLOCK, &list);
            request[at..at + 4].copy_from_slice(&channel.to_le_bytes());
            let refused = status(&mut client, command, BLOCK, &request);
            assert_eq!(
                refused,
                NtStatus::INVALID_PARAMETER,
                "{command:?}: {channel}"
            );
        }
    }
    client.leave_with(b"");
}

fn over_tcp<E: Endpoint>(scene: &Scene<E>) {
    let over_tcp = Tcp::connect(scene.server.address()).expect("a TCP connection");
    let connection = Connection::negotiate(over_tcp, Offer::only(Dialect::Smb302));
    let mut connection = connection.expect("NEGOTIATE");
    let session = connection.log_on(USER, PASSWORD).expect("log on");
    let tree = connection.tree_connect(session, "share").expect("connect");
    let (name, _) = scene.new_file();
    let file = connection
        .open(tree, &name, OpenOptions::read_write())
        .expect("open");
    let list = [BufferDescriptorV1 {
        offset: 4096,
        token: 7,
        length: 4096,
    }];
    for channel in [Channel::RdmaV1, Channel::RdmaV1Invalidate] {
        for (command, body) in [
            (Command::Read, read_body(file, 0, 4096, channel, &list)),
            (
                Command::Write,
                write_rdma_body(file, 0, 4096, channel, &list),
            ),
        ] {
            let header = connection.payload_header(command, tree, 4096);
            let reply = connection.exchange(header, &body).expect("an answer");
            assert_eq!(
                reply.header.status,
                NtStatus::INVALID_PARAMETER,
                "{command:?}"
            );
        }
    }
    connection.close(tree, file).expect("close");
}

fn inside_messages<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 7);
    assert_eq!(client.write(&data).expect("WRITE"), BLOCK);
    assert!(client.read(BLOCK as usize).expect("READ") == data);
    client.leave_with(&data);
}

fn max_read_write_size<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let negotiated = client.connection.negotiated();
    let most = negotiated.max_read_size.max(negotiated.max_write_size);
    let offered = client.line.wire().response.max_read_write_size;
    assert!(most <= offered, "{most}, and SMB Direct takes {offered}");
    let memory = client
        .connection
        .rdma()
        .unwrap()
        .expose(&vec![0; most as usize + 1], Access::RemoteRead);
    let list = [memory.expect("memory").descriptor];
    for command in [Command::Read, Command::Write] {
        let request = body(&client, command, most + 1, &list);
        let refused = status(&mut client, command, most + 1, &request);
        assert_eq!(refused, NtStatus::INVALID_PARAMETER, "{command:?}");
    }
    client.leave_with(b"");
}

fn first_only<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let data = pattern(BLOCK as usize, 8);
    std::fs::write(&client.path, &data).expect("fill the file");
    let rdma = client.connection.rdma().unwrap();
    let half = vec![0; BLOCK as usize / 2];
    let memories = [(); 2].map(|()| rdma.expose(&half, Access::RemoteWrite).expect("memory"));
    let list = memories.map(|memory| memory.descriptor);
    let request = read_body(client.file, 0, BLOCK, Channel::RdmaV1Invalidate, &list);
    assert_eq!(
        status(&mut client, Command::Read, BLOCK, &request),
        NtStatus::SUCCESS
    );
    let rdma = client.connection.rdma().unwrap();
    let there = memories
        .map(|memory| rdma.contents(memory).unwrap())
        .concat();
    assert!(there == data);
    let invalidated = memories.map(|memory| rdma.withdraw(memory).unwrap());
    assert_eq!(invalidated, [true, false]);
    client.leave_with(&data);
}

fn invalidating_errors<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    for (command, access) in [
        (Command::Read, Access::RemoteWrite),
        (Command::Write, Access::RemoteRead),
    ] {
        let memory = client.connection.rdma().unwrap().expose(&[1; 4096], access);
        let memory = memory.expect("memory");
        let list = [memory.descriptor];
        let mut nobodys = client.file;
        nobodys.volatile ^= 0x5a5a;
        let request = match command {
            Command::Read => read_body(nobodys, 0, 4096, Channel::RdmaV1Invalidate, &list),
            _ => write_rdma_body(nobodys, 0, 4096, Channel::RdmaV1Invalidate, &list),
        };
        let refused = status(&mut client, command, 4096, &request);
        assert_eq!(refused, NtStatus::FILE_CLOSED, "{command:?}");
        let rdma = client.connection.rdma().unwrap();
        assert!(rdma.withdraw(memory).unwrap(), "{command:?}");
    }
    client.leave_with(b"");
}

fn smb2_dialects<E: Endpoint>(scene: &Scene<E>) {
    for dialect in [Dialect::Smb202, Dialect::Smb210] {
        let refused = scene.connect(Offer::only(dialect));
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(NtStatus::NOT_SUPPORTED), "{dialect:?}");
    }
    for dialect in [Dialect::Smb300, Dialect::Smb302, Dialect::Smb311] {
        let served = scene.connect(Offer::only(dialect)).expect("NEGOTIATE");
        assert_eq!(served.negotiated().dialect, dialect);
    }
}

fn interfaces<E: Endpoint>(scene: &Scene<E>) {
    let mut client = scene.client(Terms::BASIC);
    let capabilities = client.connection.negotiated().capabilities;
    assert!(capabilities.contains(Capabilities::MULTI_CHANNEL));
    let interfaces = client
        .connection
        .interfaces(client.tree)
        .expect("the IOCTL");
    let own = interfaces.iter().find(|one| {
        one.address == scene.rdma.ip() && one.capability.contains(InterfaceCapability::RDMA_CAPABLE)
    });
    let own = own.unwrap_or_else(|| panic!("{} is not among {interfaces:?}", scene.rdma.ip()));
    assert!(own.link_speed > 0, "{own:?}");
    client.leave_with(b"");
}

/// A NEGOTIATE whose RDMA transform context was spoilt so, its 8 bytes of header included, is refused.
fn transform_context<E: Endpoint>(scene: &Scene<E>, spoil: fn(&mut [u8])) {
    let line = Line::<E>::new(scene.wire(Terms::BASIC));
    line.wire().cut_next(move |message| {
        let mut message = message.to_vec();
        // MS-SMB2 2.2.3.1: type 7, its length, four reserved bytes; the ids are the two asked for.
        let context = [7, 0, 12, 0, 0, 0, 0, 0, 2, 0];
        let at = message.windows(10).position(|bytes| bytes == context);
        spoil(&mut message[at.expect("the context")..]);
        Piece::cut(&message, [1000])
    });
    let offer = Offer {
        rdma_transforms: vec![1, 2],
        ..Offer::only(Dialect::Smb311)
    };
    let refused = Connection::negotiate(line, offer);
    let status = refused.err().and_then(|error| error.status());
    assert_eq!(status, Some(NtStatus::INVALID_PARAMETER));
}
