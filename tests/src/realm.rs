//! A Kerberos realm for one test: Debian's KDC on a port of its own on loopback, with users, services
//! and their keytabs in a folder. Ended when dropped. Nobody but its clients, by `KRB5_CONFIG`, finds it.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::LabError;
use crate::server::free_port;

/// The realm.
pub const REALM: &str = "TEST.EXAMPLE";
/// The server's name in it: a client asks for the ticket of this host.
pub const HOST: &str = "files.test.example";

/// A running KDC.
pub struct Realm {
    kdc: Child,
    folder: TempDir,
    port: u16,
}

impl Realm {
    /// Makes the realm and starts its KDC. A machine without Debian's krb5-kdc is a skip.
    pub fn start() -> Result<Realm, LabError> {
        for program in ["krb5kdc", "kdb5_util", "kadmin.local"] {
            if program_path(program).is_none() {
                return Err(LabError::Skip(format!(
                    "there is no {program}; install krb5-kdc and krb5-admin-server"
                )));
            }
        }
        let folder = tempfile::Builder::new()
            .prefix("smbdirect-realm-")
            .tempdir()
            .expect("a temporary folder");
        let port = free_port();
        write_configuration(folder.path(), port);
        let run = |program: &str, arguments: &[&str]| {
            let output = command(program, folder.path())
                .args(["-r", REALM])
                .args(arguments)
                .output()
                .expect("run a program of Kerberos");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
        };
        run("kdb5_util", &["create", "-s", "-P", "master"]);
        let kdc = command("krb5kdc", folder.path())
            .args(["-n", "-r", REALM])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start krb5kdc");
        let realm = Realm { kdc, folder, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", realm.port)).is_err() {
            assert!(Instant::now() < deadline, "the KDC does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(realm)
    }

    /// A user with a password, and further arguments of `addprinc`.
    pub fn add_user(&self, name: &str, password: &str, more: &str) {
        self.administer(&format!("addprinc {more} -pw {password} {name}"));
    }

    /// A service with a key in a new keytab of this name. Called again, the service has another key.
    pub fn add_service(&self, service: &str, keytab: &str) -> PathBuf {
        let path = self.folder.path().join(keytab);
        self.administer(&format!("addprinc -randkey {service}"));
        self.administer(&format!("ktadd -k {} {service}", path.display()));
        path
    }

    /// What `KRB5_CONFIG` must be for a client or a server of this realm.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("krb5.conf")
    }

    /// The realm's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn administer(&self, request: &str) {
        let output = command("kadmin.local", self.folder.path())
            .args(["-r", REALM, "-q", request])
            .output()
            .expect("run kadmin.local");
        assert!(
            output.status.success(),
            "kadmin.local {request}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        let _ = self.kdc.kill();
        let _ = self.kdc.wait();
    }
}

fn write_configuration(folder: &Path, port: u16) {
    let at = folder.display();
    let client = format!(
        "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n \
         dns_lookup_realm = false\n dns_canonicalize_hostname = false\n rdns = false\n \
         clockskew = 1\n udp_preference_limit = 1\n\
         [realms]\n {REALM} = {{\n  kdc = tcp/127.0.0.1:{port}\n  kdc = 127.0.0.1:{port}\n }}\n\
         [domain_realm]\n .test.example = {REALM}\n"
    );
    std::fs::write(folder.join("krb5.conf"), client).expect("write krb5.conf");
    let kdc = format!(
        "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n {REALM} = {{\n  database_name = {at}/principal\n  \
         key_stash_file = {at}/stash\n  acl_file = {at}/acl\n  max_life = 10h\n  \
         supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal\n }}\n"
    );
    std::fs::write(folder.join("kdc.conf"), kdc).expect("write kdc.conf");
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program_path(program).expect("it was looked for"));
    command
        .env("KRB5_CONFIG", folder.join("krb5.conf"))
        .env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
    command
}

/// The administrator's programs are not on everybody's path.
fn program_path(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
}
