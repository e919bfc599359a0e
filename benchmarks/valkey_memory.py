"""The memory that Valkey's data takes."""

from shared.state import Client


def data_bytes(client: Client) -> int:
    """Return the bytes that Valkey has allocated, without the buffers of its clients.

    These come and go by tens of kilobytes, which is more than the buckets of a small dataset.
    """
    buffers = sum(int(connection["tot-mem"]) for connection in client.client_list())
    return int(client.info("memory")["used_memory"]) - buffers
