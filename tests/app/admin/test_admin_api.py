"""The admin API: which keys are admitted, what is recorded, and the response of each route."""

import asyncio
import json

import httpx
import pytest

from chat_broker.admin.audit_log import verify_chain
from chat_broker.main import ADMIN
from tests.app.admin.conftest import BOOTSTRAP, WHY, minted, open_office
from tests.programs import free_port

ROUTES = sorted(
    (next(iter(route.methods)), route.path, route.needs.scope.value, route.needs.action)
    for router in ADMIN
    for route in router.routes
)
CONTRACT = {
    ("GET", "/admin/users", "users:read"),
    ("GET", "/admin/users/{user:path}", "users:read"),
    ("PUT", "/admin/users/{user:path}", "users:write"),
    ("PATCH", "/admin/users/{user:path}", "users:write"),
    ("DELETE", "/admin/users/{user:path}", "users:write"),
    ("POST", "/admin/users/{user:path}/token", "tokens:mint"),
    ("POST", "/admin/users/{user:path}/revoke", "tokens:revoke"),
    ("POST", "/admin/users/{user:path}/ban", "users:ban"),
    ("DELETE", "/admin/users/{user:path}/ban", "users:ban"),
    ("GET", "/admin/rooms", "rooms:read"),
    ("GET", "/admin/rooms/{room_id}/messages", "rooms:read"),
    ("DELETE", "/admin/rooms/{room_id}", "rooms:write"),
    ("DELETE", "/admin/rooms/{room_id}/messages/{message_id}", "rooms:write"),
    ("GET", "/admin/explain", "users:read"),
    ("GET", "/admin/keys", "keys:write"),
    ("POST", "/admin/keys", "keys:write"),
    ("DELETE", "/admin/keys/{key_id}", "keys:write"),
    ("GET", "/admin/audit", "audit:read"),
    ("GET", "/admin/status", "status:read"),
    ("POST", "/admin/revoke-all", "tokens:revoke"),
}


def concrete(path):
    for name in ("{user:path}", "{room_id}", "{message_id}", "{key_id}"):
        path = path.replace(name, "nobody")
    return path


def test_every_route_of_the_contract_is_there_with_its_scope():
    assert {(method, path, scope) for method, path, scope, _ in ROUTES} >= CONTRACT


class TestWhoGetsIn:
    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
    async def test_nobody_without_the_scope(self, office, route):
        method, path, scope, action = route
        others = sorted({one[2] for one in ROUTES} - {scope})
        client = await office.key(*others)
        refused = await client.request(method, concrete(path))
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        (record,) = [
            r
            for r in (await office.admin.get("/admin/audit", params={"action": action})).json()[
                "items"
            ]
            if r["request_id"] == refused.headers["x-request-id"]
        ]
        assert record["outcome"] == "refused"

    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
    async def test_no_other_credential(self, office, route):
        """An app's session, a chat token and no credential at all are refused."""
        method, path, _, _ = route
        alice = await office.as_("alice")
        (token,) = await minted(alice)
        for bearer in (
            alice.headers["authorization"].partition(" ")[2],
            token,
            "ck_live_0123456789abcdef",
            "x",
        ):
            stranger = await office.with_key(bearer)
            refused = await stranger.request(method, concrete(path))
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm="admin"'
            assert refused.headers["content-type"] == "application/problem+json"

    async def test_an_admin_key_opens_nothing_for_frontends(self, office):
        made = await office.admin.post("/admin/keys", json={"name": "k", "scopes": ["users:read"]})
        for key in (made.json()["key"], BOOTSTRAP):
            client = await office.with_key(key)
            for method, path in (
                ("POST", "/chat/token"),
                ("GET", "/chat/rooms"),
                ("GET", "/chat/verify"),
            ):
                assert (await client.request(method, path)).status_code == 401

    @pytest.mark.parametrize(
        "raw", [b"\xff\xfe\x80", "ключ".encode(), b"a b", b"ak_" + b"\xe9" * 56]
    )
    async def test_any_bytes_are_refused_politely(self, office, raw):
        refused = await (await office.with_key(raw)).get("/admin/users")
        assert refused.status_code == 401

    async def test_keys_end(self, office):
        made = (
            await office.admin.post(
                "/admin/keys", json={"name": "ci", "scopes": ["users:read", "rooms:read"]}
            )
        ).json()
        assert set(made) == {"id", "name", "scopes", "expires_at", "created_at", "key"}
        client = await office.with_key(made["key"])
        assert (await client.get("/admin/users")).status_code == 200
        listed = await office.admin.get("/admin/keys")
        assert made["key"] not in listed.text
        assert made["key"][-20:] not in listed.text
        assert made["id"] in {key["id"] for key in listed.json()["items"]}
        assert (await office.admin.delete(f"/admin/keys/{made['id']}")).status_code == 204
        assert (await client.get("/admin/users")).status_code == 401
        assert (await office.admin.delete("/admin/keys/nosuchkey")).status_code == 404

        from datetime import UTC, datetime, timedelta

        ends = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        client = await office.key("users:read", expires_at=ends)
        assert (await client.get("/admin/users")).status_code == 200
        async with asyncio.timeout(5):
            answer = await client.get("/admin/users")
            while answer.status_code == 200:
                answer = await client.get("/admin/users")
        assert answer.status_code == 401

    async def test_nobody_grants_what_they_lack(self, office):
        client = await office.key("keys:write", "users:read")
        body = {"name": "x", "scopes": ["users:read", "users:ban"]}
        refused = await client.post("/admin/keys", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_not_held")
        granted = await client.post("/admin/keys", json={"name": "x", "scopes": ["users:read"]})
        assert granted.status_code == 201

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "x", "scopes": []},
            {"name": "x", "scopes": ["users:everything"]},
            {"name": "", "scopes": ["users:read"]},
            {"scopes": ["users:read"]},
            {"name": "x"},
            {"name": "x", "scopes": "users:read"},
            {"name": "x", "scopes": ["users:read"], "expires_at": "2020-01-01T00:00:00Z"},
            {"name": "x", "scopes": ["users:read"], "expires_at": "soon"},
            {"name": "x", "scopes": ["users:read"], "admin": True},
        ],
        ids=str,
    )
    async def test_a_key_is_asked_for_properly(self, office, body):
        assert (await office.admin.post("/admin/keys", json=body)).status_code == 400


class TestGuessing:
    async def test_guessing_is_limited_and_the_real_key_is_not(self):
        async with open_office(
            TRUSTED_PROXIES="127.0.0.1", RATE_ADMIN_FAILURES="10/minute"
        ) as office:
            guesser = await office.with_key("guess-0123456789abcdef0123456789abcdef")
            statuses = [(await guesser.get("/admin/users")).status_code for _ in range(15)]
            assert statuses[:10] == [401] * 10
            assert set(statuses[10:]) <= {401, 429}
            assert statuses[-1] == 429
            refused = await guesser.get("/admin/status")
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["code"] == "rate_limited"
            elsewhere = {"X-Forwarded-For": "198.51.100.7"}
            assert (await guesser.get("/admin/users", headers=elsewhere)).status_code == 401
            assert (await office.admin.get("/admin/users")).status_code == 200
            folded = [r for r in await office.records() if r["actor"] == "unknown"]
            counts = {record["ip"]: 0 for record in folded}
            for record in folded:
                counts[record["ip"]] += record["detail"]["count"]
            assert counts == {"127.0.0.1": 16, "198.51.100.7": 1}
            assert len(folded) <= 3, "one a minute per address"


class TestAudit:
    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
    async def test_every_call_is_one_record_also_when_it_fails(self, office, route):
        method, path, _, action = route
        for body in (None, b"{", b'{"reason":"r"}'):
            headers = {"Content-Type": "application/json"}
            options = {"content": body, "headers": headers} if body and method != "GET" else {}
            answer = await office.admin.request(method, concrete(path), **options)
            records = [
                record
                for record in (await office.admin.get("/admin/audit", params={"limit": 20})).json()[
                    "items"
                ]
                if record["request_id"] == answer.headers["x-request-id"]
            ]
            assert [record["action"] for record in records] == [action]
            (record,) = records
            assert record["outcome"] == ("ok" if answer.status_code < 400 else "refused")
            assert record["actor"] == "bootstrap"
            assert set(record) == {
                "id", "at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id", "detail",
            }  # fmt: skip

    async def test_reading_page_by_page(self, office):
        for number in range(7):
            await office.admin.put(f"/admin/users/external:paged-{number}")
        seen, cursor = [], None
        while True:
            asked = {"action": "users.put", "limit": 3} | ({"cursor": cursor} if cursor else {})
            page = (await office.admin.get("/admin/audit", params=asked)).json()
            seen += [record["subject"] for record in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        mine = [subject for subject in seen if subject.startswith("external:paged-")]
        assert mine == [f"external:paged-{number}" for number in reversed(range(7))]

    async def test_searching(self, office):
        await office.admin.put("/admin/users/external:searched")
        user = (await office.admin.get("/admin/users/external:searched")).json()
        await office.admin.post(f"/admin/users/{user['id']}/revoke", json={"reason": "lost phone"})
        for subject in ("external:searched", user["id"]):
            actions = {record["action"] for record in await office.records(subject=subject)}
            assert actions == {"users.put", "users.get", "tokens.revoke"}
        (record,) = await office.records(subject=user["id"], action="tokens.revoke")
        assert (record["reason"], record["outcome"]) == ("lost phone", "ok")
        assert await office.records(subject=user["id"], until=record["at"], action="revoke") == []
        assert (
            len(await office.records(subject=user["id"], since=record["at"], action="revoke")) == 1
        )
        assert await office.records(actor="nobody") == []

    @pytest.mark.parametrize(
        "query",
        [
            "cursor=x",
            "cursor=after-1",
            "since=yesterday",
            "limit=0",
            "limit=201",
            "who=me",
            "actor=a&actor=b",
        ],
    )
    async def test_bad_questions(self, office, query):
        assert (await office.admin.get(f"/admin/audit?{query}")).status_code == 400

    async def test_an_export_can_be_checked_by_anybody(self, office):
        await office.admin.put("/admin/users/external:exported")
        exported = await office.admin.get(
            "/admin/audit", headers={"Accept": "application/x-ndjson"}
        )
        assert exported.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in exported.text.splitlines()]
        assert verify_chain(lines).sound
        assert len(lines) == int(exported.headers["X-Audit-Length"])
        lines[len(lines) // 2]["reason"] = "nothing happened"
        assert not verify_chain(lines).sound

    async def test_an_export_ends_where_its_length_says(self, office):
        """A record written during an export is left out, because the export's length does not count it."""

        await office.admin.put("/admin/users/external:exported")

        async def export():
            exported = await office.admin.get(
                "/admin/audit", headers={"Accept": "application/x-ndjson"}
            )
            last = json.loads(exported.text.splitlines()[-1])
            return last["seq"], int(exported.headers["X-Audit-Length"])

        found = await asyncio.gather(*(export() for _ in range(40)))
        assert all(seq == length for seq, length in found), found

    async def test_no_credential_is_in_it(self, office):
        made = (
            await office.admin.post("/admin/keys", json={"name": "k", "scopes": ["users:read"]})
        ).json()
        await office.admin.put("/admin/users/external:secretive")
        token = (
            await office.admin.post(
                "/admin/users/external:secretive/token", json={"reason": f"see {made['key']}"}
            )
        ).json()["token"]
        await office.admin.get(f"/admin/users/{token}")
        await office.admin.get(f"/admin/users/external:{made['key']}")
        await office.admin.post(
            "/admin/users/external:secretive/revoke", json={"reason": f"{token} {BOOTSTRAP}"}
        )
        exported = await office.admin.get(
            "/admin/audit", headers={"Accept": "application/x-ndjson"}
        )
        for secret in (made["key"], made["key"][16:], token, token.split(".")[2], BOOTSTRAP):
            assert secret not in exported.text
            assert secret not in office.program.log()


class TestUsers:
    async def test_bringing_users_in(self, office):
        body = {
            "username": "carol",
            "display_name": "Carol",
            "email": "c@example.com",
            "metadata": {"a": 1},
        }
        made = await office.admin.put("/admin/users/external:crm-7", json=body)
        assert made.status_code == 201
        assert {name: made.json()[name] for name in body} == body
        again = await office.admin.put("/admin/users/external:crm-7", json={"display_name": "C."})
        assert again.status_code == 200
        assert (again.json()["id"], again.json()["display_name"]) == (made.json()["id"], "C.")
        taken = await office.admin.put("/admin/users/external:crm-8", json={"username": "CAROL"})
        assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
        assert (await office.admin.get("/admin/users/external:crm-8")).status_code == 404
        assert (await office.admin.put("/admin/users/crm-9")).status_code == 400

    async def test_a_user_brought_in_is_who_signs_in(self, office):
        made = (
            await office.admin.put("/admin/users/external:dora", json={"display_name": "Dora D."})
        ).json()
        me = (await (await office.as_("dora")).get("/chat/me")).json()
        assert me["id"] == made["id"]

    @pytest.mark.parametrize(
        "external_id", ["a/b", "a/ban/c", "ü", "a:b", "a b", "%2e%2e", "x?y=1", "#"]
    )
    async def test_unusual_external_ids(self, office, external_id):
        from urllib.parse import quote

        path = "/admin/users/external:" + quote(external_id, safe="")
        made = await office.admin.put(path)
        assert made.status_code == 201
        assert made.json()["external_user_id"] == external_id
        assert (await office.admin.get(path)).json()["id"] == made.json()["id"]
        assert (await office.admin.post(path + "/revoke", json=WHY)).status_code == 200

    async def test_many_bring_one_user_in_at_once(self, office):
        answers = await asyncio.gather(
            *(office.admin.put("/admin/users/external:together") for _ in range(10))
        )
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum(answer.status_code == 201 for answer in answers) == 1

    @pytest.mark.parametrize(
        "name",
        ["nobody", "external:nobody", "external:", "..", "%2e%2e", "a%00b", "external:%0d%0a"],
    )
    async def test_who_is_not_there(self, office, name):
        answer = await office.admin.get(f"/admin/users/{name}")
        assert answer.status_code in {404, 200}
        if answer.status_code == 404:
            assert answer.json()["code"] in {"user_not_found", "not_found"}

    async def test_listing(self, office):
        for number in range(3):
            await office.admin.put(f"/admin/users/external:listed-{number}")
        await office.admin.patch("/admin/users/external:listed-1", json={"status": "suspended"})
        page = (await office.admin.get("/admin/users?q=listed-&limit=2")).json()
        assert (len(page["items"]), page["total"], page["totalPages"]) == (2, 3, 2)
        found = (await office.admin.get("/admin/users?q=listed-&status=suspended")).json()["items"]
        assert [user["external_user_id"] for user in found] == ["listed-1"]
        await office.admin.put("/admin/users/external:lower", json={"display_name": "Jürgen Groß"})
        for q in ("jürgen", "JÜRGEN GROSS", "jurgen gross"):
            found = (await office.admin.get("/admin/users", params={"q": q})).json()["items"]
            assert [user["external_user_id"] for user in found] == ["lower"]
        for query in ("status=odd", "page=0", "limit=201", "x=1", "q=a&q=b"):
            assert (await office.admin.get(f"/admin/users?{query}")).status_code == 400

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"status": "banned"},
            {"username": "no spaces"},
            {"id": "x"},
            {"project_id": "x"},
            {"metadata": []},
        ],
        ids=str,
    )
    async def test_changes_that_are_none(self, office, change):
        await office.admin.put("/admin/users/external:unchanged")
        assert (
            await office.admin.patch("/admin/users/external:unchanged", json=change)
        ).status_code == 400

    @pytest.mark.parametrize("route", ["token", "revoke", "ban"])
    @pytest.mark.parametrize(
        "body",
        [{}, {"reason": ""}, {"reason": "  "}, {"reason": 1}, {"reason": "x", "y": 1}],
        ids=str,
    )
    async def test_a_reason_is_needed(self, office, route, body):
        await office.admin.put("/admin/users/external:reasoned")
        answer = await office.admin.post(f"/admin/users/external:reasoned/{route}", json=body)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] in {"reason", "y"}

    async def test_a_ban_ends_in_the_future(self, office):
        await office.admin.put("/admin/users/external:past")
        body = WHY | {"until": "2020-01-01T00:00:00Z"}
        assert (
            await office.admin.post("/admin/users/external:past/ban", json=body)
        ).status_code == 400

    @pytest.mark.parametrize(
        ("written", "ends"),
        [
            ("2098-12-01T10:00:00z", "2098-12-01T10:00:00.000Z"),
            ("2098-12-01t10:00:00Z", "2098-12-01T10:00:00.000Z"),
            ("2098-12-01T10:00:00.25+02:00", "2098-12-01T08:00:00.250Z"),
            ("2098-12-01T23:59:60Z", "2098-12-02T00:00:00.000Z"),
            ("2098-12-01T10:00:00", None),
            ("2098-01-01", None),
            ("2098-W01-1", None),
            ("2098-12-01 10:00:00Z", None),
            ("2098-12-01T10:00:00+0200", None),
            ("4068345600", None),
        ],
    )
    async def test_instants_are_those_of_rfc_3339(self, office, written, ends):
        """An instant needs an offset; lower case and a leap second are accepted, in every field."""
        await office.admin.put("/admin/users/external:timed")
        banned = await office.admin.post(
            "/admin/users/external:timed/ban", json=WHY | {"until": written}
        )
        key = await office.admin.post(
            "/admin/keys", json={"name": "k", "scopes": ["users:read"], "expires_at": written}
        )
        searches = [
            await office.admin.get("/admin/audit", params={name: written})
            for name in ("since", "until")
        ]
        if ends is None:
            for answer, field in zip(
                (banned, key, *searches), ("until", "expires_at", "since", "until"), strict=True
            ):
                assert answer.status_code == 400
                (error,) = answer.json()["errors"]
                assert error["field"] == field
                assert "2026-01-31T12:00:00Z" in error["message"], "says what is expected"
        else:
            assert banned.json()["until"] == ends
            assert key.json()["expires_at"] == ends
            assert [answer.status_code for answer in searches] == [200, 200]

    async def test_a_plus_that_nobody_escaped_is_one_in_a_query(self, office):
        """An unescaped "+" in a query is read as a space, and means "+" in an instant."""
        query = "since=2026-01-01T00:00:00+02:00"
        assert (await office.admin.get(f"/admin/audit?{query}")).status_code == 200

    async def test_minting_on_behalf(self, office):
        await office.admin.put("/admin/users/external:helped")
        made = await office.admin.post(
            "/admin/users/external:helped/token", json=WHY | {"expires_in": 60}
        )
        assert made.status_code == 200
        assert made.json()["expires_in"] == 60
        assert await office.verify(made.json()["token"]) == "ok"
        (record,) = await office.records(action="tokens.mint", subject="external:helped")
        assert record["reason"] == WHY["reason"]
        assert record["detail"]["session_id"] == made.json()["session_id"]


class TestRooms:
    async def test_seeing_and_deleting(self, office):
        alice = await office.as_("room-alice")
        room = (
            await alice.post("/chat/rooms", json={"name": "secret plans", "private": True})
        ).json()["id"]
        said = (await alice.post(f"/chat/rooms/{room}/messages", json={"content": "hi"})).json()[
            "id"
        ]
        listed = (await office.admin.get("/admin/rooms?q=secret")).json()
        assert [one["id"] for one in listed["items"]] == [room]
        messages = (await office.admin.get(f"/admin/rooms/{room}/messages")).json()["items"]
        assert [one["content"] for one in messages] == ["hi"]
        assert (
            await office.admin.delete(f"/admin/rooms/{room}/messages/{said}")
        ).status_code == 204
        messages = (await office.admin.get(f"/admin/rooms/{room}/messages?after=0")).json()["items"]
        assert [one["content"] for one in messages] == [""]
        assert (await office.admin.delete(f"/admin/rooms/{room}")).status_code == 204
        assert (await alice.get(f"/chat/rooms/{room}")).status_code == 404
        assert (await office.admin.delete(f"/admin/rooms/{room}")).status_code == 404
        assert (await office.admin.get(f"/admin/rooms/{room}/messages")).status_code == 404

    async def test_explaining_is_what_the_broker_does(self, office):
        """For each action, the decision of `explain` equals the response to the user's own request."""
        owner, stranger = await office.as_("ex-owner"), await office.as_("ex-stranger")
        await minted(owner, stranger)
        room = (await owner.post("/chat/rooms", json={"name": "r", "private": True})).json()["id"]
        tries = {
            "read": ("GET", f"/chat/rooms/{room}", None),
            "post": ("POST", f"/chat/rooms/{room}/messages", {"content": "x"}),
            "update_room": ("PATCH", f"/chat/rooms/{room}", {"name": "r2"}),
            "join": ("POST", f"/chat/rooms/{room}/join", None),
            "add_member": ("PUT", f"/chat/rooms/{room}/members/external:ex-owner", None),
        }
        for name, client in (("ex-owner", owner), ("ex-stranger", stranger)):
            for action, (method, path, body) in tries.items():
                asked = {"user": f"external:{name}", "room": room, "action": action}
                shown = (await office.admin.get("/admin/explain", params=asked)).json()
                assert set(shown) == {"allowed", "rule", "reason", "facts"}
                did = await client.request(method, path, json=body)
                assert shown["allowed"] == (did.status_code < 400), (name, action, shown, did.text)
        await office.admin.post("/admin/users/external:ex-owner/ban", json=WHY)
        asked = {"user": "external:ex-owner", "room": room, "action": "post"}
        shown = (await office.admin.get("/admin/explain", params=asked)).json()
        assert (shown["allowed"], shown["rule"]) == (False, "banned")
        asked["room"] = "nowhere"
        assert (await office.admin.get("/admin/explain", params=asked)).json()["facts"][
            "room_exists"
        ] is False
        for bad in ({"action": "fly"}, {"user": "external:nobody"}):
            assert (await office.admin.get("/admin/explain", params=asked | bad)).status_code in {
                400,
                404,
            }
        assert (await office.admin.get("/admin/explain")).status_code == 400


async def test_status_tells_no_secret(office):
    answer = await office.admin.get("/admin/status")
    shown = answer.json()
    assert {"versions", "modes", "upstream", "database", "redis", "counts"} <= set(shown)
    assert (shown["status"], shown["database"]["kind"], shown["redis"]["state"]) == (
        "ok",
        "sqlite",
        "off",
    )
    assert BOOTSTRAP not in answer.text
    assert "ck_" not in answer.text


async def test_a_port_for_operators_alone():
    port = free_port()
    async with open_office(ADMIN_PORT=str(port)) as office:
        inner = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=office.admin.headers)
        await office.stack.enter_async_context(inner)
        for path in ("/admin/users", "/admin/status", "/metrics", "/openapi.json"):
            assert (await inner.get(path)).status_code == 200, path
            assert (await office.admin.get(path)).status_code == 404, path
        for path in ("/healthz", "/readyz"):
            assert (await inner.get(path)).status_code == 200
            assert (await office.admin.get(path)).status_code == 200
        assert (await inner.post("/chat/token")).status_code == 404
        assert (await inner.get("/dev/login")).status_code == 404
        assert (await office.admin.post("/chat/token")).status_code == 401


async def test_the_description_names_the_credentials(office):
    description = (await office.admin.get("/openapi.json")).json()
    assert set(description["components"]["securitySchemes"]) == {"app_credential", "admin_key"}
    assert "$ref" not in json.dumps(description)
    for path, methods in description["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            if path.startswith("/admin"):
                assert operation["security"] == [{"admin_key": []}]
