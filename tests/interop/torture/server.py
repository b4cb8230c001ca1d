"""A server of ours in network and mount namespaces of its own: always port 445, shares on memory.

Owns its folder and its processes; the runner starts one per pair of workers. It never touches the host's ports.
"""

import pathlib
import shutil
import subprocess
import tempfile
import time

import realm

# Accounts that each Debian has; neither is the guest account.
USER, PASSWORD = "games", "Secret-1"
OTHER_USER, OTHER_PASSWORD = "man", "Secret-2"
# Its addresses, beside loopback: .1 and .2.
NETWORK = "10.77.0"
START_LIMIT_S = 30
END_LIMIT_S = 10

GLOBAL = """
    server smb transports = tcp:445
    private dir = {folder}/private
    state directory = {folder}/state
    lock directory = {folder}/run
    passdb file = {folder}/users
    smbd:FSCTL_SMBTORTURE = yes
    map to guest = bad user
    smb2 max trans = 8M
    failed logon delay = 0
"""

SHARE = """
[{name}]
    path = {path}
    read only = no
    oplocks = yes
    guest ok = yes
"""


class Server:
    """Started when made; `stop` ends it."""

    def __init__(self, smbd: pathlib.Path, shares: list[str], lines: list[str] = (), kerberos: bool = False):
        memory = "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="smbdirect-torture-", dir=memory))
        self.folder.chmod(0o755)
        self.shares = shares
        self.process = None
        self.realm = None
        try:
            if kerberos:
                self.realm = realm.Realm(self.folder / "realm", {USER: PASSWORD})
                lines = [*lines, *self.realm.settings]
            self._start(smbd, lines)
        except BaseException:
            self.stop()
            raise

    def _start(self, smbd, lines):
        settings = [line.strip() for line in GLOBAL.format(folder=self.folder).splitlines() if line.strip()]
        # A setting may stand once.
        given = {line.split("=")[0].strip() for line in lines}
        settings = [line for line in settings if line.split("=")[0].strip() not in given] + list(lines)
        config = "[global]\n" + "".join(f"    {line}\n" for line in settings)
        for name in self.shares:
            path = self.folder / "shares" / name
            path.mkdir(parents=True)
            shutil.chown(path, USER)
            path.chmod(0o777)
            config += SHARE.format(name=name, path=path)
        self.config = self.folder / "smb.conf"
        self.config.write_text(config)
        for user, password in ((USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)):
            command = [smbd, "--config", self.config, "passwd", "add", user, "--stdin"]
            done = subprocess.run(command, input=password + "\n", text=True, capture_output=True)
            if done.returncode != 0:
                raise RuntimeError(f"smbd passwd add {user}: {done.stdout}{done.stderr}")
        # The last step replaces the shell, so that the process is the supervisor itself. Loopback is never told to
        # clients as an interface, so there is another.
        script = f"""set -e
            ip link set lo up
            ip link add lan0 type veth peer name lan1
            for number in 0 1; do
                ip address add {NETWORK}.$((number + 1))/24 dev lan$number
                ip link set lan$number up
            done
            {self.realm.script if self.realm else ""}
            exec "$0" --config "$1"
        """
        unshare = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*unshare, smbd, self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        self._wait_until_up()

    @property
    def log_path(self) -> pathlib.Path:
        return self.folder / "smbd.log"

    @property
    def environment(self) -> dict[str, str] | None:
        return self.realm.environment if self.realm else None

    @property
    def host(self) -> str:
        return realm.HOST if self.realm else "127.0.0.1"

    @property
    def logon(self) -> list[str]:
        """How smbtorture logs on: with a password, or the ticket it gets for one."""
        if self.realm:
            return ["-U", f"{USER}@{realm.REALM}%{PASSWORD}", "--use-kerberos=required"]
        return ["-U", f"{USER}%{PASSWORD}"]

    def inside(self, command: list) -> list:
        """The command, run where the server is reached."""
        return ["nsenter", "--net", "--mount", f"--target={self.process.pid}", *command]

    def _wait_until_up(self):
        deadline = time.monotonic() + START_LIMIT_S
        ports = [445, 88] if self.realm else [445]
        probe = ["bash", "-c", "; ".join(f"exec 3<>/dev/tcp/127.0.0.1/{port}" for port in ports)]
        while subprocess.run(self.inside(probe), capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer; it logged:\n{self.log_path.read_text()}")
            time.sleep(0.05)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
