"""A cable between two network namespaces that can be long or bad: frames arrive later, or some never do.

    python wire.py <namespace> <interface> <other namespace> <interface> <control socket>

The kernel's own means for this (tc netem) is a module that many kernels lack, so a program stands between two TAP interfaces
and carries every Ethernet frame from one to the other. Each end's TCP/IP is the kernel's; what it sees is a real line, with its
own retransmissions. A datagram on the control socket says how the line is from now on:

    <delay there, ms> <delay back, ms> <lost there, 0 to 1> <lost back, 0 to 1>

"There" is from the first interface to the second. A delay is the same for all frames, so none overtakes another. At most
`HELD_MAX` frames are under way; more are dropped, as a full queue would. It ends by a signal, and the interfaces with it.

It imports nothing but the standard library, as it is run by its path.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Final, cast

HELD_MAX: Final = 20_000
"""Frames under way each way: 30 MB at most."""

FRAME_MAX_BYTES: Final = 65_536

_CLONE_NEWNET: Final = 0x40000000  # setns(2)
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI


def enter_namespace(name: str) -> None:
    """Put this thread, and those that it starts, into a network namespace that `ip netns` has made.

    Raises:
        OSError: when there is none of that name, or this is not root.
    """
    handle = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {name} cannot be entered")
    finally:
        os.close(handle)


def open_tap(namespace: str, interface: str) -> int:
    """Make a TAP interface in a namespace, and return its file: a frame a read, a frame a write."""
    enter_namespace(namespace)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _TAP_WITHOUT_HEADER))
    return tap


class Way:
    """One direction of the wire.

    Attributes:
        delay_s: how long a frame is under way.
        loss: share of frames, 0 to 1, that never arrive.
    """

    def __init__(self, source: int, sink: int) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self._source = source
        self._sink = sink
        self._held: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Read all frames that wait at the source."""
        with suppress(BlockingIOError):
            while True:
                frame = os.read(self._source, FRAME_MAX_BYTES)
                if random.random() >= self.loss and len(self._held) < HELD_MAX:  # noqa: S311 - a bad line, no secret
                    self._held.append((time.monotonic() + self.delay_s, frame))

    def give(self) -> float | None:
        """Write what is due, and return in how many seconds the next frame will be; None when none is under way."""
        while self._held:
            wait_s = self._held[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            with suppress(OSError):  # the interface is down, or full: the frame is lost
                os.write(self._sink, self._held.popleft()[1])
        return None


def carry(there: Way, back: Way, sources: tuple[int, int], control: socket.socket) -> None:
    """Carry frames; never return."""
    selector = selectors.DefaultSelector()
    selector.register(sources[0], selectors.EVENT_READ, there.take)
    selector.register(sources[1], selectors.EVENT_READ, back.take)
    selector.register(control, selectors.EVENT_READ, lambda: change(there, back, control.recv(256)))
    while True:
        waits_s = [wait_s for way in (there, back) if (wait_s := way.give()) is not None]
        for key, _ in selector.select(min(waits_s, default=None)):
            key.data()


def change(there: Way, back: Way, said: bytes) -> None:
    """Let the line be as a datagram says."""
    there_ms, back_ms, there.loss, back.loss = map(float, said.split())
    there.delay_s, back.delay_s = there_ms / 1_000, back_ms / 1_000


def main(namespace: str, interface: str, other_namespace: str, other_interface: str, control_path: str) -> None:
    """Open both ends, and carry frames between them; never return."""
    near, far = open_tap(namespace, interface), open_tap(other_namespace, other_interface)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    control.bind(control_path)  # after the interfaces: who sees it knows that they are there
    carry(Way(near, far), Way(far, near), (near, far), control)


if __name__ == "__main__":
    main(*cast("tuple[str, str, str, str, str]", tuple(sys.argv[1:])))
