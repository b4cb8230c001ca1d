//! How many clients a second can log on, one after the other: connect, NEGOTIATE, and the two SESSION_SETUPs of NTLM,
//! each time as a client the server has not seen.

use tests::client::ClientError;

use super::{Phase, Target};

pub fn measure(target: &Target, count: u32) -> Result<(), ClientError> {
    let phase = Phase::measure(target, || {
        for _ in 0..count {
            let mut connection = target.connect(None)?;
            connection.log_on(&target.share.user, &target.share.password)?;
        }
        Ok(u64::from(count))
    })?;
    phase.print("setup", 1.0);
    Ok(())
}
