"""`/v1/images/generations` and `/v1/images/edits`, as OpenAI's clients expect them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from selfflow.serve.asking import ApiJob, answered, channel_of
from selfflow.serve.limits import Refused
from selfflow.serve.making import Made, Wish, check, steps_of
from selfflow.serve.media import picture_bytes, read_mask, read_picture, whole_cells
from selfflow.serve.security import error_body, refusal
from selfflow.serve.state import Server, receiving

Seed = Annotated[int, Field(ge=0, lt=2**53)]
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


class ImageFields(BaseModel):
    """What both endpoints take; fields of OpenAI's that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str
    model: str | None = None
    n: int | None = None
    size: str | None = Field(None, description="WIDTHxHEIGHT, rounded to whole cells of the model, or auto")
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    seed: Seed | None = Field(None, description="of the first picture; the others follow")
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    choices: int | None = Field(None, description="draws of each picture, of which the likeliest is kept")


class EditFields(ImageFields):
    """What an edit takes beside its files."""

    reference_guidance: float | None = None


class ImageData(BaseModel):
    """One picture."""

    b64_json: str
    seed: int


class ImagesResponse(BaseModel):
    """All pictures, and what was made of the request where it was not taken literally."""

    created: int
    data: list[ImageData]
    size: str
    output_format: str
    notes: list[str] = []


def routes(server: Server) -> APIRouter:
    """The routes under `/v1/images`."""
    router = APIRouter(prefix="/v1/images", tags=["api"])
    problems: dict[int | str, dict[str, Any]] = {400: {}, 404: {}, 413: {}, 429: {}, 503: {}}

    @router.post("/generations", response_model=ImagesResponse, responses=problems)
    async def generations(request: Request, asked: ImageFields) -> Response:
        """Draw pictures; with `stream`, as server-sent events with guesses on the way."""
        size, notes = size_asked(asked.size, server)
        return await _respond(
            request, server, asked, _wishes(server, asked, "picture", size), notes, "image_generation"
        )

    @router.post("/edits", response_model=ImagesResponse, responses=problems, openapi_extra={"requestBody": _EDIT_BODY})
    async def edits(request: Request) -> Response:
        """Change a picture, compose one from up to ten (`image` or `image[]`), or with `mask` paint a part anew: where
        the mask is transparent, or white if it has no transparency."""
        async with form(request, server) as found:
            asked = fields(EditFields, found)
            pictures, mask = await server.decoded(_pictures, found, server)
        size, notes = size_asked(asked.size, server)
        given: dict[str, Any] = {}
        if asked.reference_guidance is not None:
            given["reference_guidance"] = asked.reference_guidance
        if size is None:
            size = pictures[0].shape[:2]
        if mask is None:
            wishes = _wishes(server, asked, "edit", size, references=tuple(pictures), **given)
        elif len(pictures) == 1:
            wishes = _wishes(server, asked, "inpaint", size, source=pictures[0], mask=mask, **given)
        else:
            raise Refused("bad_request", f"a mask goes with one image, not with {len(pictures)}", "mask")
        return await _respond(request, server, asked, wishes, notes, "image_edit")

    return router


_EDIT_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["prompt", "image"],
                "properties": {
                    "prompt": {"type": "string"},
                    "image": {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": 10},
                    "mask": {"type": "string", "format": "binary"},
                    **{name: {"type": "integer"} for name in ("n", "seed", "num_inference_steps", "choices")},
                    "partial_images": {"type": "integer"},
                    **{name: {"type": "number"} for name in ("guidance_scale", "reference_guidance")},
                    "size": {"type": "string"}, "stream": {"type": "boolean"},
                    "output_format": {"enum": ["png", "jpeg", "webp"]}, "response_format": {"enum": ["b64_json"]},
                },
            }
        }
    },
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ requests


def check_model(name: str | None, server: Server) -> None:
    """There is one model; to ask for another is an error."""
    if name not in (None, "", server.model.name):
        raise Refused("not_found", f"there is no model {name[:64]!r} here; there is {server.model.name!r}", "model")


def size_asked(text: str | None, server: Server) -> tuple[tuple[int, int] | None, list[str]]:
    """Height and width in whole cells, or None for auto; and a note where that is not what was asked for.

    Raises:
        Refused: for a text that is no size.
    """
    if text in (None, "", "auto"):
        return None, []
    found = _SIZE.fullmatch(text or "")
    if found is None:
        raise Refused("bad_request", f"size {text[:32]!r}; say WIDTHxHEIGHT, such as 64x64, or auto", "size")  # type: ignore[index]
    cell = server.model.pipe.modalities.cell
    width, height = (max(1, round(int(side) / cell)) * cell for side in found.groups())
    rounded = f"{width}x{height}"
    return (height, width), [] if rounded == text else [f"size {text} was rounded to {rounded}, whole cells of {cell}"]


def _wishes(server: Server, asked: ImageFields, task: str, size: tuple[int, int] | None, **given: Any) -> list[Wish]:
    check_model(asked.model, server)
    count = 1 if asked.n is None else asked.n
    if not 1 <= count <= server.limits.batch:
        raise Refused("bad_request", f"n is {count}; choose 1 to {server.limits.batch}", "n")
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    height, width = size or (None, None)
    return [
        Wish(
            task, asked.prompt, seed + i, asked.num_inference_steps, asked.guidance_scale, height=height, width=width,
            choices=1 if asked.choices is None else asked.choices, **given,
        )
        for i in range(count)
    ]  # fmt: skip


class form:
    """The fields and files of a multipart request, closed in the end."""

    def __init__(self, request: Request, server: Server) -> None:
        self.request, self.server = request, server

    async def __aenter__(self) -> FormData:
        try:
            async with receiving(self.server):
                self.found = await self.request.form(max_files=12, max_fields=64, max_part_size=64 << 10)
        except HTTPException as error:
            raise refusal(error) from None
        return self.found

    async def __aexit__(self, *error: object) -> None:
        await self.found.close()


def fields(kind: type[Any], found: FormData) -> Any:
    """The text fields of a form as a model of them. Raises `Refused`."""
    try:
        return kind.model_validate({k: v for k, v in found.multi_items() if isinstance(v, str) and v != ""})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused("bad_request", f"{where}: {first['msg']}", where) from None


def _pictures(found: FormData, server: Server) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The pictures, scaled to the size the model was taught at, and the mask, if any.

    A mask of its picture's size is scaled and cut as the picture is, so that it lies where it was painted.
    """
    cell, area = server.model.pipe.modalities.cell, server.model.pipe.config.picture.size**2
    files = [v for name in ("image", "image[]") for v in found.getlist(name)]
    uploads = [v for v in files if isinstance(v, UploadFile)]
    if not uploads or len(uploads) != len(files):
        raise Refused("bad_request", "give image (or image[]) as a file, once or up to ten times", "image")
    if len(uploads) > server.limits.references:
        raise Refused("too_large", f"{len(uploads)} images; at most {server.limits.references}", "image")
    pictures, shapes = list[np.ndarray](), list[tuple[int, ...]]()
    for file in uploads:
        picture = read_picture(_bytes(file, server), server.limits)
        shapes.append(picture.shape[:2])
        pictures.append(whole_cells(picture, cell, area))
    given = found.get("mask")
    if given is None or given == "":
        return pictures, None
    if not isinstance(given, UploadFile):
        raise Refused("bad_request", "give mask as a file", "mask")
    mask = read_mask(_bytes(given, server), server.limits)
    return pictures, whole_cells(mask, cell, area) if mask.shape == shapes[0] else mask


def _bytes(file: UploadFile, server: Server) -> bytes:
    data = file.file.read(server.limits.upload_bytes + 1)
    if len(data) > server.limits.upload_bytes:
        raise Refused("too_large", f"a file of more than {server.limits.upload_bytes} bytes")
    return data


# ------------------------------------------------------------------------------------------------------------- answers


async def _respond(
    request: Request, server: Server, asked: ImageFields, wishes: list[Wish], notes: list[str], kind: str
) -> Response:
    suffix = asked.output_format or "png"
    for wish in wishes:
        check(wish, server.model.pipe, server.limits)
    if asked.stream:
        events = _events(request, server, wishes, asked.partial_images or 0, suffix, kind)
        first = await anext(events)  # what is refused at once is refused with its status
        return StreamingResponse(_after(first, events), media_type="text/event-stream")
    made = await answered(request, server, wishes)
    data = [ImageData(b64_json=_encoded(m, suffix), seed=wish.seed) for m, wish in zip(made, wishes, strict=True)]
    body = ImagesResponse(created=int(time.time()), data=data, size=_size(made[0]), output_format=suffix, notes=notes)
    return Response(body.model_dump_json(), media_type="application/json")


async def _events(
    request: Request, server: Server, wishes: list[Wish], partials: int, suffix: str, kind: str
) -> AsyncIterator[bytes]:
    """Server-sent events, one picture after the other. A comment comes first, once the request is in the queue."""
    channel, loop = channel_of(request, server), asyncio.get_running_loop()
    # Guesses of each picture by themselves, at most `partials`: the next may be begun while the last is being sent.
    jobs = list[tuple[ApiJob, asyncio.Queue[tuple[int, Made]]]]()
    for wish in wishes:
        steps = steps_of(wish, server.model.pipe)
        at = {max(1, steps * (i + 1) // (partials + 1)) for i in range(partials)} - {steps}
        order, guesses = sorted(at), asyncio.Queue[tuple[int, Made]]()

        def show(made: Made, step: int, steps: int, order: list[int] = order, to: Any = guesses) -> None:
            loop.call_soon_threadsafe(to.put_nowait, (order.index(step), made))

        jobs.append((ApiJob(server, wish, show, partial(_is_in, at)), guesses))
    try:
        for job, _ in jobs:
            server.worker.submit(channel, job)
        yield b": queued\n\n"
        for job, guesses in jobs:
            result = asyncio.wrap_future(job.result)
            while not (result.done() and guesses.empty()):
                waiting = asyncio.ensure_future(guesses.get())
                both: list[asyncio.Future[Any]] = [waiting, result]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    index, made = waiting.result()
                    yield _event(f"{kind}.partial_image", made, suffix, partial_image_index=index)
                else:
                    waiting.cancel()
            try:
                made = result.result()
            except Refused as error:
                yield f"event: error\ndata: {json.dumps(error_body(error))}\n\n".encode()
                return
            usage = {
                "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            }  # fmt: skip
            yield _event(f"{kind}.completed", made, suffix, usage=usage, seed=job.wish.seed)
    finally:
        for job, _ in jobs:
            job.stop = True


def _is_in(steps_shown: set[int], step: int, steps: int) -> bool:
    return step in steps_shown


async def _after(first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in events:
        yield event


def _event(kind: str, made: Made, suffix: str, **more: Any) -> bytes:
    body = {
        "type": kind, "b64_json": _encoded(made, suffix), "created_at": int(time.time()), "size": _size(made),
        "quality": "auto", "background": "opaque", "output_format": suffix, **more,
    }  # fmt: skip
    return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def _encoded(made: Made, suffix: str) -> str:
    assert made.picture is not None
    return base64.b64encode(picture_bytes(made.picture, suffix)).decode()


def _size(made: Made) -> str:
    assert made.picture is not None
    height, width = made.picture.shape[:2]
    return f"{width}x{height}"
