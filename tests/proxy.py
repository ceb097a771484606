"""A TCP proxy that spoils a connection at a chosen byte: what a network does, at a moment that a test can choose.

The bytes of all connections are counted together, in both directions, in the order in which they pass. What comes after
the fault passes unharmed, as over a network that works again.
"""

import re
import select
import socket
import struct
import threading
import time

SILENCE_S = 2.0
RESET = struct.pack("ii", 1, 0)  # close() sends RST and drops what is under way


WRITES = re.compile(rb"\bcommit\b|\binsert into\b", re.IGNORECASE)


class Proxy:
    """Listens on `port` of this machine and hands on to another. A context manager.

    `arm` chooses a fault and where it strikes: at a byte, or in place of the answer to the n-th statement that writes:
    `cut` closes both ends, `reset` resets them, `stall` is silent for SILENCE_S and then resets, `slice` hands on in
    pieces of a few bytes from there on. Since then, `passed` counts the bytes and `writes` those statements, and
    `struck` says whether it came to the fault.
    """

    def __init__(self, to: int):
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self._listener.getsockname()[1]
        self._counting = threading.Lock()
        self.arm("")
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.close()

    def arm(self, fault: str, *, byte: int | None = None, write: int | None = None) -> None:
        with self._counting:
            self.passed, self.writes, self.struck = 0, 0, False
            self._fault, self._byte, self._write = fault, byte, write
            self._answers: socket.socket | None = None  # whose next bytes are those of the answer

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """One thread for both directions: nobody else waits on a socket that is to be reset."""
        try:
            server = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            client.close()
            return
        with client, server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while True:
                    for end in select.select([client, server], [], [])[0]:
                        if not self._hand_on(end, server if end is client else client, asks=end is client):
                            return
            except OSError:
                return

    def _hand_on(self, source: socket.socket, sink: socket.socket, *, asks: bool) -> bool:
        """Whether the connection lives on."""
        data = source.recv(65536)
        if not data:
            return False
        with self._counting:
            fault, whole = self._struck_by(source, sink, data, asks)
        if fault == "slice":
            for start in range(0, len(data), 7):
                sink.sendall(data[start : start + 7])
            return True
        sink.sendall(data[:whole])
        if not fault:
            return True
        if fault == "stall":
            time.sleep(SILENCE_S)
        if fault in ("stall", "reset"):
            for end in (source, sink):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return False

    def _struck_by(self, source: socket.socket, sink: socket.socket, data: bytes, asks: bool) -> tuple[str, int]:
        """The fault that these bytes meet, or "", and how many pass before it."""
        before = self.passed
        self.passed += len(data)
        if self.struck:
            return ("slice", 0) if self._fault == "slice" else ("", len(data))
        if asks and WRITES.search(data):
            self.writes += 1
            self._answers = sink if self.writes == self._write else self._answers
        if self._byte is not None and before <= self._byte < self.passed:
            self.struck = True
            return self._fault, self._byte - before
        if self._answers is source:
            self.struck = True
            return self._fault, 0
        return "", len(data)
