"""Addresses: one reading of each, and a sentence for what is none."""

from __future__ import annotations

import pytest

from netswap.address import Address, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", Address("127.0.0.1", 7000)),
        ("[::1]:7000", Address("::1", 7000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::]:65535", Address("::", 65535)),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock", 0o600)),
    ],
)
def test_addresses_are_read_and_written(text, address):
    """HOST:PORT, [IPv6]:PORT and unix:/PATH, and back."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("7000", "not HOST:PORT"),
        ("localhost:", "not HOST:PORT"),
        ("localhost:http", "not HOST:PORT"),
        ("localhost:٣", "not HOST:PORT"),
        ("localhost:-1", "not HOST:PORT"),
        ("localhost:65536", "above 65535"),
        ("::1:7000", "in brackets"),
        (":7000", "names no host"),
        ("*:7000", "names no host"),
        ("unix:x.sock", "is not unix:/PATH"),
        ("unix:/run/", "is not unix:/PATH"),
        ("unix:/" + 107 * "x", "longer than a Unix socket's path"),
        ("unix:/x?mode=999", "is not mode=660"),
        ("unix:/x?group=www", "is not mode=660"),
        ("unix:/x?", "is not mode=660"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text, sentence):
    """A wrong address says what would be right; nothing listens everywhere by accident."""
    with pytest.raises(ValueError, match=sentence):
        parse_address(text)


@pytest.mark.parametrize(("text", "mode"), [("660", 0o660), ("0666", 0o666), ("600", 0o600)])
def test_the_mode_of_a_unix_socket_is_octal(text: str, mode: int) -> None:
    """As chmod reads it; it is no part of what clients connect to."""
    address = parse_address(f"unix:/x?mode={text}")
    assert address == UnixAddress("/x", mode)
    assert str(address) == "unix:/x"
