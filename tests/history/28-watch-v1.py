"""watch.policy, version 1: fixed limits, and the version before as a measure where it serves too.

The watch hands in the figures of one new implementation as plain data: ``kind``, ``version``,
``seconds`` since it began; ``objects``, ``calls``, ``errors``, ``firings`` of the guard;
``mean_us`` and ``max_us`` of the time in a call; ``stall_ms``, the longest time that the loop was
held; ``memory`` of the worker and ``memory_before``, in bytes; and as ``old`` the same counts of
the version before, or None. The first reason ends the watch.
"""

from __future__ import annotations

from typing import Any

from netswap import Service, State


class Limits(State, kind="watch.policy", version=1):
    """What new code may do on probation; the defaults fit a server of short calls.

    ``errors`` are uncaught exceptions, ``firings`` calls that the guard had to repeat in old code.
    ``slower`` is how many times the mean of the old version, looked at from ``calls`` calls of
    both and ``mean_us`` upwards. ``memory`` is in bytes, above what the worker had before.
    """

    errors: int = 0
    firings: int = 0
    calls: int = 50
    slower: float = 4.0
    mean_us: float = 1_000.0
    longest_mean_us: float = 20_000.0
    longest_call_us: float = 500_000.0
    stall_ms: float = 1_000.0
    memory: int = 256 << 20


class Policy(Service[Limits]):
    """Looks at one thing after the other, the most certain first."""

    def judge(self, figures: dict[str, Any]) -> str | None:
        """Why the new code has to go, or None."""
        return (
            self._failed(figures)
            or self._slow(figures)
            or self._slower(figures)
            or self._held(figures)
            or self._grown(figures)
        )

    def _failed(self, figures: dict[str, Any]) -> str | None:
        state, errors, firings = self.state, figures["errors"], figures["firings"]
        if firings > state.firings:
            return f"the guard fired {_times(firings)} in {figures['calls']} calls"
        if errors > state.errors:
            return f"failed {_times(errors)} in {figures['calls']} calls"
        return None

    def _slow(self, figures: dict[str, Any]) -> str | None:
        state, mean, longest = self.state, figures["mean_us"], figures["max_us"]
        if longest > state.longest_call_us:
            return f"one call took {_ms(longest)}, of at most {_ms(state.longest_call_us)}"
        if figures["calls"] >= state.calls and mean > state.longest_mean_us:
            return f"calls take {_ms(mean)} on average, of at most {_ms(state.longest_mean_us)}"
        return None

    def _slower(self, figures: dict[str, Any]) -> str | None:
        state, old, mean = self.state, figures["old"], figures["mean_us"]
        if old is None or min(old["calls"], figures["calls"]) < state.calls:
            return None
        if mean < state.mean_us or mean <= state.slower * old["mean_us"]:
            return None
        was = f"those of version {old['version']} take {_ms(old['mean_us'])}"
        return f"calls take {_ms(mean)} on average, and {was}"

    def _held(self, figures: dict[str, Any]) -> str | None:
        held = figures["stall_ms"]
        if held > self.state.stall_ms:
            return f"the loop was held for {held:.0f} ms, of at most {self.state.stall_ms:.0f} ms"
        return None

    def _grown(self, figures: dict[str, Any]) -> str | None:
        grown = figures["memory"] - figures["memory_before"]
        if grown > self.state.memory:
            return f"the worker grew by {grown >> 20} MiB, of at most {self.state.memory >> 20} MiB"
        return None


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1e3:.1f} ms"
