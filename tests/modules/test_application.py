"""Applications as bundles: found by their source, imported as on their author's disk, several side
by side.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netswap.errors import BundleError
from netswap.events import Refusal
from netswap.http import Request
from netswap.http.message import Head
from netswap.modules import Bundle, BundleStore, Loaded, check_source, load_bundle
from netswap.modules.application import (
    MARK,
    Mark,
    as_application,
    bundle_of,
    entrance_of,
    inheriting,
    mark_of,
    marked,
    place_of,
)

APP = "from netswap.http import Response\ndef app(request): return Response('one')\n"
GET: Any = Request(Head("GET", b"/", "/", b"", "1.1", ()))

SHOP = {
    "__init__.py": "",
    "db.py": "VERSION = 'one'\ncache = {}\nlimits = []\nglobal_id = 0\n",
    "main.py": """
import shop
import shop.db as same
from shop.db import cache
from shop import db
from netswap.http import Response

def app(request):
    from shop.late import name
    assert db is same is shop.db
    assert db.cache is cache
    cache["n"] = cache.get("n", 0) + 1
    return Response(f"{db.VERSION} {cache['n']} {name}")

if __name__ == "__main__":
    raise SystemExit("it is not run")
""",
    "late.py": "name = 'late'\n",
    "tests/test_main.py": "raise AssertionError('a test is not imported')\n",
}


def bundle(files: dict[str, str], **mark: Any) -> Bundle:
    """Files as a bundle, with a mark; without a given one, if they are an application."""
    made = Bundle("x/shop", {name: text.encode() for name, text in files.items()})
    return marked(made, Mark(**mark)) if mark else as_application(made)


@pytest.fixture
def load() -> Iterator[Callable[..., Loaded]]:
    """Loads bundles for one test; afterwards none of their modules is left."""
    loaded: list[Loaded] = []

    def make(one: Bundle, **options: Any) -> Loaded:
        loaded.append(load_bundle(one, **options))
        return loaded[-1]

    yield make
    for one in loaded:
        one.unload()
    assert not [name for name in sys.modules if name.startswith("netswap_bundle_")]


def loaded_name(one: Bundle) -> str:
    """The package of the first load of a bundle."""
    return f"netswap_bundle_{one.short}"


def answered(loaded: Loaded) -> str:
    """What a loaded function answers; it is not started."""
    cls: Any = loaded.implementations["http.app"]
    body: bytes = cls.application.value(GET).body
    return body.decode()


def refusal_of(one: Bundle) -> Refusal:
    """Why a bundle is refused, by its source or by its import; nothing may be left."""
    found = check_source(one)
    if found:
        return found[0]
    with pytest.raises(BundleError) as caught:
        load_bundle(one)
    assert not [name for name in sys.modules if name.startswith("netswap_bundle_")]
    return caught.value.refusal


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a.py": APP}, ("a.py", "app")),
        ({"a.py": "application = make()\n"}, ("a.py", "application")),
        ({"a.py": "async def create_app(): ...\n"}, ("a.py", "create_app")),
        ({"a.py": "try:\n    app = 1\nexcept E:\n    pass\n"}, ("a.py", "app")),
        ({"a.py": APP, "main.py": APP}, ("main.py", "app")),
        ({"deep/main.py": APP, "other.py": APP}, ("other.py", "app")),
        ({"a.py": "if __name__ == '__main__':\n    app = 1\n"}, None),
        ({"a.py": "def f():\n    app = 1\n"}, None),
        ({"a.py": APP + "from netswap import Service\nclass S(Service[X]): ...\n"}, None),
        ({"a.py": "from netswap.http import App\napp = 1\nclass S(App[X]): ...\n"}, None),
    ],
)
def test_an_application_is_found_by_its_source(
    files: dict[str, str], found: tuple[str, str] | None
) -> None:
    """By a global's name, near the top, in a module that looks like an entrance."""
    entrance = entrance_of(bundle(files))
    assert (None if entrance is None else (entrance.file, entrance.name)) == found


def test_two_files_that_look_alike_are_refused_by_name() -> None:
    """A guess would serve the wrong one."""
    refusal = refusal_of(bundle({"a.py": APP, "b.py": APP}))
    assert refusal.reason == "a.py has app and b.py has app"
    assert "--app" in refusal.advice


def test_the_mark_says_where_it_is(load: Callable[..., Loaded]) -> None:
    """Also an attribute of something, or a name that nobody would guess."""
    files = {"a.py": APP, "b.py": APP.replace("def app", "def api").replace("one", "two")}
    assert answered(load(bundle(files, module="b", name="api"))) == "two"
    text = APP + "class Holder:\n    serve = staticmethod(app)\n"
    assert answered(load(bundle({"a.py": text}, module="a", name="Holder.serve"))) == "one"


@pytest.mark.parametrize(
    ("files", "mark", "reason", "line"),
    [
        ({"a.py": "x = 1\n"}, {"name": "y"}, "no module of it has y", 1),
        ({"a.py": "\nx = 1\n"}, {"name": "x"}, "x is of the type int", 2),
        ({"a.py": APP}, {"module": "b"}, "there is no module b in it", 1),
        ({"a.py": APP}, {"module": "a", "name": "api"}, "there is no 'api' in it, but 'app'", 1),
        ({"a.py": "app = 3\n"}, {}, "app is of the type int", 1),
        ({"a.py": "\nclass app: ...\n"}, {"module": "a"}, "app is the class app", 2),
        ({"a.py": "def app(environ, start): ...\n"}, {}, "as a WSGI application does", 1),
        ({"a.py": "\n\nimport nowhere\napp = 1\n"}, {}, "No module named 'nowhere'", 3),
        ({"a.py": "app = 1\nraise SystemExit(2)\n"}, {}, "SystemExit", 2),
        ({"a.py": "app = 1\ndef f(:\n"}, {"module": "a"}, "does not parse", 2),
        ({"a.py": APP, MARK: "{"}, {}, "its mark can't be read", 1),
    ],
)
def test_what_can_not_be_hosted_is_refused_with_its_line(
    files: dict[str, str], mark: dict[str, str], reason: str, line: int
) -> None:
    """And with what to do."""
    refusal = refusal_of(bundle(files, **mark))
    assert reason in refusal.reason
    assert refusal.line == line
    assert refusal.advice


def test_a_package_imports_itself_by_its_own_name(load: Callable[..., Loaded]) -> None:
    """Every form of the import statement, also inside a function, leads into the bundle."""
    loaded = load(bundle(SHOP, package="shop"))
    assert [answered(loaded) for _ in range(2)] == ["one 1 late", "one 2 late"]
    assert "shop" not in sys.modules


def test_two_versions_of_a_package_live_side_by_side(load: Callable[..., Loaded]) -> None:
    """Each with globals of its own; scripts and tests beside are not imported."""
    one = load(bundle(SHOP, package="shop"))
    two = load(bundle({**SHOP, "db.py": SHOP["db.py"].replace("one", "two")}, package="shop"))
    assert [answered(one), answered(two), answered(one)] == [
        "one 1 late",
        "two 1 late",
        "one 2 late",
    ]
    assert "tests/test_main.py" not in one.modules


def test_files_beside_each_other_import_each_other(load: Callable[..., Loaded]) -> None:
    """As with the folder on sys.path; a name of the standard library is meant as such."""
    text = "import db, queue\nfrom pack.inner import x\n" + APP.replace("'one'", "db.V + x")
    files = {
        "main.py": text + "assert queue.Queue\n",
        "db.py": "V = 'a'\n",
        "queue.py": "",
        "pack/inner.py": "from pack import other\nx = other.x\n",
        "pack/other.py": "x = 'b'\n",
    }
    assert answered(load(bundle(files))) == "ab"


def test_an_import_by_another_way_is_refused_where_it_is_made() -> None:
    """It would find a copy on the disk, which no swap replaces."""
    text = "import importlib\nimportlib.import_module('shop.db')\n" + APP
    refusal = refusal_of(bundle({**SHOP, "main.py": text}, package="shop"))
    assert "import it by an import statement" in refusal.reason
    assert (refusal.file, refusal.line) == ("main.py", 2)


def test_the_rules_about_globals_are_not_for_applications(load: Callable[..., Loaded]) -> None:
    """They are when the file defines an implementation."""
    text = "import threading\nlock = threading.Lock()\nitems = {}\n" + APP
    assert check_source(bundle({"a.py": text})) == []
    mine = text + "from netswap import *\nclass S(Service[X]): ...\n"
    assert {refusal.line for refusal in check_source(bundle({"a.py": mine}))} >= {2, 3}


def test_a_thread_that_an_import_leaves_is_told_of(load: Callable[..., Loaded]) -> None:
    """Frameworks start some; the verdict says that no swap ends it."""
    text = (
        "import threading\nstop = threading.Event()\n"
        "threading.Thread(target=stop.wait, daemon=True).start()\n" + APP
    )
    loaded = load(bundle({"a.py": text}))
    cls: Any = loaded.implementations["http.app"]
    before = threading.active_count()
    assert cls.remark.endswith("its import left a thread running, which no swap ends")
    loaded.modules["a.py"].stop.set()
    while threading.active_count() == before:
        pass


def test_what_leaves_is_loaded_afresh_beside_itself(load: Callable[..., Loaded]) -> None:
    """Under another name, and the first goes on importing its own modules."""
    one = load(bundle(SHOP, package="shop"))
    answered(one)
    one.leave()
    again = load(bundle(SHOP, package="shop"))
    assert again.modules["db.py"] is not one.modules["db.py"]
    assert [answered(again), answered(one)] == ["one 1 late", "one 2 late"]


def test_data_beside_the_code_is_of_the_same_version(
    load: Callable[..., Loaded], tmp_path: Path
) -> None:
    """``__file__`` is a real one: below it lies what was pushed."""
    text = (
        "from pathlib import Path\nfrom netswap.http import Response\n"
        "def app(request): return Response(Path(__file__).with_name('x.txt').read_text())\n"
    )
    store = BundleStore(tmp_path)
    for words in ("first", "second"):
        one = bundle({"main.py": text, "x.txt": words}, root="/nowhere")
        place = place_of(one, lambda one=one: store.unpacked(one))  # type: ignore[misc]
        assert answered(load(one, place=place)) == words
        (folder,) = sys.modules[loaded_name(one)].__path__
        assert Path(folder) == place
    bare = bundle({"main.py": text}, root=str(tmp_path))
    assert place_of(bare, lambda: store.unpacked(bare)) == tmp_path


def test_what_is_pushed_is_marked(tmp_path: Path) -> None:
    """A package with its name, a lone file with where it lay, a protocol with nothing."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("__init__.py", "db.py", "main.py"):
        (folder / name).write_text(SHOP[name])
    assert mark_of(bundle_of(folder)) == Mark(None, "", "shop", str(folder))
    assert mark_of(bundle_of(folder, "shop.main:app")) == Mark("main", "app", "shop", str(folder))
    lone = tmp_path / "app.py"
    lone.write_text(APP)
    assert mark_of(bundle_of(lone)) == Mark(None, "", "", str(tmp_path))
    assert mark_of(bundle_of(lone, ":api")) == Mark("app", "api", "", str(tmp_path))
    assert mark_of(bundle_of(Path(__file__).parents[2] / "protocols/echo/v1.py")) is None


def test_the_next_version_is_where_the_one_before_was() -> None:
    """``serve --app shop.main:api`` has said it; a push need not say it again."""
    files = {"main.py": APP, "other.py": APP}
    before = bundle(files, module="other", name="api")
    after = bundle({**files, "more.py": ""}, package="")
    after = marked(after, Mark())
    mark = mark_of(inheriting(after, before))
    assert mark is not None
    assert (mark.module, mark.name) == ("other", "api")
    gone = marked(bundle({"main.py": APP}), Mark())
    assert mark_of(inheriting(gone, before)) == Mark()
