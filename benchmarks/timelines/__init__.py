"""One load command aimed at several servers while each gets new code: three reports, one picture.

- ``site``      the application, the same for all
- ``servers``   how each is started, and how it is told to take new code
- ``reload``    the command that the load generator runs: a new version, in the server's own way
"""
