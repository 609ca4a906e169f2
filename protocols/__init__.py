"""What is swapped: each folder a kind or a few, each file a bundle that can be pushed by itself.

Written as any author would write them, by netswap's front door alone.
"""
