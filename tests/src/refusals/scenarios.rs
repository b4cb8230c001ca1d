//! What is tried over SMB Direct, by name: bad descriptors, bad frames, clients that vanish, payload
//! that nothing protects.

use proto::smb2::{BufferDescriptorV1, Channel, Command, Header, MessageId, NtStatus};
use proto::smbdirect::messages::{DataTransferHeader, NegotiateRequest};

use super::stage::{Client, Stage, status_or_closed};
use super::{Enter, RdmaClient};
use crate::client::{Access, ClientError, ExposedMemory, Reply, read_body, split, write_rdma_body};
use crate::server::ServerBuilder;

/// All there are.
pub const SCENARIOS: [&str; 5] = [
    "descriptors",
    "frames",
    "vanishing",
    "unprotected",
    "full-disk",
];

/// Bytes of the memory that descriptors are made of. They fit a message too.
const LENGTH: u32 = 32 << 10;

/// Plays a scenario on a server made of this builder. False, noted as a skip, where it cannot run.
pub fn play<C: RdmaClient>(name: &str, server: ServerBuilder, enter: Enter) -> bool {
    // A bystander has to do without RDMA where it is what is refused.
    let (setting, channel) = match name {
        "unprotected" => ("server signing = mandatory", Channel::None),
        _ => ("rdma allow unprotected payload = yes", Channel::RdmaV1),
    };
    let server = match name {
        "full-disk" => server.volume("share", "1m"),
        _ => server,
    };
    let Some(mut stage) = Stage::<C>::begin(server.global(setting), enter, channel) else {
        return false;
    };
    match name {
        "descriptors" => descriptors(&mut stage),
        "frames" => frames(&mut stage),
        "vanishing" => vanishing(&mut stage),
        "unprotected" => unprotected(&mut stage),
        "full-disk" => full_disk(&mut stage),
        _ => panic!("{name} is none of {SCENARIOS:?}"),
    }
    stage.end();
    true
}

/// What becomes of memory that the client exposed before the server is told of it.
type Falsify = fn(&mut Client, ExposedMemory) -> Vec<BufferDescriptorV1>;

/// Descriptors of memory that is not there, not that long, or not for this: the device refuses, and
/// the connection ends. Descriptors that the server itself can see through get a status.
fn descriptors<C: RdmaClient>(stage: &mut Stage<C>) {
    let ended: [(&str, Falsify); 4] = [
        ("a token nobody gave out", |_, memory| {
            vec![BufferDescriptorV1 {
                token: memory.descriptor.token ^ 0x5a5a_5a00,
                ..memory.descriptor
            }]
        }),
        ("an offset behind the memory", |_, memory| {
            vec![BufferDescriptorV1 {
                offset: memory.descriptor.offset + (1 << 30),
                ..memory.descriptor
            }]
        }),
        ("more bytes than the memory has", |_, memory| {
            vec![BufferDescriptorV1 {
                offset: memory.descriptor.offset + u64::from(LENGTH / 2),
                ..memory.descriptor
            }]
        }),
        ("memory that was taken back", |client, memory| {
            client.connection.rdma().unwrap().withdraw(memory).unwrap();
            vec![memory.descriptor]
        }),
    ];
    for (what, falsify) in ended {
        for command in [Command::Read, Command::Write] {
            let what = format!("{what}, {command:?}");
            stage.denied_by_client(&what, |stage| {
                let mut client = stage.client();
                let memory = fill(&mut client);
                let descriptors = falsify(&mut client, memory);
                let outcome = ask(&mut client, command, &descriptors);
                assert_eq!(status_or_closed(outcome), Err(()), "{what}");
            });
        }
    }
    let refused: [(&str, &str, Falsify); 3] = [
        ("no descriptor", "no buffer descriptor", |_, _| Vec::new()),
        ("257 descriptors", "more than 256", |_, memory| {
            let mut pieces = split(memory.descriptor, 256);
            pieces.push(BufferDescriptorV1 {
                length: 1,
                ..memory.descriptor
            });
            pieces
        }),
        ("too few bytes in all", "hold less", |_, memory| {
            let mut pieces = split(memory.descriptor, 2);
            pieces[1].length -= 1;
            pieces
        }),
    ];
    for (what, cause, falsify) in refused {
        for command in [Command::Read, Command::Write] {
            let what = format!("{what}, {command:?}");
            stage.refused(&what, cause, |stage| {
                let mut client = stage.client();
                let memory = fill(&mut client);
                let descriptors = falsify(&mut client, memory);
                let outcome = ask(&mut client, command, &descriptors);
                assert_eq!(
                    status_or_closed(outcome),
                    Ok(NtStatus::INVALID_PARAMETER),
                    "{what}"
                );
                // Nothing was moved, and the connection is as good as before.
                let unmoved = client.connection.rdma().unwrap().contents(memory);
                assert!(unmoved.unwrap().iter().all(|byte| *byte == 0xee), "{what}");
                leave(client);
            });
        }
    }
}

/// A file long enough to be read, and memory exposed for either direction.
fn fill(client: &mut Client) -> ExposedMemory {
    let data = vec![0x11; LENGTH as usize];
    let (tree, file) = (client.tree, client.file);
    client.connection.write(tree, file, 0, &data).unwrap();
    let contents = vec![0xee; LENGTH as usize];
    let rdma = client.connection.rdma().unwrap();
    rdma.expose(&contents, Access::RemoteRead).unwrap()
}

/// READs or WRITEs [`LENGTH`] bytes by RDMA with these descriptors.
fn ask(
    client: &mut Client,
    command: Command,
    descriptors: &[BufferDescriptorV1],
) -> Result<Reply, ClientError> {
    let file = client.file;
    let body = match command {
        Command::Read => read_body(file, 0, LENGTH, Channel::RdmaV1, descriptors),
        _ => write_rdma_body(file, 0, LENGTH, Channel::RdmaV1, descriptors),
    };
    let tree = client.tree;
    let header = client.connection.payload_header(command, tree, LENGTH);
    client
        .connection
        .exchange(header, &body)
        .and_then(Reply::check)
}

fn leave(mut client: Client) {
    client.connection.close(client.tree, client.file).unwrap();
    client.connection.log_off(client.session).unwrap();
}

/// A data transfer message whose header says this of what follows it.
fn data_message(remaining: u32, offset: u32, length: u32, data: &[u8]) -> Vec<u8> {
    let header = DataTransferHeader {
        credits_requested: 10,
        credits_granted: 0,
        flags: 0,
        remaining_data_length: remaining,
        data_offset: offset,
        data_length: length,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(24, 0);
    bytes.extend_from_slice(data);
    bytes
}

/// Messages of SMB Direct that are cut, too long or contradict themselves, and messages of SMB2 that
/// are none.
fn frames<C: RdmaClient>(stage: &mut Stage<C>) {
    let hostile: [(&str, &str, Vec<Vec<u8>>); 7] = [
        ("no bytes at all", "expected at least 20", vec![Vec::new()]),
        ("half a header", "expected at least 20", vec![vec![0; 10]]),
        (
            "data behind its end",
            "expected both inside",
            vec![data_message(0, 24, 100, b"x")],
        ),
        (
            "data at an odd place",
            "expected a multiple of 8",
            vec![data_message(0, 25, 1, b"xy")],
        ),
        (
            "more to come than was negotiated",
            "at most MaxFragmentedSize",
            vec![data_message(u32::MAX, 24, 8, b"12345678")],
        ),
        (
            "less to come than was announced",
            "still due",
            vec![
                data_message(100, 24, 8, b"12345678"),
                data_message(1, 24, 8, b"12345678"),
            ],
        ),
        (
            "more than a buffer takes",
            "more than the buffers hold",
            vec![vec![0; 1400]],
        ),
    ];
    for (what, cause, messages) in hostile {
        stage.refused(what, cause, |_| {
            let mut client = C::connect(true).unwrap();
            for message in &messages {
                // The second may find the connection over already.
                let _ = client.send_raw(message);
            }
            client.wait_closed().expect(what);
        });
    }
    stage.refused("a cut negotiate request", "expected at least 20", |_| {
        let mut client = C::connect(false).unwrap();
        client.send_raw(&[0; 12]).unwrap();
        client.wait_closed().unwrap();
    });
    stage.refused("another version", "speaks no version", |_| {
        let mut client = C::connect(false).unwrap();
        let request = NegotiateRequest {
            min_version: 0x0200,
            max_version: 0x0300,
            credits_requested: 10,
            preferred_send_size: 1364,
            max_receive_size: 1364,
            max_fragmented_size: 1 << 20,
        };
        client.send_raw(&request.encode()).unwrap();
        client.wait_closed().unwrap();
    });
    stage.refused("silence", "negotiation did not finish", |_| {
        let mut client = C::connect(false).unwrap();
        client.wait_closed().unwrap();
    });
    for (what, message) in not_smb2() {
        stage.refused(what, "MS-SMB2", |_| {
            let mut client = C::connect(true).unwrap();
            client.send(&message).unwrap();
            client.wait_closed().expect(what);
        });
    }
}

fn not_smb2() -> [(&'static str, Vec<u8>); 3] {
    let encoded = |header: Header, length: usize| {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.resize(length, 0);
        bytes
    };
    let early = Header::request(Command::TreeConnect, MessageId(0));
    let mut chain = Header::request(Command::Negotiate, MessageId(0));
    chain.next_command = 4096;
    [
        ("half an SMB2 header", encoded(early, 40)),
        ("a request before NEGOTIATE", encoded(early, 73)),
        ("a chain that leads outside", encoded(chain, 100)),
    ]
}

/// A client is gone while its payload is under way, either way.
fn vanishing<C: RdmaClient>(stage: &mut Stage<C>) {
    const PAYLOAD: u32 = 1 << 20;
    for command in [Command::Read, Command::Write] {
        for round in 0..3 {
            let what = format!("vanishing in {command:?}, round {round}");
            stage.ended(&what, |stage| {
                let mut client = stage.client();
                let (tree, file) = (client.tree, client.file);
                let whole = vec![0x11; PAYLOAD as usize];
                let channel = Channel::RdmaV1;
                let written = client
                    .connection
                    .write_rdma(tree, file, 0, &whole, channel, 1);
                assert_eq!(written.unwrap(), PAYLOAD);
                for _ in 0..4 {
                    let rdma = client.connection.rdma().unwrap();
                    let memory = rdma.expose(&whole, Access::RemoteRead).unwrap();
                    let list = [memory.descriptor];
                    let body = match command {
                        Command::Read => read_body(file, 0, PAYLOAD, channel, &list),
                        _ => write_rdma_body(file, 0, PAYLOAD, channel, &list),
                    };
                    let header = client.connection.payload_header(command, tree, PAYLOAD);
                    client.connection.submit(header, &body).unwrap();
                }
            });
        }
    }
}

/// `rdma allow unprotected payload = no`, its default, where sessions are signed.
fn unprotected<C: RdmaClient>(stage: &mut Stage<C>) {
    for command in [Command::Read, Command::Write] {
        let cause = "rdma allow unprotected payload = no";
        stage.refused("a bare payload", cause, |stage| {
            let mut client = stage.client();
            let memory = fill(&mut client);
            let outcome = ask(&mut client, command, &[memory.descriptor]);
            assert_eq!(status_or_closed(outcome), Ok(NtStatus::ACCESS_DENIED));
            let unmoved = client.connection.rdma().unwrap().contents(memory);
            assert!(unmoved.unwrap().iter().all(|byte| *byte == 0xee));
            let (tree, file) = (client.tree, client.file);
            let inline = client.connection.read(tree, file, 0, LENGTH).unwrap();
            assert!(inline.iter().all(|byte| *byte == 0x11));
            leave(client);
        });
    }
}

/// One MiB, filled by RDMA: what does not fit is refused, what did is there.
fn full_disk<C: RdmaClient>(stage: &mut Stage<C>) {
    let cause = "the share's file system, or its user's quota, is full";
    stage.refused("the last block", cause, |stage| {
        let mut client = stage.client();
        let (tree, file) = (client.tree, client.file);
        let (channel, block) = (Channel::RdmaV1, LENGTH as usize);
        let mut kept = 0u8;
        let refused = loop {
            let data = vec![kept; block];
            let offset = u64::from(kept) * u64::from(LENGTH);
            let connection = &mut client.connection;
            match connection.write_rdma(tree, file, offset, &data, channel, 2) {
                Ok(count) => assert_eq!(count, LENGTH),
                refused => break refused,
            }
            kept += 1;
            assert!(kept <= 32, "more than the file system holds");
        };
        assert_eq!(status_or_closed(refused), Ok(NtStatus::DISK_FULL));
        assert!(kept >= 20, "only {kept} blocks fitted");
        for number in 0..kept {
            let offset = u64::from(number) * u64::from(LENGTH);
            let connection = &mut client.connection;
            let read = connection.read_rdma(tree, file, offset, LENGTH, channel, 1);
            assert!(read.unwrap() == vec![number; block], "block {number}");
        }
        leave(client);
    });
}
