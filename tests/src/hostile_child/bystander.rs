//! A client with its own child beside the hostile one: bytes that nobody may touch, in its region, in
//! its message rings and in its client's memory, and work that must go on.

use std::time::Instant;

use proto::relay::{Descriptor, PayloadWrite};

use super::theatre::{PATIENCE, TURN, Theatre};
use crate::client::simulated::SmbDirect;
use crate::client::{Access, ExposedMemory, RdmaTransport};
use crate::gateway::Child;

/// Found anywhere else, it is a leak.
pub const CANARY: u8 = 0xc7;
/// Of the payload area: all of the first part but what work needs at its front.
const WORK: u32 = 1 << 20;
const PART: u32 = 8 << 20;
/// Of the rings: this connection's and its neighbour's.
const RINGS: u32 = 8 << 20;
const OF_CLIENT: usize = 1 << 16;

/// Somebody who does nothing wrong.
pub struct Bystander {
    client: SmbDirect,
    child: Child,
    canary: ExposedMemory,
    work: ExposedMemory,
    operation: u64,
    number: u8,
}

impl Bystander {
    /// Connects, attaches and lays out its canaries.
    pub fn enter(theatre: &mut Theatre, number: u8) -> Bystander {
        let mut client = theatre.connect(number + 1);
        client.queue(b"the first message");
        let mut child = Child::new(theatre.announced(&mut client));
        child.attach();
        let canary = client.expose(&[CANARY; OF_CLIENT], Access::RemoteRead);
        let work = client.expose(&[0; WORK as usize], Access::RemoteRead);
        let mut bystander = Bystander {
            client,
            child,
            canary: canary.expect("memory"),
            work: work.expect("memory"),
            operation: 0,
            number,
        };
        bystander.until("its region", |one| one.child.is_mapped());
        bystander.until("its message", |one| one.child.take_message().is_some());
        let canaries = vec![CANARY; RINGS as usize];
        let mapped = &bystander.child;
        let attached = mapped.attached.expect("just seen");
        let mut rings = mapped.range(0, RINGS);
        rings.offset = attached.ring_offset;
        mapped.fill(rings, &canaries);
        mapped.fill(
            mapped.range(WORK.into(), PART - WORK),
            canaries.get(..(PART - WORK) as usize).expect("as long"),
        );
        bystander
    }

    /// Compares every canary, and works: a message and payload both ways.
    pub fn look(&mut self, theatre: &mut Theatre) {
        self.works();
        let number = self.number;
        let attached = self.child.attached.expect("attached");
        let mut rings = self.child.range(0, RINGS);
        rings.offset = attached.ring_offset;
        for (what, range) in [
            ("rings", rings),
            ("region", self.child.range(WORK.into(), PART - WORK)),
        ] {
            let found = self.child.contents(range);
            let touched = found.iter().position(|byte| *byte != CANARY);
            assert_eq!(touched, None, "bystander {number}: its {what} was written");
        }
        let found = self.client.contents(self.canary).expect("its memory");
        let touched = found.iter().position(|byte| *byte != CANARY);
        assert_eq!(touched, None, "bystander {number}: its client's memory");
        theatre.until("smbdirectd is there", |_| true);
    }

    fn works(&mut self) {
        self.operation += 2;
        let (read, reply) = (self.operation, self.operation + 1);
        let bytes = vec![read as u8; WORK as usize];
        let short = &bytes[..3000];
        self.client.queue(short);
        self.until("a message", |one| one.child.waiting() > 0);
        assert!(self.child.take_message().as_deref() == Some(short));
        let range = self.child.range(0, WORK);
        let whole = [Descriptor {
            offset: self.work.descriptor.offset.into(),
            token: self.work.descriptor.token.into(),
            length: self.work.descriptor.length.into(),
        }];
        self.child.fill(range, &bytes);
        let write = PayloadWrite {
            source: range,
            descriptors: &whole,
        };
        self.child.reply(reply, vec![write], short);
        let mut answer = None;
        self.until("the reply", |one| {
            answer = answer.take().or_else(|| one.client.take_message());
            answer.is_some()
        });
        assert!(answer.as_deref() == Some(short));
        assert!(self.client.contents(self.work).expect("its memory") == bytes);
        self.child.fill(range, &vec![0; WORK as usize]);
        self.child.read(read, range, &whole);
        self.until("the payload", |one| one.child.ready.contains_key(&read));
        assert!(self.child.contents(range) == bytes);
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Bystander) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.client.drive().expect("a client that can be driven");
            self.child.turn();
            let number = self.number;
            assert_eq!(self.client.over(), None, "bystander {number}");
            assert!(!self.child.ended, "bystander {number} lost its relay");
            assert!(
                Instant::now() < deadline,
                "bystander {number} waited in vain for {what}"
            );
            std::thread::sleep(TURN);
        }
    }

    /// Leaves; nothing of it stays.
    pub fn leave(mut self, theatre: &mut Theatre) {
        self.look(theatre);
        self.client.disconnect().expect("it is connected");
        self.child.die();
    }
}
