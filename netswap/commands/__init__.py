"""The commands: each asks the admin API, and writes what it answers for people or as JSON.

``options`` are shared by all, ``render`` makes text of answers, ``ending`` turns every way in which
a command can end into words and an exit code. ``serve`` runs a server, ``change`` has push, swap
and rollback, ``look`` the looks, ``check`` works without a server, ``others`` passes on.
"""

from __future__ import annotations

__all__: list[str] = []
