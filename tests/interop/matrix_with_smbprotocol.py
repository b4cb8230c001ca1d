"""matrix_with_smbprotocol.py PORT USER PASSWORD SHARE: a file both ways in every dialect, signed with every algorithm and
encrypted with every cipher that smbprotocol has. A line 'ok DIALECT SIGNING CIPHER' for each."""

import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import smbclient
from smbprotocol.connection import Ciphers, Connection, Dialects, SigningAlgorithms
from smbprotocol.session import Session

port, user, password, share = sys.argv[1:]
port = int(port)
SIGNING = {
    "HMAC-SHA256": SigningAlgorithms.HMAC_SHA256,
    "AES-128-CMAC": SigningAlgorithms.AES_CMAC,
    "AES-128-GMAC": SigningAlgorithms.AES_GMAC,
}
CIPHERS = {
    "AES-128-CCM": Ciphers.AES_128_CCM,
    "AES-128-GCM": Ciphers.AES_128_GCM,
    "AES-256-CCM": Ciphers.AES_256_CCM,
    "AES-256-GCM": Ciphers.AES_256_GCM,
}
CELLS = [(Dialects.SMB_2_0_2, "HMAC-SHA256", None), (Dialects.SMB_2_1_0, "HMAC-SHA256", None)]
for earlier in (Dialects.SMB_3_0_0, Dialects.SMB_3_0_2):
    CELLS += [(earlier, "AES-128-CMAC", cipher) for cipher in (None, "AES-128-CCM")]
CELLS += [(Dialects.SMB_3_1_1, signing, cipher) for signing in SIGNING for cipher in (None, *CIPHERS)]


def file_both_ways(number, dialect, signing, cipher):
    connection = Connection(uuid.uuid4(), "127.0.0.1", port, require_signing=True)
    choices = {}
    if dialect == Dialects.SMB_3_1_1:
        choices["preferred_signing_algos"] = [SIGNING[signing]]
        choices["preferred_encryption_algos"] = [CIPHERS[cipher]] if cipher else list(CIPHERS.values())
    connection.connect(dialect=dialect, **choices)
    assert connection.dialect == dialect, hex(connection.dialect)
    if dialect == Dialects.SMB_3_1_1:
        assert connection.signing_algorithm_id == SIGNING[signing], connection.signing_algorithm_id
        assert not cipher or connection.cipher_id == CIPHERS[cipher], connection.cipher_id
    session = Session(connection, user, password, require_encryption=cipher is not None)
    session.connect()
    assert session.encrypt_data if cipher else session.signing_required
    cache = {f"127.0.0.1:{port}": connection}
    arguments = {"port": port, "connection_cache": cache, "username": user, "password": password}
    if cipher:
        arguments["encrypt"] = True
    path = rf"\\127.0.0.1\{share}\python {number}"
    data = os.urandom(150_001)
    with smbclient.open_file(path, mode="wb", **arguments) as file:
        file.write(data)
    with smbclient.open_file(path, mode="rb", **arguments) as file:
        assert file.read() == data
    smbclient.remove(path, **arguments)
    session.disconnect()
    connection.disconnect()
    return f"ok {dialect:#06x} {signing} {cipher or '-'}"


with ThreadPoolExecutor(4) as pool:
    for line in pool.map(lambda cell: file_both_ways(cell[0], *cell[1]), enumerate(CELLS)):
        print(line)
