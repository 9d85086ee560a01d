"""The broker as tutorials write it: FastAPI, an httpx client, PyJWT, dictionaries in and out."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

UPSTREAM = os.environ["UPSTREAM"]
ROOMS = f"{UPSTREAM}/api/v1/projects/project-1/rooms"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests."""
    async with httpx.AsyncClient(headers={"X-API-Key": os.environ["API_KEY"]}) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def who(authorization: Annotated[str, Header()] = "") -> str:
    """The `sub` of the app's token."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "not authenticated")
    try:
        claims = jwt.decode(
            token,
            os.environ["APP_SECRET"],
            algorithms=["HS256"],
            issuer=os.environ["ISSUER"],
            audience=os.environ["AUDIENCE"],
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "bad token") from error
    return str(claims["sub"])


class Draft(BaseModel):
    """A message to be."""

    content: str


@app.get("/chat/rooms/{room_id}/messages")
async def list_messages(room_id: str, me: Annotated[str, Depends(who)]) -> Any:  # noqa: ARG001 - as tutorials do
    """The room's page, as upstream has it."""
    answer = await app.state.client.get(f"{ROOMS}/{room_id}/messages")
    if answer.status_code != 200:
        raise HTTPException(answer.status_code)
    return answer.json()


@app.post("/chat/rooms/{room_id}/messages", status_code=201)
async def post_message(room_id: str, draft: Draft, me: Annotated[str, Depends(who)]) -> Any:
    """Say *draft* as the caller."""
    answer = await app.state.client.post(
        f"{ROOMS}/{room_id}/messages", json={"content": draft.content, "user_id": f"u-{me}"}
    )
    if answer.status_code != 201:
        raise HTTPException(answer.status_code)
    return answer.json()


@app.get("/chat/verify")
async def verify(authorization: Annotated[str, Header()] = "") -> Any:
    """What upstream says of the chat token."""
    answer = await app.state.client.get(
        f"{UPSTREAM}/api/v1/auth/verify", headers={"Authorization": authorization}
    )
    return answer.json()


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", backlog=1024
    )
