"""``python -m netswap`` is ``netswap``."""

from netswap.cli import main

if __name__ == "__main__":
    main()
