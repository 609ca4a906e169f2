"""Benchmarks: the same work on netswap and on what it is compared with, in one run.

``python -m benchmarks`` runs the paired ones (``calls``, ``memory``, ``throughput``);
``python -m benchmarks.swaps`` pushes and rolls back under ten thousand connections,
``python -m benchmarks.redis`` under redis-benchmark, ``python -m benchmarks.soak`` pushes a
thousand times, and ``python -m benchmarks.gallery`` pushes what is bad. Timings depend on the
machine: quote the ratios, which are measured A B A B.
"""
