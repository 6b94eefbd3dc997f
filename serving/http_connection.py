"""REST connections with limits of time that uvicorn lacks: for a request's head, and for taking an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpConnection(HttpToolsProtocol):
    """Ended where a request's head is not complete in some seconds, or in as many nothing of an answer is taken.

    The seconds begin when the connection is made, or with the head's first byte. Between requests uvicorn's own limit
    holds (`timeout_keep_alive`), for bodies that of who reads them. With TLS what is not taken cannot be seen: there an
    answer has the time between requests and these seconds.
    """

    def __init__(self, *args: Any, patience_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience_seconds
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for."""
        super().connection_made(transport)
        self._head = self.loop.call_later(self._patience, self._end)

    def data_received(self, data: bytes) -> None:
        """A request has begun, or a part of its head is here."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head)
            self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(self._patience, self._end)

    def pause_writing(self) -> None:
        """More of an answer waits than is buffered gladly."""
        super().pause_writing()
        self._expect_less(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Little of it still waits."""
        if not self.transport.is_closing():
            _cancel(self._reader)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No other request has come."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        _cancel(self._head)
        _cancel(self._reader)
        super().connection_lost(exc)

    def _end(self) -> None:
        """Closes as soon as what waits of the last answer is taken, or no longer is."""
        _cancel(self._reader)
        self._expect_less(self.transport.get_write_buffer_size())
        self.transport.close()

    def _expect_less(self, before: int) -> None:
        """Looks again after a while; where no byte has gone by then, the connection ends."""

        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now < before:
                self._expect_less(now)
            else:
                self.transport.abort()

        self._reader = self.loop.call_later(self._patience, look)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
