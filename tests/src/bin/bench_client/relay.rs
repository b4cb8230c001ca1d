//! What the relay between smbdirectd and a child costs by itself, on this machine: a request goes over as a record, its
//! answer comes back as one, each side waits in poll as the daemons do, and there is no SMB, file or device in it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::relay::{BACKLOG, Body, MessageSequence, OperationId, Outcome, ToChild, ToGateway};
use proto::relay::{ToChildRecords, ToGatewayRecords};
use rustix::event::{PollFd, PollFlags, poll};
use shm::link::{Datagram, Link, LinkError, SocketLink, pair};
use tests::client::ClientError;

/// A READ with one descriptor, and the header and body that answer it.
const REQUEST: [u8; 136] = [0; 136];
const ANSWER: [u8; 80] = [0; 80];
const DEPTHS: [(u64, &str); 2] = [(1, "qd1"), (32, "qd32")];

pub fn measure(count: u32) -> Result<(), ClientError> {
    for (depth, name) in DEPTHS {
        let (gateway, child) = pair().map_err(local)?;
        let mut trips = std::thread::scope(|scope| {
            let child = scope.spawn(move || answer(SocketLink::new(child, BACKLOG)));
            let trips = ask(SocketLink::new(gateway, BACKLOG), depth, count)?;
            match child.join().expect("the child's side") {
                Ok(()) | Err(LinkError::Closed) => Ok(trips),
                Err(error) => Err(local(error)),
            }
        })?;
        println!("relay_{name} {:.0}", trips.per_second());
        for percentile in [50, 99] {
            println!(
                "relay_{name}_p{percentile}_us {:.1}",
                trips.percentile(percentile)
            );
        }
    }
    Ok(())
}

struct Trips {
    micros: Vec<f64>,
    elapsed: Duration,
}

impl Trips {
    fn per_second(&self) -> f64 {
        self.micros.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&mut self, percentile: usize) -> f64 {
        self.micros.sort_unstable_by(f64::total_cmp);
        let index = self.micros.len() * percentile / 100;
        self.micros.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// The gateway's side: keeps `depth` requests with the child until `count` are answered.
fn ask(mut link: SocketLink, depth: u64, count: u32) -> Result<Trips, ClientError> {
    let count = u64::from(count);
    let mut datagram = Datagram::new();
    let mut began = VecDeque::new();
    let mut asked = 0;
    let mut micros = Vec::new();
    let start = Instant::now();
    while (micros.len() as u64) < count {
        while asked < count && asked - (micros.len() as u64) < depth {
            asked += 1;
            began.push_back(Instant::now());
            let request = ToChild::Message {
                sequence: MessageSequence(asked),
                body: Body::Inline(&REQUEST),
            };
            link.queue(&mut |out| request.encode(out));
        }
        link.flush().map_err(local)?;
        wait(&link)?;
        while link.receive(&mut datagram).map_err(local)? {
            for record in ToGatewayRecords::new(datagram.bytes()) {
                if let ToGateway::Reply { operation, .. } = record.map_err(local)? {
                    let sent = ToChild::Sent {
                        operation,
                        outcome: Outcome::Done,
                    };
                    link.queue(&mut |out| sent.encode(out));
                    let sent_at = began.pop_front().unwrap_or(start);
                    micros.push(sent_at.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
    }
    Ok(Trips {
        micros,
        elapsed: start.elapsed(),
    })
}

/// The child's side: answers each message in the order they came, until the gateway is gone.
fn answer(mut link: SocketLink) -> Result<(), LinkError> {
    let mut datagram = Datagram::new();
    loop {
        if wait(&link).is_err() {
            return Ok(());
        }
        while link.receive(&mut datagram)? {
            for record in ToChildRecords::new(datagram.bytes()) {
                let Ok(ToChild::Message { sequence, .. }) = record else {
                    continue;
                };
                let release = ToGateway::Release { through: sequence };
                link.queue(&mut |out| release.encode(out));
                let reply = ToGateway::Reply {
                    operation: OperationId(sequence.0),
                    invalidate: None,
                    writes: Vec::new(),
                    body: Body::Inline(&ANSWER),
                };
                link.queue(&mut |out| reply.encode(out));
            }
        }
        link.flush()?;
    }
}

fn wait(link: &SocketLink) -> Result<(), ClientError> {
    let mut waiting = [PollFd::from_borrowed_fd(link.descriptor(), PollFlags::IN)];
    poll(&mut waiting, None).map_err(local)?;
    Ok(())
}

fn local(error: impl std::fmt::Display) -> ClientError {
    ClientError::Local(error.to_string())
}
