"""The operators' commands: their output and exit codes."""

import asyncio
import json

import pytest

from chat_broker.admin.audit_log import verify_chain
from tests.app.admin.conftest import BOOTSTRAP, WHY, minted, open_office
from tests.programs import BIN, ROOT, clean_environment, run_command


async def run(office, *command, code=0, **more):
    got, out, err = await office.run(*command, **more)
    assert got == code, (out, err)
    return out if code == 0 or out else err


async def run_json(office, *command, **more):
    return json.loads(await run(office, *command, "--json", **more))


async def test_users_from_the_shell(office):
    made = await run_json(office, "admin", "users", "put", "external:ann", "--username", "ann")
    assert made["external_user_id"] == "ann"
    assert "ann" in await run(office, "admin", "users")
    assert (await run_json(office, "admin", "users", "list", "--q", "ann"))["total"] == 1
    assert (await run_json(office, "admin", "users", "get", "external:ann"))["id"] == made["id"]
    assert (await run_json(office, "admin", "users", "suspend", made["id"]))[
        "status"
    ] == "suspended"
    assert (await run_json(office, "admin", "users", "activate", made["id"]))["status"] == "active"
    await run(office, "admin", "users", "delete", "external:ann")
    assert "no such user" in await run(office, "admin", "users", "get", "external:ann", code=1)
    for command in (
        ["ban", "ann"],
        ["users", "get", "ann"],
        ["explain", "--user", "ann", "--room", "r", "--action", "read"],
    ):
        assert "external:ann" in " ".join((await run(office, "admin", *command, code=1)).split())


async def test_json_counts_wherever_it_stands(office):
    for command in (("--json", "status"), ("status", "--json")):
        assert json.loads(await run(office, "admin", *command))["status"] == "ok"
    assert "items" in json.loads(await run(office, "admin", "keys", "--json"))
    assert "items" in json.loads(await run(office, "admin", "keys", "--json", "list"))


async def test_cutting_off_from_the_shell(office):
    ben = await office.as_("ben")
    (token,) = await minted(ben)
    live = await office.socket(token)
    receipt = await run_json(office, "admin", "revoke", "external:ben", "--reason", "lost phone")
    assert receipt["sockets_closed"] == 1
    assert "sockets closed: 0" in await run(office, "admin", "revoke", "external:ben")
    made = await run_json(
        office, "admin", "ban", "external:ben", "--reason", "[red]x", "--until", "1h"
    )
    assert made["ban"]["until"] is not None
    assert (await ben.post("/chat/token")).status_code == 403
    assert "[red]x" in await run(office, "admin", "users", "bans", "external:ben")
    await run(office, "admin", "unban", "external:ben")
    assert (await ben.post("/chat/token")).status_code == 200
    assert (await run_json(office, "admin", "revoke-all", "--reason", "leak"))["generation"] >= 1
    assert live.errors[0]["code"] == "token_revoked"
    (record, *_) = await office.records(action="tokens.revoke", subject="external:ben")
    assert record["reason"] == "no reason given"


async def test_explain_rooms_and_status(office):
    cleo = await office.as_("cleo")
    room = (await cleo.post("/chat/rooms", json={"name": "cleo's"})).json()["id"]
    await cleo.post(
        f"/chat/rooms/{room}/messages", json={"content": "hello\x1b[31m".replace("\x1b", "")}
    )
    asked = ("--user", "external:cleo", "--room", room, "--action", "delete_room")
    assert "allowed" in await run(office, "admin", "explain", *asked)
    assert "cleo's" in await run(office, "admin", "rooms")
    assert "hello" in await run(office, "admin", "rooms", "messages", room)
    await run(office, "admin", "rooms", "delete", room)
    assert "embedded" in await run(office, "admin", "status")


async def test_keys_from_the_shell(office):
    out = await run(
        office, "admin", "keys", "create", "--name", "ci", "--scope", "users:read,status:read"
    )
    key = out.splitlines()[-1]
    assert key.startswith("ak_")
    env = {"CHAT_BROKER_ADMIN_KEY": key}
    assert await run_json(office, "admin", "status", **env)
    assert "lacks the scope" in await run(office, "admin", "keys", code=1, **env)
    made = await run_json(
        office, "admin", "keys", "create", "other", "--scopes", "users:read", "--expires", "1d"
    )
    assert made["expires_at"] is not None
    await run(office, "admin", "keys", "revoke", made["id"])
    await run(office, "admin", "keys", "create", "--name", "x", code=2)
    await run(office, "admin", "keys", "create", "--name", "x", "--scope", "nonsense", code=1)
    listed = await run(office, "admin", "keys")
    assert key not in listed
    assert key[-20:] not in listed


async def test_when_there_is_no_broker_or_no_key(office):
    await run(office, "admin", "status", code=3, CHAT_BROKER_URL="http://127.0.0.1:1")
    await run(office, "admin", "status", code=2, CHAT_BROKER_URL="ftp://x")
    await run(office, "admin", "status", code=2, CHAT_BROKER_ADMIN_KEY="")
    for key in ("wrong", "ключ"):
        said = await run(office, "admin", "status", code=1, CHAT_BROKER_ADMIN_KEY=key)
        assert key not in said
    await run(office, "admin", "nonsense", code=2)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("UPDATE audit SET reason = 'nothing' WHERE seq = 2", "record 2 was changed"),
        ("DELETE FROM audit WHERE seq = 2", "record 2 is missing"),
        ("DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)", "is missing"),
    ],
)
async def test_the_audit_is_checked_from_the_shell(tmp_path, spoil, problem):
    async with open_office() as office:
        for number in range(3):
            await office.admin.put(f"/admin/users/external:u{number}")
        sound = await run_json(office, "admin", "audit", "verify")
        assert sound["ok"] is True
        assert sound["checked"] >= 3
        assert "sound" in await run(office, "admin", "audit", "verify", "--expect", sound["head"])
        await run(office, "admin", "audit", "verify", "--expect", "f" * 64, code=1)
        with office.state() as database:
            database.execute(spoil)
        found = json.loads(await run(office, "admin", "audit", "verify", "--json", code=1))
        assert problem in found["problem"]
        assert found["ok"] is False


def weekly_lines():
    page = (ROOT / "docs" / "operations.md").read_text()
    block = page.partition("## The audit, once a week")[2].split("```")[1]
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


async def shell(office, line, folder):
    where = {"CHAT_BROKER_URL": office.program.url, "CHAT_BROKER_ADMIN_KEY": BOOTSTRAP}
    environment = clean_environment(where)
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", line, cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_the_weekly_lines_work_from_their_first_run_as_the_page_has_them(tmp_path):
    """`verify --head-file` detects a chain that was written anew, in every run."""
    async with open_office() as office:
        heads = set()
        for number in range(3):
            for line in weekly_lines():
                code, out = await shell(office, line, tmp_path)
                assert code == 0, (line, out)
            heads.add((tmp_path / "last-head").read_text())
            await office.admin.put(f"/admin/users/external:u{number}")
        assert len(heads) == 3
        (tmp_path / "last-head").write_text("f" * 64 + "\n")
        for _ in range(2):
            code, out = await shell(office, weekly_lines()[0], tmp_path)
            assert (code, "written anew" in out) == (1, True), out


@pytest.mark.parametrize("wrong", ["", " ", "f" * 63, "F" * 64, "f" * 64 + "\n", "\x00"])
async def test_what_is_no_head_is_wrong_usage_and_no_alarm(office, tmp_path, wrong):
    if "\x00" not in wrong:
        out = await run(office, "admin", "audit", "verify", "--expect", wrong, code=2)
        assert "64 hexadecimal digits" in out
    file = tmp_path / "head"
    file.write_text(wrong.strip())
    if wrong != "f" * 64 + "\n":
        out = await run(office, "admin", "audit", "verify", "--head-file", str(file), code=2)
        assert "holds no head" in out
    both = ["--head-file", str(file), "--expect", "f" * 64]
    await run(office, "admin", "audit", "verify", *both, code=2)
    assert file.read_text() == wrong.strip()


async def test_listing_and_exporting_the_audit(office, tmp_path):
    await office.admin.post("/admin/users/external:nobody/ban", json=WHY)
    assert "refused" in await run(office, "admin", "audit", "--action", "ban")
    page = await run_json(office, "admin", "audit", "list", "--limit", "1")
    assert page["next_cursor"]
    file = tmp_path / "audit.ndjson"
    await run(office, "admin", "audit", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert verify_chain(lines).sound
    assert "sound" in await run(office, "admin", "audit", "verify", "--file", str(file))
    out = await run(office, "admin", "audit", "export", "--action", "users.ban")
    assert {json.loads(line)["action"] for line in out.splitlines()} == {"users.ban"}
    file.write_text(file.read_text().replace("external:nobody", "external:somebody"))
    await run(office, "admin", "audit", "verify", "--file", str(file), code=1)


async def test_inspecting_tokens(office):
    dan = await office.as_("dan")
    (token,) = await minted(dan)
    result = await run_json(office, "token", "inspect", stdin=token)
    assert (result["accepted"], result["claims"]["ext"], result["header"]["typ"]) == (
        True,
        "dan",
        "chat+jwt",
    )
    assert "accepted" in await run(office, "token", "inspect", stdin=f"Bearer {token}\n")
    await office.admin.post("/admin/users/external:dan/revoke", json=WHY)
    result = json.loads(await run(office, "token", "inspect", "--json", stdin=token, code=1))
    assert (result["accepted"], result["code"], result["claims"]["ext"]) == (
        False,
        "token_revoked",
        "dan",
    )
    for junk in ("", "junk", "a.b.c", "\x00" * 10, "{}", "ä.ö.ü"):
        result = json.loads(await run(office, "token", "inspect", "--json", stdin=junk, code=1))
        assert result["accepted"] is False
    nobody = {"CHAT_BROKER_URL": "http://127.0.0.1:1"}
    result = json.loads(
        await run(office, "token", "inspect", "--json", stdin=token, code=3, **nobody)
    )
    assert (result["accepted"], result["claims"]["ext"]) == (None, "dan")
    assert BOOTSTRAP not in office.program.log()


async def test_the_command_itself(office):
    """The commands as a real process: standard input, standard output, exit codes."""
    environment = {"CHAT_BROKER_URL": office.program.url, "CHAT_BROKER_ADMIN_KEY": BOOTSTRAP}
    (token,) = await minted(await office.as_("eve"))
    code, out, _ = await run_command(
        "chat-broker", "token", "inspect", environment=environment, stdin=token.encode()
    )
    assert (code, "accepted" in out) == (0, True)
    code, out, err = await run_command(
        "chat-broker", "admin", "users", "get", "external:nobody", environment=environment
    )
    assert (code, out) == (1, "")
    assert "user_not_found" in err
