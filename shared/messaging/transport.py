"""Celery's Redis transport with leases: a worker keeps the messages that it holds for as long as it renews them.

kombu keeps the messages that a worker has taken and not acknowledged in a hash, with the time of each in a sorted set,
and gives those back to their queue whose time is longer ago than the visibility timeout. Three things differ here:

- A worker renews the time of what it holds, so the visibility timeout limits its silence, not the length of its tasks.
- Each delivery has a tag of its own. Under kombu, a message keeps its tag for ever, so a worker that was stopped, and
  wakes after its message was given to another, would acknowledge the other's. Here it acknowledges what is not there.
- Times are those of the server, so the clocks of the workers may differ.

A message whose task took its process with it says so to the next delivery (see `shared.messaging.deliveries`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid

from shared.messaging.deliveries import LOST

_AT_ONCE = 100  # messages that are given back

_TAKE = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
"""
_RENEW = """
local time = redis.call('TIME')
for _, tag in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 'XX', time[1] + time[2] / 1000000, tag) end
"""
_REWRITE = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end"


class Message(virtual.Message):
    """A message as it was delivered this time."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **more: Any) -> None:
        payload["properties"]["delivery_tag"] = uuid()
        self.payload_as_sent = payload
        super().__init__(payload, channel=channel, **more)


class QoS(redis.QoS):
    """The messages that a channel holds."""

    channel: Any  # the types of kombu know the channel of no transport
    _delivered: OrderedDict[str, Message]
    _dirty: set[str]

    def append(self, message: Message, delivery_tag: str) -> None:
        """Note a message that was taken from its queue."""
        with self.channel.conn_or_acquire() as client:
            client.eval(_TAKE, 2, self.unacked_index_key, self.unacked_key, delivery_tag, _packed(message))
        virtual.QoS.append(self, message, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 -- as kombu calls it
        """Let go of a message; with `requeue`, it goes back to its queue, with what its headers say by now."""
        message = self._delivered.get(delivery_tag)
        if requeue and message is not None and LOST in message.headers:
            with self.channel.conn_or_acquire() as client:
                client.eval(_REWRITE, 1, self.unacked_key, delivery_tag, _packed(message))
        super().reject(delivery_tag, requeue=requeue)

    def renew(self) -> None:
        """Renew the messages that are still the channel's own."""
        if held := [tag for tag in self._delivered if tag not in self._dirty]:
            with self.channel.conn_or_acquire() as client:
                client.eval(_RENEW, 1, self.unacked_index_key, *held)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002
        """Renew what the worker holds, and give back what other workers have not renewed for too long.

        The worker's event loop calls this every `unacked_restore_interval`, for any one of its channels.
        """
        for channel in self.channel.connection.channels:
            channel.qos.renew()
        with self.channel.conn_or_acquire() as client:
            try:
                with redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                    for tag in self._silent(client):
                        self.restore_by_tag(tag, client)
            except redis.MutexHeld:
                pass

    def _silent(self, client: Any) -> Sequence[str]:
        seconds, microseconds = client.time()
        oldest = seconds + microseconds / 1e6 - self.visibility_timeout
        found: Sequence[str] = client.zrange(self.unacked_index_key, 0, oldest, byscore=True, offset=0, num=_AT_ONCE)
        return found


class Channel(redis.Channel):
    """A channel whose messages are leased."""

    Message = Message
    QoS = QoS


class Transport(redis.Transport):
    """kombu's transport, with leases."""

    Channel = Channel


def _packed(message: Message) -> str:
    """Return a message as kombu keeps it until it is acknowledged."""
    delivery = message.delivery_info
    return str(dumps([message.payload_as_sent, delivery["exchange"], delivery["routing_key"]]))


def install() -> None:
    """Have every connection to ``redis://`` and ``rediss://`` use this transport."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
