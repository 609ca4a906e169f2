"""What one reload does to live connections: netswap beside its peers, in one run.

``python -m benchmarks.reload``. ``site.py`` is the application that all of them serve, ``peers``
starts and reloads each, ``connections`` holds a connection of each class open over the reload and
says what became of it.
"""
