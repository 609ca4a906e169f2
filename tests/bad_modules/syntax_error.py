"""Does not parse: pushed from an editor in the middle of a line (uvicorn #425)."""


def broken(:  # <<
