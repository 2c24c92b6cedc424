"""What clients of the studio send over the WebSockets, checked field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from selfflow.serve.limits import Refused

TASKS = (
    "picture", "edit", "inpaint", "outpaint", "clip", "clip+sound", "sound", "animate", "animate+sound", "dub",
    "continue",
)  # fmt: skip
TaskName = Literal[
    "picture", "edit", "inpaint", "outpaint", "clip", "clip+sound", "sound", "animate", "animate+sound", "dub",
    "continue",
]  # fmt: skip
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=0, lt=2**53)]


class Message(BaseModel):
    """Fields are of exactly their type; what is unknown is ignored, so that newer clients can talk to older servers."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Reference(Message):
    """A picture to go by."""

    hash: Hash
    on: bool = True


class JobMessage(Message):
    """Something to make. See `docs/serve.md`."""

    type: Literal["job"]
    id: Number
    task: TaskName
    prompt: str = ""
    seed: Number = 0
    steps: int | None = None
    guidance: float | None = None
    reference_guidance: float = 1.0
    choices: int = 1
    width: int | None = None
    height: int | None = None
    references: list[Reference] = Field(default=[], max_length=64)
    source: Hash | None = None
    mask: Hash | None = None
    frames: int = 16
    fps: float = 20.0
    parent: Annotated[str, Field(max_length=64)] | None = None
    preview: bool = False


class Keep(Message):
    type: Literal["keep"]
    id: Number


class Cancel(Message):
    type: Literal["cancel"]


class Ping(Message):
    type: Literal["ping"]
    at: float | str | None = None


class WorldStart(Message):
    type: Literal["start"]
    world: Annotated[str, Field(max_length=32)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    instruction: Annotated[str, Field(max_length=2000)] | None = None


class Action(Message):
    type: Literal["action"]
    action: Annotated[list[float], Field(max_length=32)]


class Keys(Message):
    type: Literal["keys"]
    keys: Annotated[list[Annotated[str, Field(max_length=32)]], Field(max_length=16)]


class PolicyStart(Message):
    type: Literal["policy"]
    env: Literal["pick-place", "stack", "put-in", "push-to"]
    instruction: Annotated[str, Field(max_length=2000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Stop(Message):
    type: Literal["stop"]


Studio = Annotated[JobMessage | Keep | Cancel | Ping, Field(discriminator="type")]
World = Annotated[WorldStart | Action | Keys | PolicyStart | Stop | Ping, Field(discriminator="type")]
STUDIO: TypeAdapter[Any] = TypeAdapter(Studio)
WORLD: TypeAdapter[Any] = TypeAdapter(World)


def parse(kind: TypeAdapter[Any], text: str) -> Any:
    """The message in a text.

    Raises:
        Refused: naming the first field that is wrong.
    """
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused("bad_request", f"{where}: {first['msg']}" if where else first["msg"], where or None) from None
