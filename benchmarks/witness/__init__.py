"""The load generator beside wrk and h2load: what it costs, and whether it says the same.

``tools`` runs each of them at one server with the same work; ``recorder`` is a server that answers
late by a known curve and stamps every request, so that what a tool says can be held against what
was so; ``agreement`` compares. ``cost`` is what an operation costs, beside wrk and
redis-benchmark. Another tool is a function in ``tools.TOOLS``.
"""
