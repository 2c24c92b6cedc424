"""`/v1/models`, `/v1/audio/speech` and `/v1/videos`, as OpenAI's clients expect them."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from itertools import dropwhile
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from selfflow.serve.asking import ApiJob, answered, channel_of
from selfflow.serve.jobs import Channel
from selfflow.serve.limits import Limits, Refused
from selfflow.serve.making import Made, Wish, check
from selfflow.serve.media import read_picture, whole_cells
from selfflow.serve.openai_images import Seed, _bytes, check_model, fields, form, size_asked
from selfflow.serve.state import Server

FPS = 20.0  # of clips and of the grid that sounds are measured on
MOST_VIDEOS = 64  # that are remembered
MOST_SECONDS = Limits.frames / FPS
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS)]
VideoId = Annotated[str, Path(pattern="^video_[0-9a-f]{16}$")]


class SpeechFields(BaseModel):
    """What makes a sound. `voice`, `speed` and `instructions` are ignored: the words say it all."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    input: str
    model: str | None = None
    response_format: Literal["wav"] | None = None
    seconds: Seconds | None = None
    seed: Seed | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


class VideoFields(BaseModel):
    """What makes a clip, beside `input_reference`, the picture it begins with."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str
    model: str | None = None
    seconds: Seconds | None = None
    size: str | None = None
    sound: bool | None = Field(None, description="with sound, where the model can; true by default")
    seed: Seed | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


@dataclass
class Video:
    """A clip that is being made, or was."""

    id: str
    model: str
    prompt: str
    size: str
    seconds: str
    job: ApiJob
    channel: Channel
    created: int = field(default_factory=lambda: int(time.time()))
    progress: int = 0
    completed: int | None = None
    data: bytes | None = None
    error: Refused | None = None
    notes: list[str] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        status = "failed" if self.error else "completed" if self.data else "in_progress" if self.progress else "queued"
        error = {"code": self.error.code, "message": self.error.message} if self.error else None
        return {
            "id": self.id, "object": "video", "model": self.model, "status": status, "progress": self.progress,
            "created_at": self.created, "completed_at": self.completed, "expires_at": None, "prompt": self.prompt,
            "size": self.size, "seconds": self.seconds, "error": error, "remixed_from_video_id": None,
            "notes": self.notes,
        }  # fmt: skip


def routes(server: Server) -> APIRouter:
    """The routes under `/v1` that have nothing to do with pictures."""
    router = APIRouter(prefix="/v1", tags=["api"])
    videos: OrderedDict[str, Video] = OrderedDict()
    started = int(time.time())
    model = {"id": server.model.name, "object": "model", "created": started, "owned_by": "selfflow"}
    problems: dict[int | str, dict[str, Any]] = {400: {}, 404: {}, 413: {}, 429: {}, 503: {}}

    @router.get("/models")
    def models() -> dict[str, Any]:
        """The model there is."""
        return {"object": "list", "data": [model]}

    @router.get("/models/{name}", responses={404: {}})
    def one_model(name: str) -> dict[str, Any]:
        """The model of that name."""
        check_model(name, server)
        return model

    @router.post("/audio/speech", responses=problems, response_class=Response)
    async def speech(request: Request, asked: SpeechFields) -> Response:
        """A sound from words, as wav."""
        check_model(asked.model, server)
        _needs("sound", server)
        seconds = asked.seconds or server.model.pipe.config.data.seconds
        wish = Wish(
            "sound", asked.input, _seed(asked.seed), asked.num_inference_steps, asked.guidance_scale,
            frames=_frames(seconds, server), fps=FPS,
        )  # fmt: skip
        made = (await answered(request, server, [wish]))[0]
        return Response(made.parts(final=True)[0].data, media_type="audio/wav", headers={"x-seed": str(wish.seed)})

    @router.post("/videos", responses=problems, openapi_extra={"requestBody": _VIDEO_BODY})
    async def create(request: Request) -> dict[str, Any]:
        """Begin a clip; ask for its state with GET /v1/videos/{id}."""
        first = None
        async with form(request, server) as found:
            asked = fields(VideoFields, found)
            upload = found.get("input_reference")
            if isinstance(upload, UploadFile):
                cell, area = server.model.pipe.modalities.cell, server.model.pipe.config.picture.size**2
                first = await server.decoded(
                    lambda: whole_cells(read_picture(_bytes(upload, server), server.limits), cell, area)
                )
        return _begin(request, asked, first).body()

    def _begin(request: Request, asked: VideoFields, first: np.ndarray | None) -> Video:
        check_model(asked.model, server)
        task = "clip" if first is None else "animate"
        _needs(task, server)
        if asked.sound is not False and f"{task}+sound" in server.model.tasks:
            task += "+sound"
        config = server.model.pipe.config
        frames = config.data.frames if asked.seconds is None else _frames(asked.seconds, server)
        size, notes = size_asked(asked.size, server)
        height, width = size or ((config.picture.size,) * 2 if first is None else first.shape[:2])
        wish = Wish(
            task, asked.prompt, _seed(asked.seed), asked.num_inference_steps, asked.guidance_scale, height=height,
            width=width, source=first, frames=frames, fps=FPS,
        )  # fmt: skip
        check(wish, server.model.pipe, server.limits)
        job = ApiJob(server, wish, progress=lambda step, steps: _progress(video, step, steps))
        channel = channel_of(request, server)
        video = Video(
            f"video_{secrets.token_hex(8)}", server.model.name, asked.prompt, f"{width}x{height}",
            f"{frames / FPS:g}", job, channel, notes=notes,
        )  # fmt: skip
        server.worker.submit(channel, job)
        job.result.add_done_callback(partial(_finished, video))
        videos[video.id] = video
        while len(videos) > MOST_VIDEOS:
            videos.popitem(last=False)[1].job.stop = True
        return video

    def _found(id: str) -> Video:
        if id not in videos:
            raise Refused("not_found", f"there is no video {id[:64]!r}; the last {MOST_VIDEOS} are remembered")
        return videos[id]

    @router.get("/videos", responses={404: {}})
    def listed(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        """The clips of late, newest first unless `order` says otherwise; those behind `after`, if it is named."""
        found = list(videos.values())[:: 1 if order == "asc" else -1]
        if after:
            last = _found(after)
            found = list(dropwhile(lambda video: video is not last, found))[1:]
        data = [video.body() for video in found[:limit]]
        ids = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return {"object": "list", "data": data, "has_more": len(found) > limit, **ids}

    @router.get("/videos/{id}", responses={404: {}})
    def state(id: VideoId) -> dict[str, Any]:
        """How far it is."""
        return _found(id).body()

    @router.get("/videos/{id}/content", responses={404: {}, 409: {}}, response_class=Response)
    def content(id: VideoId) -> Response:
        """The clip as mp4."""
        video = _found(id)
        if video.error is not None:
            e = video.error  # another each time: what is raised gathers traces, where the framework leaves them on it
            raise Refused(e.code, e.message, e.param, e.status)
        if video.data is None:
            raise Refused("bad_request", f"{id} is not completed; ask for its state until it is", status=409)
        return Response(video.data, media_type="video/mp4")

    @router.delete("/videos/{id}", responses={404: {}})
    def delete(id: VideoId) -> dict[str, Any]:
        """Stop it, or forget it."""
        _found(id).job.stop = True
        del videos[id]
        return {"id": id, "object": "video.deleted", "deleted": True}

    return router


_VIDEO_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["prompt"],
                "properties": {
                    "prompt": {"type": "string"}, "input_reference": {"type": "string", "format": "binary"},
                    "model": {"type": "string"}, "size": {"type": "string"},
                    "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_SECONDS},
                    "sound": {"type": "boolean"}, "seed": {"type": "integer"},
                    "num_inference_steps": {"type": "integer"}, "guidance_scale": {"type": "number"},
                },
            }
        }
    },
}  # fmt: skip


def _needs(task: str, server: Server) -> None:
    if task not in server.model.tasks:
        raise Refused("bad_request", f"this model makes no {task}; it makes {', '.join(server.model.tasks)}", "model")


def _frames(seconds: float, server: Server) -> int:
    most = server.limits.frames / FPS
    if seconds > most:
        raise Refused("bad_request", f"{seconds:g} seconds; at most {most:g} are made", "seconds")
    return max(1, round(seconds * FPS))


def _seed(seed: int | None) -> int:
    return secrets.randbelow(2**31) if seed is None else seed


def _progress(video: Video, step: int, steps: int) -> None:
    video.progress = min(99, max(1, 100 * step // steps))


def _finished(video: Video, result: Any) -> None:
    """On the model's thread: the clip becomes a file."""
    from selfflow.worlds.tabletop.export.video import mp4_bytes

    try:
        made: Made = result.result()
        assert made.clip is not None
        sound = None if made.sound is None else np.clip(np.nan_to_num(made.sound), -1, 1)
        video.data = mp4_bytes(made.clip, round(made.fps), sound, made.rate or 16_000)
        video.progress, video.completed = 100, int(time.time())
    except Refused as error:
        video.error = error
    except ImportError as error:
        video.error = Refused("internal", str(error))
    except Exception:
        video.error = Refused("internal", "the clip could not be written")
