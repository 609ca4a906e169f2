"""Is not UTF-8 though it declares nothing else: saved by an old editor."""

NAME = "café"  # <<
