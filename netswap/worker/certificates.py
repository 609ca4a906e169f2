"""The contexts of this worker's TLS listeners: those in force, and a set that is being tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from netswap.channel import answers, messages
from netswap.errors import UsageError
from netswap.mediator import present
from netswap.stack import Connection, Host
from netswap.tls import Context, Terms, context_of

__all__ = ["Certificates"]


class Certificates:
    """``force`` has the context of each TLS listener; acceptors ask for it each time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.force: Mapping[str, Context] = {}
        self._built: tuple[int, Mapping[str, Context]] = (0, {})

    def begin(self, specs: Iterable[messages.ListenerSpec]) -> None:
        """The set that the worker was booted with.

        :raises UsageError: a context can't be built.
        """
        self.force = _all_of({spec.name: spec.tls for spec in specs if spec.tls is not None})

    def rekey(self, ask: messages.Rekey) -> answers.Rekeyed:
        """Build a set, or take it: all of it or nothing."""
        if self._built[0] != ask.number:
            try:
                self._built = ask.number, _all_of(ask.terms)
            except UsageError as error:
                return answers.Rekeyed(error.where, error.what)
        if ask.switch:
            self.force = self._built[1]
        return answers.Rekeyed()

    def rows(self) -> list[answers.CertificateRow]:
        """The live connections of each certificate."""
        counts: Counter[tuple[str, str]] = Counter()
        for entry in self._host.table:
            target = present(entry)
            session = target.tls if isinstance(target, Connection) else None
            if session is not None and isinstance(session.context, Context):
                counts[target.listener, session.context.terms.fingerprint] += 1
        return [answers.CertificateRow(*key, count) for key, count in counts.items()]


def _all_of(terms: Mapping[str, Terms]) -> dict[str, Context]:
    made: dict[str, Context] = {}
    for name, one in terms.items():
        try:
            made[name] = context_of(one)
        except (UsageError, OSError) as error:
            raise UsageError(str(error), name) from error
    return made
