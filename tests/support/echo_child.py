"""A child process for tests of `ark_backends.kit.child_process`: it does what each message says."""

from __future__ import annotations

import os
import signal
import socket
import time

from ark_backends.kit.sandbox import MEGABYTE, Channel, limit_cpu, serve

MEMORY = 64 * MEGABYTE


def attempt(action: str) -> str:
    """What becomes of something that no child may do."""
    try:
        if action == "file":
            open(__file__).close()
        elif action == "write":
            open("/tmp/ark-child", "w").close()
        elif action == "socket":
            socket.socket().close()
        elif action == "pair":
            socket.socketpair()
        elif action == "pipe":
            os.pipe()
        elif action == "duplicate":
            os.dup(0)
        elif action == "memory":
            bytearray(2 * MEMORY)
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "allowed"


def handle(channel: Channel) -> None:
    kind, payload = channel.receive()
    text = payload.decode()
    if kind == b"T":
        channel.send(b"T", attempt(text).encode())
    elif kind == b"E":
        channel.send(b"E", payload)
    elif kind == b"W":
        channel.send(b"W", os.getcwd().encode() + b"\n" + "\n".join(os.environ).encode())
    elif kind == b"S":
        signal.raise_signal(int(text))
        channel.send(b"S", b"alive")
    elif kind == b"C":
        limit_cpu(time.process_time() + float(text))
        while True:
            pass
    elif kind == b"Z":
        time.sleep(float(text))
        channel.send(b"Z")
    elif kind == b"X":
        raise RuntimeError(text)
    elif kind == b"L":
        channel.send(b"L", bytes(5 << 20))


if __name__ == "__main__":
    serve(handle, memory=MEMORY)
