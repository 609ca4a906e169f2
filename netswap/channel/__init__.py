"""The channel: how supervisor and workers speak, and the only room where both meet.

One ``Link`` is one stream socket carrying length-prefixed msgpack frames; each frame is one of the
structs in ``messages``. The control channel (supervisor to worker) is a socketpair inherited by
the worker; the mesh (worker to worker) is one Unix socket per slot, which carries the same frames.

Read ``messages`` for what is said, ``answers`` for the rows inside an ``Answer``, ``frames`` for
how it is cut, ``links`` for how it is carried.
"""

from netswap.channel import answers, messages
from netswap.channel.frames import FrameError, FrameReader, encode_frame
from netswap.channel.links import Link, LinkClosed, LinkOverload

__all__ = [
    "FrameError",
    "FrameReader",
    "Link",
    "LinkClosed",
    "LinkOverload",
    "answers",
    "encode_frame",
    "messages",
]
