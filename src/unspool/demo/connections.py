"""Listening and connections of the model server: hundreds at once, gone promptly when it closes."""

from __future__ import annotations

import socket
import sys
import threading
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from typing import Any

__all__ = ["HANG_UPS", "ConnectionServer"]

HANG_UPS = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
"""How a client that went away shows when it is written to or read from."""


class ConnectionServer(ThreadingMixIn, TCPServer):
    """One thread a connection; knows its connections, so that closing can end them."""

    # TCPServer, not HTTPServer: the latter asks the resolver for its own name, which can take seconds.
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024  # hundreds of clients connect in the same instant

    def __init__(self, host: str, port: int, handler: type[BaseRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def hang_up(self, timeout_s: float) -> None:
        """Cut every connection and wait for its thread to notice."""
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was quicker
            self._changed.wait_for(lambda: not self._open, timeout_s)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a bug here and shows as one line, not as a traceback."""
        error = sys.exc_info()[1]
        if not isinstance(error, (*HANG_UPS, TimeoutError)):
            print(f"model server: {type(error).__name__}: {error}", file=sys.stderr)
