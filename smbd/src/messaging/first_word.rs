//! Who speaks first on a connection. A process may die between its first word and the moment another
//! one hears that it has the connection, and a broker may die beside it: then nobody is left who knows.
//! The socket knows. The mark is its send timeout, which means nothing on a socket that never blocks,
//! and which every duplicate of the descriptor shares.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};

/// Any but none.
const MARK: Duration = Duration::from_secs(1);

/// True if nobody has had the first word on this connection; from now on somebody has. To be called
/// before anything is said.
pub fn take(connection: impl AsFd) -> bool {
    let taken = socket_timeout(&connection, Timeout::Send).is_ok_and(|mark| mark.is_some());
    if !taken && let Err(errno) = set_socket_timeout(&connection, Timeout::Send, Some(MARK)) {
        // Only a second death at the wrong moment would make a difference.
        tracing::debug!(%errno, "a connection can't be marked");
    }
    !taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_of_all_duplicates_has_the_first_word() {
        let (connection, client) = shm::link::pair().unwrap();
        let duplicate = connection.try_clone().unwrap();
        assert!(take(&connection));
        assert!(!take(&duplicate));
        drop(connection);
        assert!(!take(&duplicate), "it outlives whoever took it");
        assert!(take(&client), "the other end is another socket");
    }

    #[test]
    fn a_tcp_connection_has_one_first_word_too() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (connection, _) = listener.accept().unwrap();
        let duplicate = connection.try_clone().unwrap();
        assert!(take(&connection));
        assert!(!take(&duplicate));
        assert!(take(&client));
    }
}
