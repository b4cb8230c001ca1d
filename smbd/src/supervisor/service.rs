//! A process the supervisor executes and keeps alive: zygote, broker, smbdirectd.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::control::ControlMessage;
use proto::control::zygote::ProcessEnd;
use shm::SystemError;
use shm::link::Datagram;

use super::restart::Restart;
use crate::messaging::ControlLink;
use crate::sys::fork::execute;
use crate::sys::poll::{Interest, Poll};

/// One service: what it says is `I`, what it is told `O`.
pub struct Service<I, O> {
    /// As the log calls it.
    pub name: &'static str,
    /// Its token in the poll set.
    token: u64,
    pub pid: Option<i32>,
    link: Option<ControlLink<I, O>>,
    waits: bool,
    restart: Restart,
    /// It is not started again.
    dismissed: bool,
    /// When to start it (again).
    pub due: Option<Instant>,
}

impl<I: ControlMessage, O: ControlMessage> Service<I, O> {
    /// One that is not running and not due.
    pub fn new(name: &'static str, token: u64) -> Service<I, O> {
        Service {
            name,
            token,
            pid: None,
            link: None,
            waits: false,
            restart: Restart::default(),
            dismissed: false,
            due: None,
        }
    }

    /// Executes it if it is due. True if it was started now: its first messages are to be sent.
    pub fn start_if_due(
        &mut self,
        poll: &Poll,
        now: Instant,
        program: &Path,
        arguments: &[OsString],
    ) -> bool {
        if self.pid.is_some() || self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        match self.start(poll, program, arguments) {
            Ok(()) => {
                self.restart.started(now);
                tracing::info!(pid = self.pid, "started the {}", self.name);
                true
            }
            Err(error) => {
                let delay = self.restart.delay(now);
                self.due = Some(now + delay);
                tracing::error!(
                    %error,
                    program = %program.display(),
                    "can't start the {}; trying again in {} s",
                    self.name,
                    delay.as_secs()
                );
                false
            }
        }
    }

    fn start(
        &mut self,
        poll: &Poll,
        program: &Path,
        arguments: &[OsString],
    ) -> Result<(), SystemError> {
        let (here, there) = shm::link::pair()?;
        poll.add(&here, self.token, Interest::Read)?;
        self.pid = Some(execute(program, arguments, there)?);
        self.link = Some(ControlLink::new(here));
        self.waits = false;
        Ok(())
    }

    /// Its link, while it has one.
    pub fn link(&mut self) -> Option<&mut ControlLink<I, O>> {
        self.link.as_mut()
    }

    /// Whether it can be talked to.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// Hands out what it said. One whose link fails is ended; it is started again once reaped.
    pub fn receive(
        &mut self,
        datagram: &mut Datagram,
        deliver: impl FnMut(I, Vec<std::os::fd::OwnedFd>),
    ) {
        if let Some(link) = self.link.as_mut()
            && let Err(error) = link.receive(datagram, deliver)
        {
            if !error.is_closed() {
                tracing::error!(%error, "the {} broke its protocol; ending it", self.name);
            }
            self.end();
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self, poll: &Poll) {
        let Some(link) = self.link.as_mut() else {
            return;
        };
        match link.flush() {
            Ok(done) => {
                if self.waits == done {
                    self.waits = !done;
                    let interest = match self.waits {
                        true => Interest::ReadWrite,
                        false => Interest::Read,
                    };
                    let _ = poll.modify(&*link, self.token, interest);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the {} takes no messages; ending it", self.name);
                self.end();
            }
        }
    }

    /// Closes its link and kills it.
    pub fn end(&mut self) {
        self.link = None;
        if let Some(pid) = self.pid {
            // It is this process's own child and not reaped: the pid is its.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Closes its link, which asks it to end by itself.
    pub fn dismiss(&mut self) {
        self.link = None;
        self.let_end();
    }

    /// From now on it is not started again, whatever ends it.
    pub fn let_end(&mut self) {
        self.due = None;
        self.dismissed = true;
    }

    /// It was reaped: says when it is started again, if it is.
    pub fn ended(&mut self, end: ProcessEnd, now: Instant) {
        self.pid = None;
        self.link = None;
        if self.dismissed {
            tracing::debug!(%end, "the {} ended", self.name);
            return;
        }
        let delay = self.restart.delay(now);
        self.due = Some(now + delay);
        let when = match delay.as_secs() {
            0 => "now".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        tracing::error!(%end, "the {} ended; starting it again {when}", self.name);
    }
}
