//! A child that was taken over, against the smbdirectd process on the simulated fabric: what it may
//! do with its relay socket, and bystanders who have a region, a client and bytes to lose.
//!
//! Every record it sends is judged by an account of its own ([`law`]): what breaks the relay's rules
//! must end that connection and no other, what does not must leave it alive. `./x soak hostile-child`
//! sends a million records, `tests/tests/hostile_child.rs` some thousands.

mod bystander;
mod crafted;
mod hostile;
mod law;
mod random;
mod theatre;

use std::fmt;
use std::time::Instant;

use crate::lab::LabError;

use bystander::Bystander;
use theatre::Theatre;

/// Others at whose cost nothing may happen.
const BYSTANDERS: u8 = 3;
/// Hostile connections between two looks at every byte the bystanders have.
const BETWEEN_LOOKS: u64 = 200;
/// KiB smbdirectd may have kept for the next time: queues and buffers of one busy connection.
const KEPT: u64 = 64 << 10;

/// What was tried, and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Records sent, or what was sent in a record's place.
    pub records: u64,
    /// Of them crafted, each for one rule.
    pub crafted: u64,
    /// Connections they were sent over.
    pub connections: u64,
    /// Of them ended for a breach.
    pub breaches: u64,
    /// Of them ended by the client's device, as what was named is not there.
    pub refused: u64,
    /// Of them alive at the end of what was sent.
    pub alive: u64,
    /// How often every byte of the bystanders was compared.
    pub looks: u64,
    /// KiB of smbdirectd's memory before and after.
    pub resident: (u64, u64),
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "records={} crafted={} connections={} ended_for_a_breach={} ended_by_the_device={} \
             alive_to_the_end={} looks_at_every_canary={} resident_kib={}->{} seconds={:.0}",
            self.records,
            self.crafted,
            self.connections,
            self.breaches,
            self.refused,
            self.alive,
            self.looks,
            self.resident.0,
            self.resident.1,
            self.seconds
        )
    }
}

/// Sends at least so many records: every crafted one first, then random ones that follow from `seed`.
/// Panics with what went wrong.
pub fn play(records: u64, seed: u64) -> Result<Report, LabError> {
    let began = Instant::now();
    let mut theatre = Theatre::open()?;
    let mut bystanders: Vec<Bystander> = (0..BYSTANDERS)
        .map(|number| Bystander::enter(&mut theatre, number))
        .collect();
    let held = theatre.held();
    let resident = theatre.resident();
    let mut report = Report::default();
    for attack in crafted::all() {
        crafted::play(&mut theatre, &attack, &mut report);
    }
    report.crafted = report.records;
    look(&mut theatre, &mut bystanders, &mut report);
    let mut chance = random::Chance::new(seed);
    while report.records < records {
        random::play(&mut theatre, &mut chance, &mut report);
        if report.connections.is_multiple_of(BETWEEN_LOOKS) {
            look(&mut theatre, &mut bystanders, &mut report);
            let seconds = began.elapsed().as_secs();
            println!("{} records, {seconds} s", report.records);
        }
    }
    look(&mut theatre, &mut bystanders, &mut report);
    theatre.wait_until_held(&held);
    report.resident = (resident, theatre.resident());
    assert!(report.resident.1 < resident + KEPT, "memory: {report}");
    for bystander in bystanders {
        bystander.leave(&mut theatre);
    }
    theatre.close();
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn look(theatre: &mut Theatre, bystanders: &mut [Bystander], report: &mut Report) {
    for bystander in bystanders {
        bystander.look(theatre);
    }
    report.looks += 1;
}
