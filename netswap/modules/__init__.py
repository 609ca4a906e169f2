"""Pushed modules: from files on an author's disk to classes that a worker can build objects of.

In the order in which a push walks through them:

* ``bundle``: the pushed files as one value, named by the SHA-256 of what is in them;
* ``source``: what can be refused by reading the source, before any of it runs; ``syntax`` are the
  files as trees, ``reach`` is what goes beyond the module, ``misplaced`` what could not be swapped;
* ``store``: bundles on disk, one file each, named by their hash;
* ``journal``: the append-only record of what was begun, committed and aborted;
* ``loader``: the import of a bundle beside every other version of itself, and its removal, by way
  of an ``importer`` that serves its modules and its ``data``; ``effects`` is what an import on
  trial leaves behind in the process;
* ``relations``: which files a kind needs; ``outside``: libraries that have changed on disk since.

Nothing here decides whether a bundle fits the objects that live: a ``Loaded`` is only code.
"""

from netswap.errors import BundleError
from netswap.modules.bundle import Bundle
from netswap.modules.journal import Journal, JournalError
from netswap.modules.loader import Loaded, load_bundle
from netswap.modules.source import check_source
from netswap.modules.store import BundleStore

__all__ = [
    "Bundle",
    "BundleError",
    "BundleStore",
    "Journal",
    "JournalError",
    "Loaded",
    "check_source",
    "load_bundle",
]
