"""What a network stack is made of: connections, parts, services, timers, and their host.

Everything here is an entry of the object translation table and can be swapped while it works.
``Host`` is the worker's side of it and stays; the other names are what authors derive from.
"""

from netswap.stack.connection import Connection
from netswap.stack.host import FACTORY, Host, Reply
from netswap.stack.implementation import Implementation
from netswap.stack.part import Part
from netswap.stack.service import Service
from netswap.stack.session import Session

__all__ = [
    "FACTORY",
    "Connection",
    "Host",
    "Implementation",
    "Part",
    "Reply",
    "Service",
    "Session",
]
