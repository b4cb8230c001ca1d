"""with_smbprotocol.py PORT USER PASSWORD SHARE DIALECT: what a Python program does with a share, signed, in one dialect."""

import os
import sys
import uuid

import smbclient
from smbprotocol.connection import Connection, Dialects
from smbprotocol.session import Session

port, user, password, share, dialect = sys.argv[1:]
port = int(port)
wanted = {
    "2.0.2": Dialects.SMB_2_0_2,
    "2.1.0": Dialects.SMB_2_1_0,
    "3.0.0": Dialects.SMB_3_0_0,
    "3.0.2": Dialects.SMB_3_0_2,
    "3.1.1": Dialects.SMB_3_1_1,
}[dialect]

cache = {}
connection = Connection(uuid.uuid4(), "127.0.0.1", port, require_signing=True)
connection.connect(dialect=wanted)
assert connection.dialect == wanted, hex(connection.dialect)
session = Session(connection, user, password, require_encryption=False)
session.connect()
assert session.signing_required
cache[f"127.0.0.1:{port}"] = connection
arguments = {"port": port, "connection_cache": cache, "username": user, "password": password}
root = rf"\\127.0.0.1\{share}"

folder = root + r"\with smbprotocol"
smbclient.mkdir(folder, **arguments)
data = os.urandom(2_500_000)
with smbclient.open_file(folder + r"\sent", mode="wb", **arguments) as file:
    file.write(data)
with smbclient.open_file(folder + r"\sent", mode="rb", **arguments) as file:
    assert file.read() == data
assert smbclient.stat(folder + r"\sent", **arguments).st_size == len(data)
assert [entry.name for entry in smbclient.scandir(folder, **arguments)] == ["sent"]
smbclient.rename(folder + r"\sent", folder + r"\moved", **arguments)
assert smbclient.listdir(folder, **arguments) == ["moved"]
smbclient.truncate(folder + r"\moved", 1000, **arguments)
with smbclient.open_file(folder + r"\moved", mode="rb", **arguments) as file:
    assert file.read() == data[:1000]
smbclient.remove(folder + r"\moved", **arguments)
smbclient.rmdir(folder, **arguments)
assert "with smbprotocol" not in smbclient.listdir(root, **arguments)
session.disconnect()
connection.disconnect()
print("smbprotocol: ok")
