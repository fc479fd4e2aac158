"""The doctor on what users may do: it tries their rights, and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq import StreamQ, scripts
from streamq.cli import main
from streamq.doctor import needs, samples
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.doctor.looks import Capture, look, one


def as_user(url: str, name: str, *rules: str) -> str:
    """The URL of a user with these rights."""
    command(url, "ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
    return url.replace("unix://", f"unix://{name}:secret@")


@pytest.fixture
def users(any_url: str) -> Iterator[str]:
    yield any_url
    command(any_url, "ACL", "DELUSER", "someone")


ALL = ("~streamq:*", "&streamq:*")


def granted(role: str) -> list[str]:
    """What `needed` says, as far as every server knows it."""
    names = [name for name in needs.needed(needs.ROLES[role]) if name != "WAITAOF"]
    return [f"+{needs.command_of(n).lower().replace(' ', '|')}" for n in names]


@pytest.mark.parametrize("role", ["producer", "producer of durable tasks", "worker", "daemon"])
def test_a_user_for_one_role_can_be_that(users: str, role: str) -> None:
    url = as_user(users, "someone", *ALL, *granted(role), "+@connection", "+multi", "+info")
    able = [check for check in look(url) if check.name == "rights"]
    assert (able[0].status, role in able[0].finding) == ("ok", True)
    assert {check.status for check in able[1:]} <= {"warning"}


@pytest.mark.parametrize("asked_as", ["itself", "someone else"])
def test_who_may_not_wait_can_be_any_producer_but_one_of_durable_tasks(users: str, asked_as: str) -> None:
    url = as_user(users, "someone", *ALL, *granted("producer"), "+multi", "+info", "-wait")
    checks = look(url) if asked_as == "itself" else look(users, user="someone")
    able, *warned = [check for check in checks if check.name == "rights"]
    assert "may be producer" in able.finding
    [lacking] = [check for check in warned if "producer of durable tasks" in check.finding]
    assert (lacking.status, "+wait" in lacking.fix) == ("warning", True)


@pytest.mark.parametrize("right", ["+xadd", "+evalsha", "~streamq:*"])
def test_a_right_that_is_missing_is_named_with_what_grants_it(users: str, right: str) -> None:
    rules = [rule for rule in (*ALL, "+@all") if rule != right]
    if right.startswith("+"):
        rules.append("-" + right[1:])
    url = as_user(users, "someone", *rules)
    refused = [check for check in look(url) if check.name == "rights" and check.status != "ok"]
    assert refused
    assert any(right in check.fix for check in refused)
    assert any(check.status == "fault" for check in refused)


def test_a_channel_that_is_missing(users: str) -> None:
    url = as_user(users, "someone", "~streamq:*", "+@all", "resetchannels")
    assert any("'&streamq:*'" in check.fix for check in look(url) if check.name == "rights")


def test_the_rights_of_another_user(users: str) -> None:
    as_user(users, "someone", *ALL, *granted("producer"))
    able = [check for check in look(users, user="someone") if check.name == "rights"]
    assert "user someone may be producer" in able[0].finding


def test_a_user_who_may_only_read(users: str, capsys: Capture) -> None:
    """What he may not see is unknown; nothing is written."""
    app = StreamQ("shop", users)
    app.send("email", {})
    app.close()
    url = as_user(
        users,
        "someone",
        "~streamq:*",
        "+@read",
        "+eval",
        "+evalsha",
        "+time",
        "+acl|whoami",
        "+multi",
        "+client|setname",
    )
    before = {key: command(users, "DUMP", key) for key in command(users, "KEYS", "*")}  # type: ignore[attr-defined]
    checks = look(url)
    assert {key: command(users, "DUMP", key) for key in command(users, "KEYS", "*")} == before  # type: ignore[attr-defined]
    assert one(checks, "server").status == "unknown"
    assert "may be observer" in next(c for c in checks if c.name == "rights").finding
    assert one(checks, "workers of shop").status == "fault"
    blind = look(as_user(users, "someone", "+time", "+client|setname"))
    assert {check.name: check.status for check in blind}["rights"] == "unknown"
    assert main(["doctor", "--url", users.replace("unix://", "unix://nobody:x@")]) == 77
    assert "✗ reach" in capsys.readouterr().out


def test_every_command_of_every_script_has_a_sample_that_the_server_takes(users: str) -> None:
    for name in scripts.names():
        for used in needs.used(name):
            assert samples.sample(used, "shop")
    transport = SyncTransport(Address.parse(users))
    for role in needs.ROLES.values():
        for used in needs.needed(role):
            sample = samples.sample(used, "shop")
            if command(users, "COMMAND", "INFO", sample[0]) != [None]:  # WAITAOF is newer than some servers
                assert command(users, "ACL", "DRYRUN", "default", *sample) == b"OK", used
    transport.close()


def test_trying_rights_runs_nothing(users: str) -> None:
    look(users)
    assert command(users, "DBSIZE") == 0
