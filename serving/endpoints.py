"""Both protocols in the event loop of one thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import grpc
import uvloop

from serving.data_plane import DataPlane
from serving.errors import StartFailed
from serving.grpc_api import start_grpc
from serving.metrics import Metrics
from serving.rest_api import listen, rest_server

if TYPE_CHECKING:
    from serving.server import ServerConfig


class Endpoints:
    """The two ports: open when this is made, closed by `stop`."""

    def __init__(self, plane: DataPlane, metrics: Metrics, config: ServerConfig) -> None:
        """Raises StartFailed when a port is in use."""
        self._grace_seconds = config.grace_seconds
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="endpoints", daemon=True)
        self._thread.start()
        try:
            self._call(self._open(plane, metrics, config))
        except StartFailed:
            self._end()
            raise

    def stop(self) -> None:
        """Refuses new calls, answers those under way, ends."""
        self._call(self._close())
        self._end()

    async def _open(self, plane: DataPlane, metrics: Metrics, config: ServerConfig) -> None:
        listener = listen(config.host, config.rest_api_port)
        address, tls = f"{config.host}:{config.port}", config.tls
        credentials = tls.for_grpc() if tls else None
        try:
            self._grpc: grpc.aio.Server
            self._grpc, self.port = await start_grpc(plane, metrics, config.limits, address, credentials)
        except StartFailed:
            listener.close()
            raise
        self.rest_api_port: int = listener.getsockname()[1]
        self._rest = rest_server(plane, metrics, config.limits, config.grace_seconds, tls)
        self._serving = asyncio.create_task(self._rest.serve([listener]))

    async def _close(self) -> None:
        self._rest.should_exit = True
        await asyncio.gather(self._serving, self._grpc.stop(self._grace_seconds))

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
