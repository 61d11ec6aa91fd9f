"""A TCP proxy on loopback that can refuse: what stands behind it is gone for as long as it is shut, and loses nothing."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

BLOCK = 64 * 1024


class Gate:
    """Passes connections on to `port` of this machine while it is open; shut, it breaks them and takes no new ones.

    `refused` counts both.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self.refused = 0
        self._open = True
        self._passing: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True, name="gate").start()

    def shut(self) -> None:
        self._open = False
        self._break_all()

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        """For good."""
        self._open = False
        # Closing alone does not wake a thread that waits for a connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_all()

    def _break_all(self) -> None:
        with self._lock:
            passing = list(self._passing)
        self.refused += len(passing) // 2
        for each in passing:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        for client in self._coming():
            if self._open:
                threading.Thread(target=self._pass, args=(client,), daemon=True, name="gate-passing").start()
            else:
                self.refused += 1
                _reset(client)

    def _coming(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._listener.accept()[0]
            except OSError:
                return

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._behind))
        except OSError:
            _reset(client)
            return
        with client, server, self._counted(client, server):
            back = threading.Thread(target=_pump, args=(server, client), daemon=True, name="gate-back")
            back.start()
            _pump(client, server)
            back.join()

    @contextlib.contextmanager
    def _counted(self, *ends: socket.socket) -> Iterator[None]:
        with self._lock:
            self._passing.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._passing.difference_update(ends)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Until the source has ended; the target hears of that."""
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
