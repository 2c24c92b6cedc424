"""The API, by the client that others use, and by one that tries everything the description allows."""

import asyncio
import base64
import io
import json
import time
import warnings
from dataclasses import replace
from socket import SHUT_RDWR

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")
pytest.importorskip("openai", reason="the client is in the extra `dev`")
pytest.importorskip("schemathesis", reason="it is in the extra `dev`")

import openai
import schemathesis

from selfflow.serve import openai_images
from selfflow.serve.app import build
from selfflow.serve.making import Made, Wish
from serve_toys import CAREFREE, live, png, served, tiny_server


@pytest.fixture(scope="module")
def address():
    with live(build(tiny_server())) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(api_key="none", base_url=f"{address}/v1", max_retries=0) as client:
        yield client


def opened(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.b64_json))))


QUICK = {"num_inference_steps": 2, "seed": 7}


def test_the_model_is_listed(client):
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "selfflow"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.models.retrieve("gpt")


def test_pictures_are_generated_in_whole_cells_and_by_seed(client):
    found = client.images.generate(prompt="red", n=2, size="17x30", model="tiny", extra_body=QUICK)
    assert (found.size, found.output_format) == ("16x32", "png")
    assert found.notes == ["size 17x30 was rounded to 16x32, whole cells of 8"]
    assert [d.seed for d in found.data] == [7, 8]
    assert opened(found.data[0]).shape == (32, 16, 3)
    again = client.images.generate(prompt="red", size="16x32", extra_body=QUICK | {"seed": 8})
    assert again.notes == []
    assert np.array_equal(opened(again.data[0]), opened(found.data[1]))
    assert not np.array_equal(opened(again.data[0]), opened(found.data[0]))


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_pictures_come_in_other_formats(client, kind):
    found = client.images.generate(prompt="red", output_format=kind, extra_body=QUICK)
    data = base64.b64decode(found.data[0].b64_json)
    assert Image.open(io.BytesIO(data)).format == kind.upper()


def test_partial_pictures_stream_and_end_with_the_whole(client):
    body = {"num_inference_steps": 6, "seed": 7}
    events = list(client.images.generate(prompt="red", stream=True, partial_images=2, extra_body=body))
    assert [e.type.partition(".")[2] for e in events] == ["partial_image", "partial_image", "completed"]
    assert [e.partial_image_index for e in events[:2]] == [0, 1]
    whole = client.images.generate(prompt="red", extra_body=body)
    assert events[-1].b64_json == whole.data[0].b64_json
    assert events[-1].size == "16x16"


def test_pictures_are_edited_composed_and_painted_anew(client):
    one, two = ("a.png", png(16, 24, 1)), ("b.png", png(16, 16, 2))
    found = client.images.edit(image=one, prompt="blue", extra_body=QUICK)
    assert found.size == "24x16" or found.size == "16x8"  # its own, within what the model was taught
    assert opened(client.images.edit(image=[one, two], prompt="blue", size="16x16", extra_body=QUICK).data[0]).any()
    mask = np.full((16, 16, 4), 255, np.uint8)
    mask[:8, :8, 3] = 0  # transparent: paint here
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    before = np.asarray(Image.open(io.BytesIO(two[1])))
    for hole in (("m.png", buffer.getvalue()), ("m.png", _white(mask[..., 3] == 0))):
        after = opened(client.images.edit(image=two, mask=hole, prompt="blue", extra_body=QUICK).data[0])
        assert np.array_equal(after[8:], before[8:])
        assert np.array_equal(after[:8, 8:], before[:8, 8:])
        assert not np.array_equal(after[:8, :8], before[:8, :8])
    free = [
        opened(client.images.edit(image=two, prompt="blue", extra_body=QUICK | {"reference_guidance": g}).data[0])
        for g in (0, 1)
    ]
    assert not np.array_equal(*free)  # 0 is a guidance, not none
    events = list(client.images.edit(image=two, prompt="x", stream=True, partial_images=1, extra_body=QUICK))
    assert [e.type for e in events] == ["image_edit.partial_image", "image_edit.completed"]


def _white(where):
    buffer = io.BytesIO()
    Image.fromarray(where.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("wish", "error", "param", "words"),
    [
        ({"n": 9}, openai.BadRequestError, "n", "choose 1 to 8"),
        ({"size": "big"}, openai.BadRequestError, "size", "WIDTHxHEIGHT"),
        ({"size": "9999x9999"}, openai.APIStatusError, "width", "at most 65536"),
        ({"model": "dall-e-3"}, openai.NotFoundError, "model", "there is 'tiny'"),
        ({"response_format": "url"}, openai.BadRequestError, "response_format", "b64_json"),
        ({"extra_body": {"num_inference_steps": 0}}, openai.BadRequestError, "steps", "0 steps"),
        ({"extra_body": {"choices": 17}}, openai.BadRequestError, "choices", "17 choices"),
        ({"prompt": "x" * 3000}, openai.APIStatusError, "prompt", "3000 characters"),
        ({"n": 9, "stream": True}, openai.BadRequestError, "n", "choose 1 to 8"),
    ],
)
def test_errors_are_the_client_s_own(client, wish, error, param, words):
    with pytest.raises(error) as raised:
        client.images.generate(**({"prompt": "red"} | wish))
    assert (raised.value.param, words in str(raised.value)) == (param, True)


def test_words_become_a_sound(client):
    said = client.audio.speech.create(model="tiny", voice="any", input="red", response_format="wav", extra_body=QUICK)
    import wave

    with wave.open(io.BytesIO(said.content)) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 12_800)


def test_clips_are_made_in_the_background(client):
    pytest.importorskip("av", reason="mp4 needs the extra `video`")
    from selfflow.worlds.tabletop.export.video import read_mp4

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of OpenAI's own service
        video = client.videos.create(prompt="red", seconds="0.4", input_reference=("a.png", png()), extra_body=QUICK)
        assert (video.object, video.seconds, video.size) == ("video", "0.4", "16x16")
        video = client.videos.poll(video.id, poll_interval_ms=20)
        assert (video.status, video.progress) == ("completed", 100)
        frames, fps, sound, _ = read_mp4(io.BytesIO(client.videos.download_content(video.id).content))
        assert (frames.shape, round(fps), sound is None) == ((8, 16, 16, 3), 20, False)
        assert [v.id for v in client.videos.list()] == [video.id]
        assert client.videos.delete(video.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(video.id)
        with pytest.raises(openai.BadRequestError, match=r"equal to 3\.2", check=lambda e: e.param == "seconds"):
            client.videos.create(prompt="red", seconds="12")


def test_a_list_of_clips_is_paged_through(client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = [client.videos.create(prompt="red", seconds="0.1", extra_body=QUICK).id for _ in range(3)]
        assert [v.id for v in client.videos.list(limit=1)] == made[::-1]
        assert [v.id for v in client.videos.list(limit=2, order="asc")] == made
        assert [v.id for v in client.videos.list(after=made[0], order="asc")] == made[1:]
        with pytest.raises(openai.NotFoundError, match="no video 'video_x'"):
            client.videos.list(after="video_x")
        for id in made:
            client.videos.delete(id)


def test_a_guess_of_the_next_picture_is_not_sent_as_one_of_this(monkeypatch):
    """The client reads slowly: when it takes the end of the first picture, the second is under way."""
    jobs, server = [], tiny_server()
    monkeypatch.setattr(server.worker, "submit", lambda channel, job: jobs.append(job))
    monkeypatch.setattr(openai_images, "channel_of", lambda request, server: None)
    wishes = [Wish("picture", seed=seed, steps=4) for seed in (1, 2)]
    made = Made(np.zeros((8, 8, 3), np.uint8))

    async def told():
        events = openai_images._events(None, server, wishes, 1, "png", "image")
        await anext(events)
        jobs[0].show(made, 2, 4)
        first = await anext(events)
        jobs[0].result.set_result(made)
        jobs[1].show(made, 2, 4)
        jobs[1].result.set_result(made)
        await asyncio.sleep(0)
        return [first, *[event async for event in events]]

    kinds = [event.split(b"\n")[0] for event in asyncio.run(told())]
    assert kinds == [b"event: image.partial_image", b"event: image.completed"] * 2


def test_how_long_is_said_in_seconds(client, address):
    with pytest.raises(openai.BadRequestError, match=r"equal to 3\.2", check=lambda e: e.param == "seconds"):
        client.audio.speech.create(model="tiny", voice="any", input="red", extra_body={"seconds": 3.3})
    described = httpx.get(f"{address}/openapi.json").json()
    form = described["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    speech = described["components"]["schemas"]["SpeechFields"]["properties"]["seconds"]["anyOf"][0]
    assert [s["maximum"] for s in (form["properties"]["seconds"], speech)] == [3.2, 3.2]
    with served(tiny_server(limits=replace(CAREFREE, frames=10))) as strict:
        refused = strict.post("/v1/audio/speech", json={"input": "red", "seconds": 1}).json()["error"]
        assert (refused["param"], refused["message"]) == ("seconds", "1 seconds; at most 0.5 are made")


def test_the_pages_that_people_read(address):
    docs = httpx.get(f"{address}/docs").text
    assert "/v1/images/generations" in docs
    assert "http" not in docs.replace("http-equiv", "")  # nothing from elsewhere
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok", "model": "tiny"}


def test_who_hangs_up_in_the_middle_leaves_nothing_behind(address, caplog):
    from websockets.sync.client import connect

    job = {"type": "job", "id": 1, "task": "clip", "prompt": "red", "steps": 100, "frames": 16}
    for path, wish in (("studio", job), ("world", {"type": "start", "world": "tabletop"})):
        with connect(f"{address.replace('http', 'ws')}/ws/{path}") as socket:
            assert json.loads(socket.recv())["type"] == "ready"
            socket.send(json.dumps(wish))
            socket.recv()
            socket.socket.shutdown(SHUT_RDWR)  # no goodbye

    def left():
        text = httpx.get(f"{address}/metrics").text
        return [n for n in ("selfflow_busy 0.0", '"/ws/studio"} 0.0', '"/ws/world"} 0.0') if n not in text]

    end = time.monotonic() + 20
    while left() and time.monotonic() < end:
        time.sleep(0.05)
    assert left() == []
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


# Everything that the description allows, a little of each; no answer may be a fault of the server's.


@pytest.fixture(scope="module")
def operations(address):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    assert len(found) > 15
    return found


# The server is a thread of this process: what it draws at random while a case is drawn is no fault of the case.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.data())
def test_no_request_breaks_the_server(operations, data):
    case = data.draw(data.draw(st.sampled_from(operations)).as_strategy())
    for name in ("num_inference_steps", "n"):  # what is asked for may be long, but not here
        if isinstance(case.body, dict) and isinstance(case.body.get(name), int):
            case.body[name] = min(case.body[name], 2)
    answer = case.call()
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
