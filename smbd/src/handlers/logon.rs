//! One token of a logon: its turn among the failures before it, its verdict, its line in the log.
//!
//! Called by `session_setup` with each token. No proof is judged before its turn has come, which the
//! broker knows for all children, and who failed hears so only after `failed logon delay`: so guesses
//! of one user from one address are judged one after the other, whatever connections they come by.
//! Only the attempt itself waits. Nothing of a password, a hash or a key is ever logged.

use std::fmt::Display;
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use aws_lc_rs::digest;
use futures::future::{Either, join, select};
use proto::control::broker::LogonKey;
use proto::network::Network;
use proto::smb2::NtStatus;

use super::Context;
use crate::security::ntlm::Account;
use crate::security::spnego::{Authenticated, Authenticator, Claim, KERBEROS_NAME, Step};
use crate::security::users::{UserFile, UserFileError};
use crate::state::{Purpose, Session};
use crate::sys::pool::RunAs;

/// Whose logon it is, for the log.
#[derive(Debug)]
pub struct Attempt {
    who: Claim,
    mechanism: &'static str,
    purpose: &'static str,
}

/// What a token led to.
pub enum Verdict {
    /// Send this with STATUS_MORE_PROCESSING_REQUIRED, and wait for the next token.
    Continue(Authenticator, Vec<u8>),
    /// The proof is right. Whether it gets a session is another question.
    Done(Authenticated, UserFile, Attempt),
}

/// A proof that was right and led to nothing all the same.
#[derive(Debug)]
pub struct Refused {
    pub why: String,
    pub status: NtStatus,
}

impl From<NtStatus> for Refused {
    fn from(status: NtStatus) -> Refused {
        Refused {
            why: status.to_string(),
            status,
        }
    }
}

/// Judges a token, once its turn has come.
pub async fn judge(
    cx: &Context,
    mut authenticator: Authenticator,
    purpose: &Purpose,
    token: &[u8],
) -> Result<Verdict, NtStatus> {
    let claim = authenticator.claim(token);
    let mut attempt = Attempt {
        who: claim.clone().unwrap_or_default(),
        mechanism: authenticator.mechanism(token),
        purpose: match purpose {
            Purpose::Establish => "session",
            Purpose::Renew(_) => "reauthentication",
            Purpose::Bind(_) => "channel",
        },
    };
    // Who names nobody proves nothing, so there is nothing to guess.
    let turn = claim
        .filter(|claim| !claim.user.is_empty())
        .map(|claim| Turn::of(cx, &claim.user));
    let users = match &turn {
        // A ticket is no guess: nobody makes a wrong one that looks right.
        None if attempt.mechanism == KERBEROS_NAME => read_users(cx).await?,
        None => UserFile::default(),
        Some(turn) => match turn.wait(cx).await {
            Ok(Some(users)) => users?,
            Ok(None) => {
                let why = "too many logons of this user, or from this address, failed just now";
                return Err(attempt.refused(cx, why, NtStatus::ACCOUNT_LOCKED_OUT));
            }
            Err(status) => {
                return Err(attempt.refused(cx, "the client gave up before its turn", status));
            }
        },
    };
    let (authenticator, step) = if authenticator.has_ticket(token) {
        let ticket = token.to_vec();
        let judge = move || {
            let step = authenticator.step(&ticket, &|_| Account::Unknown);
            (authenticator, step)
        };
        cx.child.pool.run(RunAs::Server, judge).await?
    } else {
        let step = authenticator.step(token, &|name| users.account(name));
        (authenticator, step)
    };
    match step {
        Step::Continue(reply) => Ok(Verdict::Continue(authenticator, reply)),
        Step::Done(authenticated) => {
            if let Some(turn) = turn {
                turn.succeeded(cx);
            }
            // A ticket's name is known only now.
            let logon = &authenticated.logon;
            attempt.who.user.clone_from(&logon.user);
            attempt.who.domain.clone_from(&logon.domain);
            Ok(Verdict::Done(authenticated, users, attempt))
        }
        Step::Failed(refusal) => {
            let status = attempt.refused(cx, &refusal, refusal.status());
            if let Some(turn) = turn {
                hold(cx, turn.delay).await;
            }
            Err(status)
        }
    }
}

impl Attempt {
    /// The line of an attempt that succeeded.
    pub fn accepted(&self, cx: &Context, session: &Session) {
        tracing::info!(
            peer = %cx.connection.channel.peer(),
            transport = ?cx.connection.channel.transport(),
            mechanism = self.mechanism,
            purpose = self.purpose,
            user = ?session.user().name,
            domain = ?self.who.domain,
            workstation = ?self.who.workstation,
            kind = ?session.user().kind,
            dialect = ?session.dialect,
            session = format_args!("{:#x}", session.id.0),
            "logged on"
        );
    }

    /// The line of an attempt that failed; gives the status back.
    pub fn refused(&self, cx: &Context, why: impl Display, status: NtStatus) -> NtStatus {
        tracing::warn!(
            peer = %cx.connection.channel.peer(),
            transport = ?cx.connection.channel.transport(),
            mechanism = self.mechanism,
            purpose = self.purpose,
            user = ?self.who.user,
            domain = ?self.who.domain,
            workstation = ?self.who.workstation,
            %why,
            %status,
            "a logon failed"
        );
        status
    }
}

/// A user's place among the failed logons, at the broker.
struct Turn {
    key: LogonKey,
    /// What a failure costs; none at all if zero.
    delay: Duration,
}

impl Turn {
    fn of(cx: &Context, user: &str) -> Turn {
        let folded = digest::digest(&digest::SHA256, user.to_lowercase().as_bytes());
        let mut digest = [0; 16];
        digest
            .iter_mut()
            .zip(folded.as_ref())
            .for_each(|(byte, of_digest)| *byte = *of_digest);
        let network = Network::of(cx.connection.channel.peer().ip());
        Turn {
            key: LogonKey {
                user: digest,
                network: network.octets(),
            },
            delay: Duration::from_secs(cx.child.config.global.failed_logon_delay.into()),
        }
    }

    /// Waits until the proof may be judged, and reads the user file meanwhile. `None`: not within
    /// any time worth waiting.
    async fn wait(&self, cx: &Context) -> Result<Option<Result<UserFile, NtStatus>>, NtStatus> {
        if self.delay.is_zero() {
            return Ok(Some(read_users(cx).await));
        }
        let question = cx.child.broker.logon(self.key, self.delay);
        match join(question, read_users(cx)).await {
            (None, _) => Ok(None),
            (Some(Duration::ZERO), users) => Ok(Some(users)),
            (Some(wait), _) => {
                let sleep = pin!(cx.child.timers.sleep(wait));
                match select(sleep, pin!(cx.progress.cancelled())).await {
                    // The file may be another one by now.
                    Either::Left(_) => Ok(Some(read_users(cx).await)),
                    Either::Right(_) => Err(NtStatus::CANCELLED),
                }
            }
        }
    }

    fn succeeded(&self, cx: &Context) {
        if !self.delay.is_zero() {
            cx.child.broker.logged_on(self.key, self.delay);
        }
    }
}

/// Lets the client wait for bad news. A CANCEL shortens nothing; without its connection nobody waits.
pub async fn hold(cx: &Context, delay: Duration) {
    let sleep = pin!(cx.child.timers.sleep(delay));
    if let Either::Right(((), sleep)) = select(sleep, pin!(cx.progress.cancelled())).await
        && cx.connection.ended().is_none()
    {
        sleep.await;
    }
}

async fn read_users(cx: &Context) -> Result<UserFile, NtStatus> {
    let path = cx.child.config.global.user_file();
    let load = move || UserFile::load(&path);
    match cx.child.pool.run(RunAs::Server, load).await? {
        Ok(users) => Ok(users),
        // Without a user file there may still be guests.
        Err(UserFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(UserFile::default())
        }
        Err(error) => {
            tracing::error!(%error, "nobody can log on");
            Err(NtStatus::LOGON_FAILURE)
        }
    }
}
