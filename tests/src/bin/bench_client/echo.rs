//! How long a request takes that asks for nothing: ECHO over SMB Direct, one at a time, through every process of a
//! server and back.

use std::time::{Duration, Instant};

use ::tests::client::ClientError;

use super::RdmaTarget;

/// Not counted: what is asked for the first time.
const WARM_UP: u32 = 200;

pub fn measure(target: &RdmaTarget, count: u32) -> Result<(), ClientError> {
    let (mut connection, _) = target.enter(target.offer())?;
    for _ in 0..WARM_UP {
        connection.echo()?;
    }
    let mut times = Vec::new();
    for _ in 0..count.max(100) {
        let began = Instant::now();
        connection.echo()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    for percent in [50, 99] {
        let micros = percentile(&times, percent).as_secs_f64() * 1e6;
        println!("echo_p{percent} {micros:.1}");
    }
    Ok(())
}

/// Of times in order, the one that so many of a hundred are below.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = sorted.len() * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_is_above_the_ninety_ninth_part() {
        let times: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Duration::from_micros(501));
        assert_eq!(percentile(&times, 99), Duration::from_micros(991));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
