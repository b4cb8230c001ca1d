//! A client that opens its channels in Windows' order: TCP, a session, the server's interfaces, two
//! connections to the RDMA interface, both bound; then all three work at once.

use proto::control::child::Transport;
use proto::control::status::StatusReport;
use proto::smb2::{Channel, Command, FileId, Guid, MessageId};

use super::{ADDRESS, Ground, Scene, guid, pattern};
use crate::client::{
    Access, ClientError, Connection, ExposedMemory, Offer, OpenOptions, Tree, read_body, split,
    write_body, write_rdma_body,
};
use crate::server::{PASSWORD, USER};

const CLIENT: u8 = 1;
/// Each channel writes a file in pieces of this size, and reads them back.
const PIECE: usize = 256 << 10;
const INLINE_PIECE: usize = 48 << 10;
const ROUNDS: u64 = 24;

pub fn three_channels_in_windows_order(scene: &Scene) {
    let mut tcp = negotiated(scene.connect_tcp(), guid(CLIENT));
    let session = tcp.log_on(USER, PASSWORD).expect("the user logs on");
    let tree = tcp.tree_connect(session, "share").expect("the share");
    let interfaces = tcp.interfaces(tree).expect("the server's interfaces");
    if matches!(scene.ground(), Ground::Lab) {
        use proto::smb2::fsctl::InterfaceCapability;
        let rdma = interfaces.iter().filter(|found| {
            let capable = InterfaceCapability::RDMA_CAPABLE;
            found.capability.contains(capable) && found.address.to_string() == ADDRESS
        });
        assert_eq!(rdma.count(), 1, "{ADDRESS} has RDMA: {interfaces:?}");
    }
    let c1 = scene.owner(guid(CLIENT));
    let mut channels = vec![tcp];
    for _ in 0..2 {
        let mut channel = negotiated(scene.connect_rdma(CLIENT), guid(CLIENT));
        let bound = channel.bind(session, &channels[0], USER, PASSWORD);
        bound.expect("the channel is bound");
        channels.push(channel);
    }
    scene.wait_for("c1 serves all three, and nobody else is left", |report| {
        (served_by(report, c1) == [Transport::Rdma, Transport::Rdma, Transport::Tcp]).then_some(())
    });
    // The same in what a person, or a script, is shown.
    let json = scene.status_json();
    assert_eq!(json.matches("\"transport\": \"Rdma\"").count(), 2, "{json}");
    assert_eq!(json.matches("\"transport\": \"Tcp\"").count(), 1, "{json}");
    assert_eq!(json.matches("\"channels\"").count(), 1, "{json}");

    // MS-SMB2 3.3.5.7: only TREE_CONNECT had to be signed; unsigned, payload may go by bare RDMA.
    for channel in &mut channels {
        channel.forget_key(session.id);
    }
    let mut workers: Vec<Worker> = (0..channels.len())
        .map(|number| Worker::new(&mut channels[0], tree, number))
        .collect();
    for round in 0..ROUNDS {
        for write in [true, false] {
            let requests: Vec<_> = channels
                .iter_mut()
                .zip(&workers)
                .map(|(channel, worker)| worker.submit(channel, round, write))
                .collect();
            for ((channel, worker), request) in channels.iter_mut().zip(&mut workers).zip(requests)
            {
                worker.finish(channel, round, write, request);
            }
        }
    }
    for worker in workers {
        let there = std::fs::read(scene.file(&worker.name)).expect("the file");
        assert!(there == worker.written, "{} differs", worker.name);
        channels[0].close(tree, worker.file).expect("CLOSE");
    }
    scene.wait_for("it is still c1, with all three", |report| {
        (served_by(report, c1).len() == 3).then_some(())
    });
}

fn negotiated(connection: Result<Connection, ClientError>, client_guid: Guid) -> Connection {
    let mut connection = connection.expect("the server accepts");
    let offer = Offer {
        client_guid,
        ..Offer::default()
    };
    connection.exchange_negotiate(offer).expect("NEGOTIATE");
    connection
}

/// The authenticated channels of this child, if it is the only one.
fn served_by(report: &StatusReport, pid: i32) -> Vec<Transport> {
    let [child] = &report.children[..] else {
        return Vec::new();
    };
    let status = child.status.iter().filter(|_| child.pid == pid);
    let channels = status.flat_map(|status| &status.channels);
    let bound = channels.filter(|channel| !channel.users.is_empty());
    let mut transports: Vec<Transport> = bound.map(|channel| channel.transport).collect();
    transports.sort_by_key(|transport| format!("{transport:?}"));
    transports
}

/// What one channel does: a file of its own, opened by the first channel.
struct Worker {
    name: String,
    tree: Tree,
    file: FileId,
    /// It is not the TCP channel's.
    rdma: bool,
    seed: u64,
    written: Vec<u8>,
}

impl Worker {
    fn new(first: &mut Connection, tree: Tree, number: usize) -> Worker {
        let name = format!("channel-{number}");
        let opened = first.open(tree, &name, OpenOptions::read_write());
        Worker {
            file: opened.expect("the file opens"),
            name,
            tree,
            rdma: number > 0,
            seed: 1000 * number as u64,
            written: Vec::new(),
        }
    }

    fn piece(&self) -> usize {
        match self.rdma {
            true => PIECE,
            false => INLINE_PIECE,
        }
    }

    fn submit(
        &self,
        channel: &mut Connection,
        round: u64,
        write: bool,
    ) -> (MessageId, Option<ExposedMemory>) {
        let data = pattern(self.piece(), self.seed + round);
        let (length, offset) = (data.len() as u32, round * data.len() as u64);
        let memory = self.rdma.then(|| {
            let rdma = channel.rdma().expect("SMB Direct");
            let exposed = match write {
                true => rdma.expose(&data, Access::RemoteRead),
                false => rdma.expose(&vec![0; data.len()], Access::RemoteWrite),
            };
            exposed.expect("the memory is registered")
        });
        let descriptors = memory.map(|memory| split(memory.descriptor, 2));
        let body = match (write, &descriptors) {
            (true, Some(list)) => write_rdma_body(self.file, offset, length, Channel::RdmaV1, list),
            (false, Some(list)) => read_body(self.file, offset, length, Channel::RdmaV1, list),
            (true, None) => write_body(self.file, offset, &data),
            (false, None) => read_body(self.file, offset, length, Channel::None, &[]),
        };
        let command = match write {
            true => Command::Write,
            false => Command::Read,
        };
        let header = channel.payload_header(command, self.tree, length);
        let message = channel.submit(header, &body).expect("it is sent");
        (message, memory)
    }

    fn finish(
        &mut self,
        channel: &mut Connection,
        round: u64,
        write: bool,
        (message, memory): (MessageId, Option<ExposedMemory>),
    ) {
        let reply = channel.wait(message).and_then(|reply| reply.check());
        let reply = reply.unwrap_or_else(|error| panic!("{}, {round}: {error}", self.name));
        let expected = pattern(self.piece(), self.seed + round);
        if write {
            self.written.extend_from_slice(&expected);
        } else {
            let read = match memory {
                Some(memory) => channel.rdma().and_then(|rdma| rdma.contents(memory)),
                None => Ok(inline_data(&reply.element)),
            };
            assert!(
                read.expect("the memory") == expected,
                "{}, {round}",
                self.name
            );
        }
        if let Some(memory) = memory {
            let withdrawn = channel.rdma().and_then(|rdma| rdma.withdraw(memory));
            withdrawn.expect("it was registered");
        }
    }
}

fn inline_data(element: &[u8]) -> Vec<u8> {
    let response = proto::smb2::read::ReadResponse::decode(element);
    response.expect("a READ response").data.to_vec()
}
