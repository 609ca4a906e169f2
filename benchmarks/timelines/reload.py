"""``python -m benchmarks.timelines.reload FOLDER``: its server gets the next version.

Its output and exit code are those of the server's own way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.timelines.servers import CARD, write_site


def main() -> None:
    """Write the next version, and tell the server."""
    folder = Path(sys.argv[1])
    card = json.loads((folder / CARD).read_text())
    card["version"] += 1
    write_site(folder, card["version"])
    (folder / CARD).write_text(json.dumps(card))
    print(f"version {card['version']}:", *card["words"], flush=True)
    sys.exit(subprocess.run(card["words"], check=False).returncode)


if __name__ == "__main__":
    main()
