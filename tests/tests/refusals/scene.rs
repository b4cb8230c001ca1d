//! The stage of every refusal: a server, a bystander who works on it all the while, and what must be
//! as it was when the refused client is gone.

use std::fmt::Debug;
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use proto::smb2::{Dialect, FileId, NtStatus};
use tests::client::{ClientError, Connection, Offer, OpenOptions, Session, Tcp, Tree};
use tests::server::{OTHER_PASSWORD, OTHER_USER, PASSWORD, Server, ServerBuilder, USER};

/// Everything here is a matter of milliseconds; a loaded machine may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The bystander's share.
const ELSEWHERE: &str = "elsewhere";

/// A server and its bystander.
pub struct Scene {
    pub server: Server,
    bystander: Client,
    file: FileId,
    round: u8,
}

/// A logged-on client with a tree connect.
pub struct Client {
    pub connection: Connection,
    pub session: Session,
    pub tree: Tree,
}

impl Client {
    /// [`USER`] on a share.
    pub fn of(server: &Server, share: &str) -> Client {
        Client::named(server, USER, PASSWORD, share)
    }

    /// Any user on a share.
    pub fn named(server: &Server, user: &str, password: &str, share: &str) -> Client {
        let mut connection = connect(server, Offer::default()).unwrap();
        let session = connection.log_on(user, password).unwrap();
        let tree = connection.tree_connect(session, share).unwrap();
        Client {
            connection,
            session,
            tree,
        }
    }

    /// Opens a file of the share.
    pub fn open(&mut self, name: &str, options: OpenOptions) -> Result<FileId, ClientError> {
        self.connection.open(self.tree, name, options)
    }
}

impl Scene {
    /// Starts the server, with a share for the bystander. `None`, noted as a skip, where it cannot.
    pub fn of(builder: ServerBuilder) -> Option<Scene> {
        let server = builder
            .share(ELSEWHERE, "    read only = no")
            .start_or_skip()?;
        let mut bystander = Client::named(&server, OTHER_USER, OTHER_PASSWORD, ELSEWHERE);
        let file = bystander.open("work", OpenOptions::read_write()).unwrap();
        Some(Scene {
            server,
            bystander,
            file,
            round: 0,
        })
    }

    /// A scene with a writable share called `share`.
    pub fn plain() -> Option<Scene> {
        Scene::of(Server::builder().share("share", "    read only = no"))
    }

    /// Puts a file of [`USER`]'s into the share called `share`.
    pub fn put(&self, name: &str, contents: &[u8]) {
        let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
        let path = self.server.share("share").join(name);
        std::fs::write(&path, contents).unwrap();
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }

    /// Has a client try something. It must leave one line in the log that names `cause`, the
    /// bystander unharmed, and the server's status as it was. Gives what the attempt gave.
    #[track_caller]
    pub fn refused<T>(&mut self, cause: &str, attempt: impl FnOnce(&Server) -> T) -> T {
        self.tried(Some(cause), attempt)
    }

    /// As [`Scene::refused`], of what the kernel refuses and the log keeps silent about.
    #[track_caller]
    pub fn refused_silently<T>(&mut self, attempt: impl FnOnce(&Server) -> T) -> T {
        self.tried(None, attempt)
    }

    #[track_caller]
    fn tried<T>(&mut self, cause: Option<&str>, attempt: impl FnOnce(&Server) -> T) -> T {
        self.work();
        let status = self.settled_status();
        let logged = self.server.log().len();
        let outcome = attempt(&self.server);
        self.work();
        self.wait_until(|scene| scene.server.status() == status, "the old status");
        let new_lines = |scene: &Scene| scene.server.log()[logged..].to_owned();
        if let Some(cause) = cause {
            self.wait_until(|scene| new_lines(scene).contains(cause), cause);
        }
        let lines = new_lines(self);
        let loud: Vec<&str> = lines.lines().filter(|line| is_loud(line)).collect();
        match cause {
            Some(cause) => {
                let naming = lines.lines().filter(|line| line.contains(cause)).count();
                let whose = |line: &&str| line.contains("peer=127.0.0.1");
                let mut named = lines.lines().filter(|line| line.contains(cause));
                assert!(named.all(|line| whose(&line)), "no peer in:\n{lines}");
                assert_eq!(naming, 1, "lines that name {cause:?}:\n{lines}");
                assert!(
                    loud.iter().all(|line| line.contains(cause)),
                    "other warnings than of {cause:?}:\n{lines}"
                );
            }
            None => assert!(loud.is_empty(), "warnings:\n{lines}"),
        }
        outcome
    }

    /// The bystander writes, reads back, and compares.
    #[track_caller]
    fn work(&mut self) {
        self.round = self.round.wrapping_add(1);
        let data = vec![self.round; 70_000];
        let Client {
            connection, tree, ..
        } = &mut self.bystander;
        let written = connection.write(*tree, self.file, 0, &data);
        assert_eq!(written.expect("the bystander writes"), 70_000);
        let read = connection.read(*tree, self.file, 0, 70_000);
        assert!(read.expect("the bystander reads") == data, "other bytes");
    }

    /// The status once the clients of an earlier attempt, and their processes, are gone.
    fn settled_status(&self) -> String {
        let bystander_alone = |status: &str| status.matches("\"client_guid\"").count() == 1;
        self.wait_until(
            |scene| bystander_alone(&scene.server.status()),
            "the bystander to be alone",
        );
        self.server.status()
    }

    #[track_caller]
    fn wait_until(&self, done: impl Fn(&Scene) -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; the status is {}",
                self.server.status()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A connection with this offer.
pub fn connect(server: &Server, offer: Offer) -> Result<Connection, ClientError> {
    Connection::negotiate(Tcp::connect(server.address())?, offer)
}

/// A connection of one dialect.
pub fn speaking(server: &Server, dialect: Dialect) -> Connection {
    connect(server, Offer::only(dialect)).unwrap()
}

/// The status an attempt was answered with.
#[track_caller]
pub fn status<T: Debug>(outcome: Result<T, ClientError>) -> NtStatus {
    match outcome {
        Err(ClientError::Status(status)) => status,
        other => panic!("expected a status, got {other:?}"),
    }
}

fn is_loud(line: &str) -> bool {
    line.contains(" WARN ") || line.contains(" ERROR ")
}
