"""Configuration: one precedence, every mistake named with its place, no crash on a bad machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from netswap.config import SETTINGS, Address, Config, check, default_workers, load_config
from netswap.errors import UsageError
from netswap.tls import TlsFiles


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with a writable HOME."""
    return {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}


@pytest.fixture
def write(tmp_path: Path):
    """Write a configuration file and return its path."""

    def write(text: str) -> Path:
        file = tmp_path / "netswap.toml"
        file.write_text(text)
        return file

    return write


def one_problem(**how: object) -> UsageError:
    """The only problem that ``check`` finds."""
    config, problems = check(**how)
    assert config is None
    assert len(problems) == 1, problems
    return problems[0]


def test_nothing_set_serves_the_bundled_protocols_on_loopback(environ):
    """Without a file, a flag or a variable a server runs with finite limits on loopback."""
    config = load_config(environ=environ)
    assert config.workers == default_workers() >= 1
    assert config.listen["kv"] == (Address("127.0.0.1", 6380),)
    assert {addresses[0].host for addresses in config.listen.values()} == {"127.0.0.1"}
    assert (config.drain, config.timeout, config.loop) == (10.0, 10.0, "uvloop")
    assert config.state_dir == Path(environ["HOME"], ".local/state/netswap")
    assert config.socket == config.state_dir / "admin.sock"
    assert set(config.origins.values()) == {"default"}
    assert config.warnings == ()


def test_every_setting_is_a_field():
    """The table of settings and the record have the same names."""
    fields = {key.replace(".", "_") for key in SETTINGS}
    assert fields == set(Config.__struct_fields__) - {"origins", "warnings"}


@pytest.mark.parametrize(
    ("flags", "variable", "expected", "origin"),
    [
        ({"drain": "1s"}, "2s", 1.0, "flag --drain"),
        ({"drain": None}, "2s", 2.0, "variable NETSWAP_DRAIN"),
        ({}, None, 3.0, "netswap.toml:2"),
    ],
)
def test_flag_beats_environment_beats_file(environ, write, flags, variable, expected, origin):
    """The first layer that has a setting decides it, and the configuration says which one."""
    file = write('# a comment\ndrain = "3s"\n')
    if variable:
        environ["NETSWAP_DRAIN"] = variable
    config = load_config(flags, file, environ)
    assert config.drain == expected
    assert config.origins["drain"].endswith(origin)


def test_a_layer_replaces_all_listeners_of_those_below(environ, write):
    """A --listen leaves no listener of the file or of the defaults open."""
    file = write('[listen]\necho = "127.0.0.1:1"\nchat = "127.0.0.1:2"\n')
    flags = {"listen": ("kv=127.0.0.1:3", "kv=[::1]:3")}
    assert load_config({}, file, environ).listen.keys() == {"echo", "chat"}
    listen = load_config(flags, file, environ).listen
    assert listen == {"kv": (Address("127.0.0.1", 3), Address("::1", 3))}


def test_the_file_can_be_named_by_the_environment(environ, write):
    """NETSWAP_CONFIG stands for --config."""
    environ["NETSWAP_CONFIG"] = str(write("workers = 3\n"))
    assert load_config(environ=environ).workers == 3


def test_every_setting_can_be_a_variable(environ, tmp_path):
    """Each key has a variable that is read as the file's value would be."""
    bundle = tmp_path / "v2.py"
    bundle.touch()
    environ |= {
        "NETSWAP_WORKERS": "3",
        "NETSWAP_STATE_DIR": str(tmp_path / "state"),
        "NETSWAP_SOCKET": str(tmp_path / "s"),
        "NETSWAP_LISTEN": "echo=127.0.0.1:0, kv=localhost:6380",
        "NETSWAP_TLS": "echo=/e.pem:/e.key, kv=/both.pem",
        "NETSWAP_PROXY": "echo=10.0.0.0/8 echo=::1, kv=127.0.0.1",
        "NETSWAP_LOAD": f"{bundle}:{tmp_path}",
        "NETSWAP_APP": "shop.main:app",
        "NETSWAP_RELOAD": "yes",
        "NETSWAP_DRAIN": "0",
        "NETSWAP_TIMEOUT": "500ms",
        "NETSWAP_STATIC": "/",
        "NETSWAP_LOOP": "asyncio",
        "NETSWAP_LOG_LEVEL": "debug",
        "NETSWAP_LOG_FORMAT": "json",
        "NETSWAP_LOG_ACCESS": str(tmp_path / "access.log"),
        "NETSWAP_LOG_ACCESS_FORMAT": "json",
    }
    config = load_config(environ=environ)
    assert all(origin.startswith("variable") for origin in config.origins.values())
    assert config.listen == {
        "echo": (Address("127.0.0.1", 0),),
        "kv": (Address("localhost", 6380),),
        "http": (Address("127.0.0.1", 8080),),
    }
    assert config.tls == {
        "echo": TlsFiles(cert=Path("/e.pem"), key=Path("/e.key")),
        "kv": TlsFiles(cert=Path("/both.pem")),
    }
    assert config.proxy == {"echo": ("10.0.0.0/8", "::1/128"), "kv": ("127.0.0.1/32",)}
    assert config.load == (bundle, tmp_path)
    assert (config.app, config.reload) == ("shop.main:app", True)
    assert (config.drain, config.timeout) == (0.0, 0.5)


def test_an_application_is_served_on_http_alone_unless_more_is_asked_for(environ):
    """The bundled protocols are a demonstration; a given address of http is kept."""
    config = load_config({"app": "main:app"}, environ=environ)
    assert config.listen == {"http": (Address("127.0.0.1", 8080),)}
    flags = {"app": "main:app", "listen": ["http=127.0.0.1:81", "echo=127.0.0.1:7"]}
    config = load_config(flags, environ=environ)
    assert config.listen["http"] == (Address("127.0.0.1", 81),)
    assert config.listen["echo"] == (Address("127.0.0.1", 7),)


def test_a_reload_needs_an_application(environ):
    """Nothing else is on the disk to be looked at."""
    problem = one_problem(flags={"reload": True}, environ=environ)
    assert problem.what == "nothing is to be reloaded"


@pytest.mark.parametrize(
    ("text", "key", "line", "nearest"),
    [
        ("workrs = 2\n", "workrs", 1, "workers"),
        ("workers = 2\n\n[log]\nlevle = 'info'\n", "log.levle", 4, "log.level"),
        ("[listn]\necho = '127.0.0.1:1'\n", "listn.echo", 2, "listen"),
        ("log_level = 'info'\n", "log_level", 1, "log.level"),
    ],
)
def test_an_unknown_key_is_an_error_with_file_line_and_the_nearest(
    environ, write, text, key, line, nearest
):
    """A misspelt key is never ignored."""
    file = write(text)
    problem = one_problem(file=file, environ=environ)
    assert problem.what == f"unknown key {key}"
    assert problem.where == f"{file}:{line}"
    assert problem.advice == f"did you mean {nearest}?"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("workers = 0\n", "workers: 0 is neither"),
        ("workers = true\n", "workers: True is neither"),
        ("workers = 1.5\n", "workers: 1.5 is neither"),
        ("drain = inf\n", "drain: inf is not a duration"),
        ("drain = -1\n", "drain: -1 is not a duration"),
        ("drain = '1 week'\n", "drain: '1 week' is not a duration"),
        ("timeout = 0\n", "timeout: 0 leaves no time"),
        ("loop = 'trio'\n", "loop: 'trio' is none of uvloop, asyncio"),
        ("socket = ''\n", "socket: '' is not a path"),
        ("socket = 1\n", "socket: 1 is not a path"),
        ("load = [1]\n", "load: 1 is not a path"),
        ("load = 1\n", "load: 1 is not a list of paths"),
        ("listen = 7\n", "listen: 7 is not a table"),
        ("listen.echo = 7\n", "listen: '7' is not HOST:PORT"),
        ("listen.Echo = 'h:7'\n", "listen: 'Echo' is not the name of a protocol"),
        ("listen.echo = 'h:7'\nlisten.kv = 'h:7'\n", "listen: h:7 is given twice"),
        ("listen.echo = ['unix:/x', 'unix:/x?mode=666']\n", "listen: unix:/x is given twice"),
        ("listen.echo = 'unix:x'\n", "listen: 'unix:x' is not unix:/PATH"),
        ("tls.kv = 'x'\n", "tls: kv is not a table with cert and key"),
        ("tls.kv = {key = 'x'}\n", "tls: kv: Object missing required field `cert`"),
        ("tls.kv = {cert = 'x', keys = 'x'}\n", "tls: kv: Object contains unknown field `keys`"),
        ("tls.kv = {cert = 'x', minimum = '1.1'}\n", "tls: kv: minimum '1.1' is none of 1.2, 1.3"),
        ("tls.kv = {cert = 'x', client = 'maybe'}\n", "tls: kv: client 'maybe' is none of none,"),
        ("tls.kv = {cert = 'x', client = 'optional'}\n", "tls: kv: client is 'optional', and no c"),
        ("tls.kv = {cert = 'x', alpn = ['']}\n", "tls: kv: alpn ('',) has a name of 0"),
        ("tls.kv = {cert = 'x', handshake = 0}\n", "tls: 0 leaves no time"),
        ("tls.kw = {cert = 'x'}\n", "tls.kw is no listener"),
        ("tls.kv-2 = {cert = 'x'}\n", "tls.kv-2 is no listener"),
        ("proxy = 7\n", "proxy: 7 is not a table of LISTENER"),
        ("proxy.kv = '10.0.0.1/8'\n", "proxy: '10.0.0.1/8' is neither a network, as 10.0.0.0/8,"),
        ("proxy.kv = ['nginx']\n", "proxy: 'nginx' is neither a network"),
        ("proxy.kw = ['10.0.0.0/8']\n", "proxy.kw is no listener"),
        ("proxy.kv = 'unix'\n", "proxy.kv trusts nobody who can connect to 127.0.0.1:6380"),
        (
            "proxy.kv = '::1'\nlisten.kv = 'unix:/x'\n",
            "proxy.kv trusts nobody who can connect to unix:/x",
        ),
        ("log.level = 'loud'\n", "log.level: 'loud' is none of debug"),
        ("workers = \n", "not TOML: Invalid value (at line 1"),
    ],
)
def test_a_bad_value_is_named_with_its_place(environ, write, text, sentence):
    """What can't be read says which key, which value, what would do, and where it stands."""
    file = write(text)
    problem = one_problem(file=file, environ=environ)
    assert problem.what.startswith(sentence)
    assert problem.where.startswith(str(file))


def test_tls_of_a_listener_in_full(environ, write, tmp_path):
    """Its files are found beside the configuration; a client_ca asks for certificates."""
    text = """
[listen]
kv = ["127.0.0.1:0", "127.0.0.1:0"]
[tls.kv-2]
cert = "kv.pem"
key = "/etc/kv.key"
client_ca = "ca.pem"
alpn = ["kv/1"]
minimum = "1.3"
ciphers = "ECDHE+AESGCM"
handshake = "5s"
"""
    config = load_config(None, write(text), environ)
    assert config.tls == {
        "kv-2": TlsFiles(
            cert=tmp_path / "kv.pem",
            key=Path("/etc/kv.key"),
            client_ca=tmp_path / "ca.pem",
            alpn=("kv/1",),
            minimum="1.3",
            ciphers="ECDHE+AESGCM",
            handshake=5.0,
        )
    }
    assert config.tls["kv-2"].asks == "required"


@pytest.mark.parametrize("word", ["kv", "kv=", "=x", "kv=x:", "kv=:x"])
def test_a_bad_tls_flag_says_what_is_right(environ, word):
    """LISTENER=CERT:KEY, or one file with both."""
    problem = one_problem(flags={"tls": (word,)}, environ=environ)
    assert problem.what == f"tls: {word!r} is not LISTENER=CERT:KEY"
    assert problem.where == "flag --tls"


def test_a_bad_flag_and_a_bad_variable_name_themselves(environ):
    """The place of a value that came from no file is its flag or its variable."""
    environ["NETSWAP_WORKERS"] = "many"
    _, problems = check({"listen": ("echo",)}, None, environ)
    assert [problem.where for problem in problems] == ["variable NETSWAP_WORKERS", "flag --listen"]
    assert "'echo' is not PROTOCOL=HOST:PORT" in str(problems[1])


def test_check_finds_every_problem_and_loading_names_the_first(environ, write):
    """The operator mends a file in one go; a start is refused with the number of problems."""
    file = write("workrs = 2\nloop = 'trio'\ndrain = 'x'\n")
    assert len(check(None, file, environ).problems) == 3
    with pytest.raises(UsageError, match=r"unknown key workrs .*and 2 more: netswap serve --check"):
        load_config(None, file, environ)


def test_a_missing_file_is_an_error(environ, tmp_path):
    """A configuration that was asked for and isn't there is not skipped."""
    with pytest.raises(UsageError, match="can't be read: No such file"):
        load_config(None, tmp_path / "absent.toml", environ)


def test_text_that_is_not_utf8_is_an_error_and_no_crash(environ, tmp_path):
    """A binary file is refused in a sentence."""
    file = tmp_path / "netswap.toml"
    file.write_bytes(b"\xff\xfe\x00")
    assert one_problem(file=file, environ=environ).what.startswith("not TOML")


def test_an_empty_section_is_no_mistake(environ, write):
    """A file whose settings are commented out but for the headings is a valid one."""
    assert load_config(None, write("[log]\n[listen]\n"), environ).listen == {}


def test_a_misspelt_variable_is_a_warning_naming_the_right_one(environ):
    """Foreign NETSWAP_ variables exist (Kubernetes makes some), so only near misses are told."""
    environ |= {"NETSWAP_WORKER": "2", "NETSWAP_PORT_7000_TCP_ADDR": "10.0.0.1"}
    assert load_config(environ=environ).warnings == (
        "variable NETSWAP_WORKER is not read; NETSWAP_WORKERS is",
    )


def test_paths_in_a_file_are_relative_to_it(environ, write, tmp_path):
    """A file means the same wherever the server is started."""
    (tmp_path / "v2.py").touch()
    file = write("state_dir = 'state'\nsocket = 's'\nload = ['v2.py']\n")
    config = load_config(None, file, environ)
    assert (config.state_dir, config.socket) == (tmp_path / "state", tmp_path / "s")
    assert config.load == (tmp_path / "v2.py",)


def test_a_bundle_that_is_not_there_is_found_before_the_start(environ, write, tmp_path):
    """``load`` with a missing path is refused with the line that names it."""
    file = write("load = ['absent.py']\n")
    problem = one_problem(file=file, environ=environ)
    assert str(problem) == f"{tmp_path / 'absent.py'} does not exist ({file}:1)"


def test_a_socket_path_too_long_for_unix_is_refused(environ, tmp_path):
    """The limit of the system is told as such, not as an OSError at bind."""
    problem = one_problem(flags={"state_dir": tmp_path / ("d" * 100)}, environ=environ)
    assert "longer than a Unix socket's path" in problem.what
    assert "--socket" in problem.advice


def test_a_state_directory_that_was_asked_for_must_be_writable(environ, tmp_path):
    """State never lands silently elsewhere than where it was asked for."""
    (tmp_path / "file").touch()
    problem = one_problem(flags={"state_dir": tmp_path / "file" / "state"}, environ=environ)
    assert problem.what == f"{tmp_path}/file/state can't be written"
    assert problem.where == "flag --state-dir"


@pytest.mark.parametrize("name", ["", "none/access.log"])
def test_an_access_log_that_can_not_be_written_is_found_before_the_start(environ, tmp_path, name):
    """The first request would be answered, and its line dropped."""
    problem = one_problem(flags={"log.access": tmp_path / name}, environ=environ)
    assert problem.what == f"log.access: {tmp_path / name} can't be written"
    assert problem.where == "flag --log-access"
    load_config({"log.access": str(tmp_path / "access.log")}, environ=environ)


def test_a_default_state_directory_that_cannot_be_written_is_a_warning(environ, tmp_path):
    """The server starts in a temporary directory and names both it and the right one."""
    (tmp_path / "home").touch()
    config = load_config(environ=environ)
    assert config.state_dir.parent == tmp_path
    assert len(config.warnings) == 1
    assert f"{environ['HOME']}/.local/state/netswap can't be written" in config.warnings[0]
    assert str(config.state_dir) in config.warnings[0]
