"""What the studio asks over HTTP: the model's facts, assets by hash, the history, downloads."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from selfflow.serve.limits import Refused
from selfflow.serve.live import pixels
from selfflow.serve.media import PICTURES, picture_bytes, read_picture, read_wav, whole_cells
from selfflow.serve.state import Server, receiving

Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
EntryId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}


class Uploaded(BaseModel):
    """What an upload became: a PNG or a wav under the hash of its bytes."""

    hash: str
    kind: str
    width: int
    height: int


class Entries(BaseModel):
    """A page of the history."""

    entries: list[dict[str, Any]]


def routes(server: Server, facts: dict[str, Any]) -> APIRouter:
    """The routes under `/api`."""
    router = APIRouter(prefix="/api", tags=["studio"])

    @router.get("/model")
    def model() -> dict[str, Any]:
        """Name, size, tasks, limits, worlds: what a client needs to know before it asks."""
        return facts

    @router.post(
        "/assets",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    kind: {"schema": {"type": "string", "format": "binary"}}
                    for kind in (*PICTURES.values(), "audio/wav")
                },
            }
        },
        responses={400: {}, 413: {}, 507: {}},
    )
    async def upload(request: Request) -> Uploaded:
        """Store a picture (PNG, JPEG, WebP) or a sound (16-bit wav). Pictures are scaled down to what the model can
        take in, cut to whole cells, and lose their metadata."""
        async with receiving(server):
            data = await request.body()
        if not data:
            raise Refused("bad_request", "an upload without a body; send the bytes of a picture or a sound")
        return await server.decoded(store_upload, server, data)

    @router.get("/assets/{hash}", responses={404: {}}, response_class=Response)
    def asset(hash: Hash) -> Response:
        """The bytes of that hash."""
        found = server.store.get(hash)
        return Response(found.data, media_type=found.mime, headers=FOREVER)

    @router.get("/history", responses={404: {}})
    def history(
        limit: Annotated[int, Query(ge=1, le=500)] = 100, before: Annotated[str | None, Query(max_length=64)] = None
    ) -> Entries:
        """What was kept, newest first; the page after an entry with `before`."""
        return Entries(entries=server.store.entries(limit, before))

    @router.delete("/history/{id}", status_code=204, responses={404: {}})
    def delete(id: EntryId) -> None:
        """Forget an entry."""
        server.store.delete(id)

    @router.get("/history/{id}/download", responses={404: {}}, response_class=Response)
    def download(id: EntryId, metadata: Annotated[int, Query(ge=0, le=1)] = 1) -> Response:
        """A kept result as a file: PNG (with its settings in text chunks), mp4 or wav."""
        entry = server.store.entry(id)
        data, mime, suffix = as_file(server, entry, bool(metadata))
        name = f'attachment; filename="selfflow-{id}.{suffix}"'
        return Response(data, media_type=mime, headers={"content-disposition": name})

    return router


def store_upload(server: Server, data: bytes) -> Uploaded:
    """Check, decode, cut to cells, store as PNG; a wav is stored as 16 bits of one channel.

    Raises:
        Refused: for anything else.
    """
    limits = server.limits
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        from selfflow.worlds.tabletop.export.video import wav_bytes

        sound, rate = read_wav(data, limits)
        about = {"kind": "sound", "rate": rate, "seconds": len(sound) / rate}
        return Uploaded(
            hash=server.store.put(wav_bytes(sound, rate), "audio/wav", about), kind="sound", width=0, height=0
        )
    picture = whole_cells(read_picture(data, limits), server.model.pipe.modalities.cell, limits.pixels)
    height, width = picture.shape[:2]
    about = {"kind": "picture", "width": width, "height": height}
    found = server.store.put(picture_bytes(picture), "image/png", about)
    return Uploaded(hash=found, kind="picture", width=width, height=height)


def as_file(server: Server, entry: dict[str, Any], metadata: bool) -> tuple[bytes, str, str]:
    """An entry as bytes, their type, and a suffix."""
    parts = {part["name"]: part for part in entry["parts"]}
    if "clip" in parts:
        from selfflow.worlds.tabletop.export.video import mp4_bytes

        clip = pixels(server.store.get(parts["clip"]["hash"]), server)
        sound, rate = None, 16_000
        if "sound" in parts:
            sound, rate = read_wav(server.store.get(parts["sound"]["hash"]).data, server.limits)
        return mp4_bytes(clip, round(parts["clip"]["fps"]), sound, rate), "video/mp4", "mp4"
    if "picture" in parts:
        asset = server.store.get(parts["picture"]["hash"])
        if not metadata:
            return asset.data, "image/png", "png"
        settings = entry["settings"]
        facts = {
            "prompt": settings["prompt"], "seed": str(settings["seed"]), "model": server.model.name,
            "settings": json.dumps({"task": entry["task"], **settings}), "software": "selfflow",
        }  # fmt: skip
        return picture_bytes(pixels(asset, server), "png", facts), "image/png", "png"
    return server.store.get(parts["sound"]["hash"]).data, "audio/wav", "wav"
