"""What users set about themselves."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, of_user, refused

UNTOUCHED = {"presence": "visible", "receipts": True, "notify": None, "push_preview": True}


async def settings(api: ChatApi, user: dict[str, Any]) -> dict[str, Any]:
    answer = await api.send("GET", f"{of_user(user)}/settings")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_user_who_has_set_nothing_is_seen_and_shows_what_is_read(api: ChatApi) -> None:
    assert await settings(api, await api.user()) == UNTOUCHED


async def test_what_is_sent_is_changed_and_the_rest_stays(api: ChatApi) -> None:
    """Each answer holds all settings; null clears `notify`; nothing changes for other users."""
    user, other = await api.user(), await api.user()
    expected = dict(UNTOUCHED)
    for changes in (
        {"presence": "hidden"},
        {"receipts": False, "notify": "mentions"},
        {"push_preview": False},
        {},
        {"presence": "visible", "notify": None},
    ):
        expected |= changes
        answer = await api.send("PATCH", f"{of_user(user)}/settings", json=changes)
        assert (answer.status_code, answer.json()) == (200, expected)
        assert await settings(api, user) == expected
    assert await settings(api, other) == UNTOUCHED


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"presence": "away"}, "presence"),
        ({"presence": None}, "presence"),
        ({"receipts": "no"}, "receipts"),
        ({"receipts": None}, "receipts"),
        ({"notify": "some"}, "notify"),
        ({"push_preview": 1}, "push_preview"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_setting_is_named_and_nothing_is_changed(
    api: ChatApi, changes: dict[str, Any], field: str
) -> None:
    user = await api.user()
    answer = await api.send("PATCH", f"{of_user(user)}/settings", json=changes)
    assert [error["field"] for error in refused(answer, 400)["errors"]] == [field]
    assert await settings(api, user) == UNTOUCHED


async def test_a_deleted_or_unknown_user_has_no_settings(api: ChatApi) -> None:
    user = await api.user()
    await api.send("DELETE", of_user(user))
    for path in (of_user(user), of_user({"id": "nobody"}), of_user({"id": "a!b"})):
        refused(await api.send("GET", f"{path}/settings"), 404, "user_not_found")
        changes = {"presence": "hidden"}
        answer = await api.send("PATCH", f"{path}/settings", json=changes)
        refused(answer, 404, "user_not_found")
