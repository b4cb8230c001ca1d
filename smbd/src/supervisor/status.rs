//! The status socket: `smbd status` connects, every child, the broker and smbdirectd are asked, and whatever
//! has come after a second at most is written as one report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::control::gateway::ConnectionStatus;
use proto::control::status::StatusReport;
use proto::control::{ChildId, QueryId};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use shm::SystemError;

/// The socket's name in the run directory.
pub const SOCKET: &str = "status";
/// Who has not answered by then is reported without an answer.
const LIMIT: Duration = Duration::from_secs(1);
/// Askers at once.
const MAX_ASKERS: usize = 16;
/// An asker that does not read its report is tried again after this, until the limit has passed
/// once more.
const PAUSE: Duration = Duration::from_millis(20);

/// The listening socket and those who ask.
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
    askers: BTreeMap<QueryId, Asker>,
    last: u64,
}

struct Asker {
    socket: OwnedFd,
    state: State,
}

/// Who has not answered a query yet.
#[derive(Debug, Default)]
pub struct Asked {
    pub children: BTreeSet<ChildId>,
    pub gateway: bool,
    pub broker: bool,
}

enum State {
    Waiting {
        report: Box<StatusReport>,
        asked: Asked,
        until: Instant,
    },
    Writing {
        bytes: Vec<u8>,
        written: usize,
        until: Instant,
    },
}

impl StatusSocket {
    /// Makes the run directory (0700) and the socket (0600) in it.
    pub fn bind(directory: &Path) -> Result<StatusSocket, SystemError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(SystemError::of("make the run directory"))?;
        let path = directory.join(SOCKET);
        if UnixStream::connect(&path).is_ok() {
            let hint = io::Error::other(format!(
                "smbd already runs here ({} answers); stop it, or give this one another lock \
                 directory",
                path.display()
            ));
            return Err(SystemError::of("make the status socket")(hint));
        }
        let _ = fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).map_err(SystemError::of("make the status socket"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .map_err(SystemError::of("protect the status socket"))?;
        Ok(StatusSocket {
            listener,
            path,
            askers: BTreeMap::new(),
            last: 0,
        })
    }

    /// Takes the next asker, if there is one and it is root or this user. To be followed by
    /// [`StatusSocket::expect`].
    pub fn accept(&mut self, now: Instant) -> Option<QueryId> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = accept_with(&self.listener, flags).ok()?;
        let asker = sockopt::socket_peercred(&socket).ok()?.uid;
        let own = rustix::process::getuid();
        if self.askers.len() >= MAX_ASKERS || !(asker.is_root() || asker == own) {
            return None;
        }
        self.last += 1;
        let query = QueryId(self.last);
        let state = State::Waiting {
            report: Box::default(),
            asked: Asked::default(),
            until: now,
        };
        self.askers.insert(query, Asker { socket, state });
        Some(query)
    }

    /// Waits for these answers.
    pub fn expect(&mut self, query: QueryId, report: StatusReport, asked: Asked, now: Instant) {
        if let Some(asker) = self.askers.get_mut(&query) {
            asker.state = State::Waiting {
                report: Box::new(report),
                asked,
                until: now + LIMIT,
            };
        }
    }

    /// A child's answer to this query, or its end: `fill` puts it into the report.
    pub fn child_answered(
        &mut self,
        query: QueryId,
        child: ChildId,
        fill: impl FnOnce(&mut StatusReport),
    ) {
        if let Some((report, asked)) = self.waiting(query)
            && asked.children.remove(&child)
        {
            fill(report);
        }
    }

    /// A part of smbdirectd's answer to this query.
    pub fn gateway_adds(&mut self, query: QueryId, connections: Vec<ConnectionStatus>) {
        if let Some((report, _)) = self.waiting(query)
            && let Some(gateway) = report.gateway.as_mut()
        {
            gateway.connections.extend(connections);
        }
    }

    /// smbdirectd's answer to this query.
    pub fn gateway_answered(&mut self, query: QueryId, fill: impl FnOnce(&mut StatusReport)) {
        if let Some((report, asked)) = self.waiting(query)
            && std::mem::take(&mut asked.gateway)
        {
            fill(report);
        }
    }

    /// The broker's answer to this query.
    pub fn broker_answered(&mut self, query: QueryId, fill: impl FnOnce(&mut StatusReport)) {
        if let Some((report, asked)) = self.waiting(query)
            && std::mem::take(&mut asked.broker)
        {
            fill(report);
        }
    }

    /// A child is gone: nobody waits for it.
    pub fn child_ended(&mut self, child: ChildId) {
        self.all_waiting(|asked| {
            asked.children.remove(&child);
        });
    }

    /// smbdirectd is gone.
    pub fn gateway_ended(&mut self) {
        self.all_waiting(|asked| asked.gateway = false);
    }

    /// The broker is gone.
    pub fn broker_ended(&mut self) {
        self.all_waiting(|asked| asked.broker = false);
    }

    fn waiting(&mut self, query: QueryId) -> Option<(&mut StatusReport, &mut Asked)> {
        match &mut self.askers.get_mut(&query)?.state {
            State::Waiting { report, asked, .. } => Some((report, asked)),
            State::Writing { .. } => None,
        }
    }

    fn all_waiting(&mut self, change: impl Fn(&mut Asked)) {
        for asker in self.askers.values_mut() {
            if let State::Waiting { asked, .. } = &mut asker.state {
                change(asked);
            }
        }
    }

    /// Writes reports that are complete or late.
    pub fn write(&mut self, now: Instant) {
        self.askers.retain(|_, asker| asker.write(now));
    }

    /// When `write` has something to do at the latest.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let untils = self.askers.values().map(|asker| match asker.state {
            State::Waiting { until, .. } => until,
            State::Writing { .. } => now + PAUSE,
        });
        untils.min()
    }
}

impl Asker {
    /// False when it has its report, or won't get it.
    fn write(&mut self, now: Instant) -> bool {
        if let State::Waiting {
            report,
            asked,
            until,
        } = &mut self.state
        {
            let complete = asked.children.is_empty() && !asked.gateway && !asked.broker;
            if now < *until && !complete {
                return true;
            }
            report.name_owners();
            self.state = State::Writing {
                bytes: report.encode(),
                written: 0,
                until: now + LIMIT,
            };
        }
        let State::Writing {
            bytes,
            written,
            until,
        } = &mut self.state
        else {
            return true;
        };
        loop {
            let left = bytes.get(*written..).unwrap_or_default();
            if left.is_empty() {
                return false;
            }
            match rustix::io::write(&self.socket, left) {
                Ok(count) => *written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return now < *until,
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
