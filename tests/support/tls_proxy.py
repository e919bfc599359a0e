"""TLS in front of a server that has none: what a client says by TLS goes on to it as it is."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def tls_proxy(port: int, *, certificate: Path, key: Path) -> Iterator[int]:
    """Listen by TLS on loopback for the server at a port of it; gives the port of the proxy.

    All of it runs in a thread of its own: a test that had a browser leaves a running loop in the main one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ready = Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        ended = asyncio.Event()

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pass_on(reader, server_writer), _pass_on(server_reader, writer))

        server = await asyncio.start_server(join, "127.0.0.1", 0, ssl=context)
        ready.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), ended))
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    listening, loop, ended = ready.result()
    try:
        yield listening
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()
