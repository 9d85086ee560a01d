"""The caller's settings and blocks, and the directory of users."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from chat_broker.api.dependencies import (
    BodyOf,
    Me,
    MeWriting,
    NoQuery,
    PageWanted,
    ReadQuery,
    TheBroker,
    UserReference,
)
from chat_broker.api.openapi import PAGE, PageOf, describe, parameter
from chat_broker.api.people_requests import (
    LONGEST_NAME,
    MOST_FOUND,
    NameQuery,
    SettingsEdit,
    read_name_query,
)
from chat_broker.api.requests import Nothing
from chat_broker.api.responses import as_json, nothing
from chat_broker.chat import people_views, views

router = APIRouter(tags=["people"])

Edit = Annotated[SettingsEdit, Depends(BodyOf(SettingsEdit))]
Empty = Annotated[Nothing, Depends(BodyOf(Nothing, optional=True))]
Name = Annotated[NameQuery, Depends(ReadQuery(read_name_query))]


@router.get("/me/settings", **describe(answer=people_views.SettingsView))
async def get_settings(me: Me, _: NoQuery, broker: TheBroker) -> Response:
    """What the caller has set: whether they are seen, and what they are notified of."""
    return as_json(people_views.settings(await broker.people.settings(me)))


@router.patch("/me/settings", **describe(body=SettingsEdit, answer=people_views.SettingsView))
async def update_settings(me: MeWriting, edit: Edit, broker: TheBroker) -> Response:
    """Change the caller's settings; what is left out stays."""
    return as_json(people_views.settings(await broker.people.update_settings(me, edit.changes())))


@router.get("/me/blocks", **describe(answer=PageOf(people_views.PublicUserView), parameters=PAGE))
async def list_blocks(me: Me, window: PageWanted, broker: TheBroker) -> Response:
    """Whom the caller blocks."""
    page = await broker.people.blocks(me, page=window.page, limit=window.limit)
    return as_json(views.page(page, [people_views.public_user(one) for one in page.items]))


# `:path`, because an external id may hold a slash.
@router.put("/me/blocks/{user:path}", **describe(status=204))
async def block(user: UserReference, me: MeWriting, _: Empty, broker: TheBroker) -> Response:
    """Block a user, who is not told."""
    await broker.people.block(me, user)
    return nothing()


@router.delete("/me/blocks/{user:path}", **describe(status=204))
async def unblock(user: UserReference, me: MeWriting, _: Empty, broker: TheBroker) -> Response:
    """End the caller's block of a user, if there is one."""
    await broker.people.unblock(me, user)
    return nothing()


@router.get(
    "/users",
    **describe(
        answer=people_views.FoundView,
        parameters=[
            parameter(
                "q",
                {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
                "The beginning of a username or display name",
            ),
            parameter(
                "limit", {"type": "integer", "minimum": 1, "maximum": MOST_FOUND}, "20 unless told"
            ),
        ],
    ),
)
async def find_users(me: Me, wanted: Name, broker: TheBroker) -> Response:
    """Users whose names begin with `q`, if the operator has switched the directory on."""
    return as_json(people_views.found(await broker.people.find(me, wanted.q, wanted.limit)))
