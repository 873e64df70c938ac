"""The ports of tests' servers: chosen now, listened on later, and nobody else's meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.servers import free_ports


def test_no_port_is_chosen_twice() -> None:
    """Whoever has chosen some need not listen there at once."""
    blocks = [range(first, first + count) for count in (1, 30, 1, 2, 30) for first in [free_ports(count)]]
    ports = [port for block in blocks for port in block]
    assert len({*ports}) == len(ports)


def test_another_process_chooses_elsewhere() -> None:
    """Two runs of tests, or two processes of one, never choose the same port, taken or not."""
    ours = free_ports()
    code = "from tests.servers import free_ports; print(*(free_ports() for _ in range(50)))"
    command = [sys.executable, "-c", code]
    theirs = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert all(int(port) // 1_000 != ours // 1_000 for port in theirs)


def test_what_somebody_else_listens_on_is_passed_over() -> None:
    """Another program of the machine may have any of them."""
    first = free_ports()
    with socket.create_server(("127.0.0.1", first + 2)):
        assert first + 2 not in {free_ports() for _ in range(3)}
