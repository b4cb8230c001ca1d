//! READ and WRITE over SMB Direct, by a client that keeps its memory registered: of an unsigned session by RDMA as it is,
//! of a signed one by RDMA with the payload signed, and of one that can't do that inside the messages.
//!
//! The client signs and verifies what the server verifies and signs, on the same processors: that is in the figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use proto::smb2::negotiate::SecurityMode;
use proto::smb2::negotiate_context::rdma_transform;
use proto::smb2::rdma_transform::{CryptoTransform, RdmaTransform, TransformType};
use proto::smb2::read::{RESPONSE_RDMA_TRANSFORM, ReadResponse};
use proto::smb2::write::WriteResponse;
use proto::smb2::{Channel, Command, FileId, MessageId};
use smbd::security::encryption::End;
use smbd::security::signing::SigningAlgorithm;
use tests::client::{
    Access, ClientError, Connection, ExposedMemory, Offer, OpenOptions, Reply, Tree, read_body,
    write_body, write_protected_body, write_rdma_body,
};

use super::RdmaTarget;

const MIB: f64 = 1024.0 * 1024.0;
const BLOCK: u32 = 1 << 20;
/// With its header it is still a message that SMB Direct takes, of 1 MiB unless configured.
const INLINE_BLOCK: u32 = BLOCK - (64 << 10);
const DEEPEST: usize = 4;

/// What a figure's key ends with, what is asked for, and how many of it at a time.
const JOBS: [(&str, Command, usize); 4] = [
    ("write", Command::Write, DEEPEST),
    ("read", Command::Read, DEEPEST),
    ("seq_write", Command::Write, 1),
    ("seq_read", Command::Read, 1),
];

/// How a session's payload moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// By RDMA, of a session that does not sign.
    Unsigned,
    /// By RDMA, signed with GMAC (MS-SMB2 2.2.43).
    SignedTransform,
    /// In signed messages.
    SignedInline,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Unsigned => "unsigned",
            Way::SignedTransform => "signed_transform",
            Way::SignedInline => "signed_inline",
        }
    }

    fn offer(self, target: &RdmaTarget) -> Offer {
        let mut offer = target.offer();
        offer.signing = vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac];
        if self != Way::Unsigned {
            offer.security_mode = SecurityMode::SIGNING_REQUIRED;
        }
        if self == Way::SignedTransform {
            offer.rdma_transforms = vec![rdma_transform::SIGNING];
        }
        offer
    }
}

/// What is measured, and for how long.
#[derive(Args)]
pub struct Plan {
    /// How payload moves; measured in turn.
    #[arg(long, value_delimiter = ',', required = true)]
    ways: Vec<Way>,
    /// Times that each job is measured.
    #[arg(long, default_value_t = 2)]
    passes: u32,
    /// How long each time.
    #[arg(long, default_value_t = 250)]
    milliseconds: u64,
    /// Of each way's file.
    #[arg(long, default_value_t = 32)]
    mebibytes: u64,
}

/// All ways in turn, again and again: each job of each way prints its figure every time.
pub fn measure(target: &RdmaTarget, plan: &Plan) -> Result<(), ClientError> {
    let mut clients = Vec::new();
    for way in &plan.ways {
        let mut client = Client::new(target, *way, plan.mebibytes << 20)?;
        client.warm_up()?;
        clients.push(client);
    }
    let duration = Duration::from_millis(plan.milliseconds);
    for _ in 0..plan.passes {
        for (name, command, depth) in JOBS {
            for client in &mut clients {
                let rate = client.run(command, depth, duration)?;
                println!("{}_{name} {:.1}", client.way.name(), rate / MIB);
            }
        }
    }
    Ok(())
}

/// A session with a file open, and registered memory for as many requests as it ever has.
struct Client {
    way: Way,
    connection: Connection,
    tree: Tree,
    file: FileId,
    /// What one request moves.
    block: u32,
    /// How many of them the file has.
    blocks: u64,
    /// What the file consists of, and what is signed: memory that the other end does not reach.
    data: Vec<u8>,
    sources: Vec<ExposedMemory>,
    targets: Vec<ExposedMemory>,
    /// Where a payload is copied to be verified.
    received: Vec<u8>,
}

/// A request without an answer yet, and which of the client's memory is its own.
struct Underway {
    message: MessageId,
    memory: usize,
}

impl Client {
    fn new(target: &RdmaTarget, way: Way, file_size: u64) -> Result<Client, ClientError> {
        let (mut connection, tree) = target.enter(way.offer(target))?;
        match way {
            // 3.1.1 wants a signature for the tree connect alone.
            Way::Unsigned => connection.forget_key(tree.session),
            Way::SignedTransform | Way::SignedInline => {
                let signing = connection.negotiated().signing;
                expect(signing == SigningAlgorithm::AesGmac, "the server has GMAC")?;
            }
        }
        let file = connection.open(tree, way.name(), OpenOptions::read_write())?;
        let negotiated = connection.negotiated();
        let most = negotiated.max_read_size.min(negotiated.max_write_size);
        let transforms = negotiated.rdma_transforms.clone().unwrap_or_default();
        let wanted = way == Way::SignedTransform;
        expect(
            transforms.contains(&rdma_transform::SIGNING) == wanted,
            "the server has RDMA transform",
        )?;
        let block = match way {
            Way::SignedInline => INLINE_BLOCK,
            Way::Unsigned | Way::SignedTransform => BLOCK,
        };
        expect(block <= most, "the server takes 1 MiB")?;
        let data: Vec<u8> = (0..block).map(|at| (at % 251) as u8).collect();
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        if way != Way::SignedInline {
            let rdma = connection.rdma()?;
            for _ in 0..DEEPEST {
                sources.push(rdma.expose(&data, Access::RemoteRead)?);
                targets.push(rdma.expose(&vec![0; data.len()], Access::RemoteWrite)?);
            }
        }
        Ok(Client {
            way,
            connection,
            tree,
            file,
            block,
            blocks: file_size / u64::from(block),
            received: vec![0; data.len()],
            data,
            sources,
            targets,
        })
    }

    /// Writes the whole file and reads it, looks at every byte of that, and has credits then for any depth.
    fn warm_up(&mut self) -> Result<(), ClientError> {
        // Each asks for many credits and uses one.
        (0..8).try_for_each(|_| self.connection.echo())?;
        for block in 0..self.blocks {
            let written = self.submit(Command::Write, block, 0)?;
            self.finish(Command::Write, written)?;
        }
        for block in 0..self.blocks {
            let asked = self.submit(Command::Read, block, 0)?;
            let reply = self.finish(Command::Read, asked)?;
            let same = match self.targets.first() {
                Some(memory) => {
                    self.connection
                        .rdma()?
                        .copy_out(*memory, &mut self.received)?;
                    self.received == self.data
                }
                None => read_response(&reply)?.data == self.data,
            };
            expect(same, "what was written is read")?;
        }
        Ok(())
    }

    /// Keeps `depth` requests with the server for so long; bytes a second.
    fn run(
        &mut self,
        command: Command,
        depth: usize,
        duration: Duration,
    ) -> Result<f64, ClientError> {
        let mut free: Vec<usize> = (0..depth).collect();
        let mut underway = VecDeque::new();
        let (mut block, mut moved) = (0, 0);
        let began = Instant::now();
        loop {
            let over = began.elapsed() >= duration;
            while !over && let Some(memory) = free.pop() {
                underway.push_back(self.submit(command, block, memory)?);
                block = (block + 1) % self.blocks;
            }
            let Some(oldest) = underway.pop_front() else {
                return Ok(moved as f64 / began.elapsed().as_secs_f64());
            };
            free.push(oldest.memory);
            self.finish(command, oldest)?;
            moved += u64::from(self.block);
        }
    }

    fn submit(
        &mut self,
        command: Command,
        block: u64,
        memory: usize,
    ) -> Result<Underway, ClientError> {
        let offset = block * u64::from(self.block);
        let (tree, file, length) = (self.tree, self.file, self.block);
        let header = self.connection.payload_header(command, tree, length);
        let message = header.message_id;
        let body = match (command, self.way) {
            (Command::Read, Way::SignedInline) => {
                read_body(file, offset, length, Channel::None, &[])
            }
            (Command::Read, _) => {
                let target = self.targets[memory].descriptor;
                read_body(file, offset, length, Channel::RdmaV1, &[target])
            }
            (_, Way::SignedInline) => write_body(file, offset, &self.data),
            (_, Way::Unsigned) => {
                let source = self.sources[memory].descriptor;
                write_rdma_body(file, offset, length, Channel::RdmaV1, &[source])
            }
            (_, Way::SignedTransform) => {
                let information = self.signed(message, memory)?;
                write_protected_body(file, offset, length, &information)
            }
        };
        self.connection.submit(header, &body)?;
        Ok(Underway { message, memory })
    }

    /// The channel information of a WRITE from that memory.
    fn signed(&self, message: MessageId, memory: usize) -> Result<Vec<u8>, ClientError> {
        let key = self.connection.signing_key(self.tree.session);
        let key = key.ok_or_else(|| ClientError::Local("no key".into()))?;
        let nonce = key.payload_nonce(message, End::Client);
        let signature = key.sign_payload(&nonce, &self.data).unwrap_or_default();
        let mut descriptors = Vec::new();
        self.sources[memory].descriptor.encode(&mut descriptors);
        let mut information = Vec::new();
        RdmaTransform {
            channel: Channel::RdmaV1,
            crypto: CryptoTransform {
                transform_type: TransformType::Signing,
                signature: &signature,
                nonce: &nonce,
            },
            descriptors: &descriptors,
        }
        .encode(&mut information);
        Ok(information)
    }

    /// Waits for the answer: all must have moved, and what came signed must be the server's.
    fn finish(&mut self, command: Command, underway: Underway) -> Result<Reply, ClientError> {
        let reply = self.connection.wait(underway.message)?.check()?;
        if command == Command::Write {
            let response = WriteResponse::decode(&reply.element).map_err(broken)?;
            expect(response.count == self.block, "all is written")?;
            return Ok(reply);
        }
        let response = read_response(&reply)?;
        match self.way {
            Way::SignedInline => expect(
                response.data.len() == self.block as usize,
                "all is read, in the message",
            )?,
            Way::Unsigned => expect(response.data_remaining == self.block, "all is read")?,
            Way::SignedTransform => {
                expect(
                    response.data_remaining == self.block
                        && response.flags == RESPONSE_RDMA_TRANSFORM,
                    "all is read, and signed",
                )?;
                let transform = RdmaTransform::decode(response.data).map_err(broken)?.crypto;
                let target = self.targets[underway.memory];
                self.connection
                    .rdma()?
                    .copy_out(target, &mut self.received)?;
                let key = self.connection.signing_key(self.tree.session);
                let right = key.is_some_and(|key| {
                    key.verify_payload(transform.nonce, &self.received, transform.signature)
                });
                expect(right, "the payload's signature is right")?;
            }
        }
        Ok(reply)
    }
}

fn read_response(reply: &Reply) -> Result<ReadResponse<'_>, ClientError> {
    ReadResponse::decode(&reply.element).map_err(broken)
}

/// A figure of a server that does something else counts for nothing.
fn expect(holds: bool, what: &str) -> Result<(), ClientError> {
    match holds {
        true => Ok(()),
        false => Err(ClientError::Protocol(format!("it does not hold: {what}"))),
    }
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(error.to_string())
}
