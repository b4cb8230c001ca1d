"""A Kerberos realm of one server: its KDC runs beside the server, in the same namespaces, and ends with it.

Owns the realm's folder. Whoever is given `environment` finds the KDC, and nobody else.
"""

import os
import pathlib
import subprocess

REALM = "TEST.EXAMPLE"
# The server's name: nobody asks for the ticket of an address.
HOST = "files.test.example"
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local")

CLIENT = f"""
[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    clockskew = 5
[realms]
    {REALM} = {{
        kdc = tcp/127.0.0.1:88
        kdc = 127.0.0.1:88
    }}
[domain_realm]
    .test.example = {REALM}
"""

KDC = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:88
    kdc_tcp_listen = 127.0.0.1:88
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_life = 10h
        supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
    }}
"""


class Realm:
    """Made with its users' passwords; the server's script runs `kdc`."""

    def __init__(self, folder: pathlib.Path, users: dict[str, str]):
        folder.mkdir()
        self.folder = folder
        self.keytab = folder / "keytab"
        (folder / "krb5.conf").write_text(CLIENT)
        (folder / "kdc.conf").write_text(KDC.format(realm=REALM, folder=folder))
        # smbtorture looks in /etc/hosts alone for the server's name.
        (folder / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
        self.environment = {**os.environ, "KRB5_CONFIG": str(folder / "krb5.conf")}
        self._run("kdb5_util", "create", "-s", "-P", "master")
        for user, password in users.items():
            self._run("kadmin.local", "-q", f"addprinc -pw {password} {user}")
        self._run("kadmin.local", "-q", f"addprinc -randkey cifs/{HOST}")
        self._run("kadmin.local", "-q", f"ktadd -k {self.keytab} cifs/{HOST}")

    @property
    def settings(self) -> list[str]:
        return [
            "kerberos method = dedicated keytab",
            f"dedicated keytab file = {self.keytab}",
            f"realm = {REALM}",
        ]

    @property
    def script(self) -> str:
        """What the shell runs that becomes the server: the KDC is that process' child, and ends with it."""
        return f"""
            mount --bind {self.folder}/hosts /etc/hosts
            KRB5_KDC_PROFILE={self.folder}/kdc.conf setpriv --pdeathsig TERM {program("krb5kdc")} -n -r {REALM} &
        """

    def _run(self, name: str, *arguments: str):
        environment = {**self.environment, "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf")}
        command = [program(name), "-r", REALM, *arguments]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")


def program(name: str) -> str | None:
    """The administrator's programs are not on everybody's path."""
    paths = (pathlib.Path(folder) / name for folder in ("/usr/sbin", "/usr/bin", "/sbin"))
    return next((str(path) for path in paths if path.exists()), None)


def missing() -> str | None:
    """Why there can be no realm here, if so."""
    lacking = [name for name in PROGRAMS if program(name) is None]
    return f"there is no {lacking[0]}; install krb5-kdc and krb5-admin-server" if lacking else None
