"""What hosting takes of aiohttp that aiohttp does not document, by name.

aiohttp's server is one object that parses, frames, keeps connections and answers. Here parsing,
framing and connections are ``http.connection``'s. What takes the place of the rest needs some of
aiohttp's inside: all that is imported of it is imported here, and ``PRIVATE`` also lists the
attributes that are used. An aiohttp without one of them is refused in a sentence, when the first
application of its is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import aiohttp

__all__ = [
    "EMPTY_PAYLOAD",
    "PRIVATE",
    "SERVER_SOFTWARE",
    "DeflateBuffer",
    "RawRequestMessage",
    "ZLibCompressor",
    "missing",
    "must_be_empty_body",
    "require",
    "rfc822_formatted_time",
    "serialize_headers",
]

PRIVATE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "aiohttp.compression_utils": ("ZLibCompressor",),
        "aiohttp.helpers": ("must_be_empty_body", "rfc822_formatted_time"),
        "aiohttp.http": ("SERVER_SOFTWARE", "RawRequestMessage"),
        "aiohttp.http_parser": ("DeflateBuffer",),
        "aiohttp.http_writer": ("_serialize_headers",),
        "aiohttp.streams": ("EMPTY_PAYLOAD",),
        "aiohttp.streams:StreamReader": (
            "_buffer",
            "_eof",
            "_exception",
            "_high_water",
            "_size",
            "_wait",
        ),
        "aiohttp.web:Application": (
            "_client_max_fields",
            "_client_max_size",
            "_handle",
            "_handler_args",
            "_set_loop",
            "_subapps",
        ),
        "aiohttp.web:Request": (
            "_finish",
            "_loop",
            "_payload",
            "_payload_writer",
            "_post",
            "_prepare_hook",
            "_protocol",
            "_seen_str_keys",
            "_state",
            "_transport_peername",
            "_transport_sockname",
            "_transport_sslcontext",
        ),
        "aiohttp.web:Response": (
            "_body",
            "_chunked",
            "_compression",
            "_cookies",
            "_eof_sent",
            "_headers",
            "_keep_alive",
            "_payload_writer",
            "_prepare_headers",
            "_reason",
            "_start",
            "_status",
            "_write_headers",
        ),
        "aiohttp.web:WebSocketResponse": (
            "_cancel_heartbeat",
            "_decode_text",
            "_heartbeat",
            "_max_msg_size",
            "_parser",
            "_reader",
            "_req",
            "_writer",
        ),
    }
)
"""By module, or by class behind a colon."""


def missing(names: Mapping[str, Iterable[str]] = PRIVATE) -> list[str]:
    """Which of the names this aiohttp has not, as ``module.name`` or ``module:class.name``."""
    return [
        f"{place}.{name}" for place in names for name in names[place] if name not in _known(place)
    ]


def _known(place: str) -> set[str]:
    """The names of a module; or of a class, with the attributes that its methods speak of."""
    module_name, _, class_name = place.partition(":")
    module = importlib.import_module(module_name)
    if not class_name:
        return set(vars(module))
    cls: Any = getattr(module, class_name, object)
    found = set(dir(cls))
    for base in cls.__mro__:
        for member in vars(base).values():
            found.update(getattr(getattr(member, "__code__", None), "co_names", ()))
    return found


def require(names: Mapping[str, Iterable[str]] = PRIVATE) -> None:
    """Raise ImportError with a sentence when this aiohttp lacks any of them."""
    lacking = missing(names)
    if lacking:
        raise ImportError(
            f"aiohttp {aiohttp.__version__} has no {', '.join(lacking)}, which hosting an aiohttp "
            "application needs: install an aiohttp of 3.14, or a netswap that knows this one"
        )


require()

from aiohttp.compression_utils import ZLibCompressor  # noqa: E402 - after it was looked for
from aiohttp.helpers import must_be_empty_body, rfc822_formatted_time  # noqa: E402
from aiohttp.http import SERVER_SOFTWARE, RawRequestMessage  # noqa: E402
from aiohttp.http_parser import DeflateBuffer  # noqa: E402
from aiohttp.http_writer import _serialize_headers as serialize_headers  # noqa: E402
from aiohttp.streams import EMPTY_PAYLOAD  # noqa: E402
