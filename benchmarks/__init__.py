"""Benchmarks: the same work on netswap and on what it is compared with, in one run.

``python -m benchmarks`` runs the paired ones (``calls``, ``memory``, ``throughput``). Of the others
each is a module to run: ``swaps`` pushes and rolls back under ten thousand connections, ``redis``
under redis-benchmark, ``soak`` pushes a thousand times, ``gallery`` what is bad, ``history`` what
the bundled protocols went through, ``guard`` and ``rehearsal`` what these cost. Timings depend on
the machine: quote the ratios, which are measured A B A B.
"""
