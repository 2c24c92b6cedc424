"""What the server refuses: files that harm, pages of others, too much at once; and what it never says."""

import io
import re
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")
from starlette.datastructures import FormData, UploadFile
from starlette.websockets import WebSocketDisconnect

import serve_toys
from selfflow.cli import main
from selfflow.serve import openai_images, openai_media, studio_api
from selfflow.serve.limits import Limits, Refused
from selfflow.serve.media import fitted, read_mask, read_picture, whole_cells
from selfflow.serve.security import HEADERS, Policy
from serve_toys import CAREFREE, WS, png, served, tiny_server, upload

client = pytest.fixture(scope="module")(serve_toys.client)


# ------------------------------------------------------------------------------------------------------ files that harm


def bomb(width, height):
    """A PNG of a few bytes that claims to be huge."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 400),
        (png(kind="GIF"), 400),
        (png()[:60], 400),
        (bomb(50_000, 50_000), 413),
        (bomb(2**31 - 1, 2**31 - 1), 413),
        (bomb(16, 16), 400),  # rows are missing
        (png(4, 4), 400),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", 400),
    ],
)
def test_what_is_no_picture_or_a_bomb_is_refused(client, data, status):
    answer = upload(client, data)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_pictures_are_pictures_or_refused(noise, place, kind):
    data = bytearray(png(kind=kind))
    data[place : place + len(noise)] = noise
    for read in (read_picture, read_mask):
        with suppress(Refused):
            assert read(bytes(data), CAREFREE).dtype in (np.uint8, bool)


def test_metadata_and_animation_are_left_behind(client):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("secret", "where I live")
    found = upload(client, png(pnginfo=info)).json()["hash"]
    assert b"where I live" not in client.get(f"/api/assets/{found}").content
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    found = upload(client, buffer.getvalue()).json()["hash"]
    with Image.open(io.BytesIO(client.get(f"/api/assets/{found}").content)) as image:
        assert (image.format, getattr(image, "n_frames", 1), image.getpixel((0, 0))) == ("PNG", 1, (255, 0, 0))


def test_pictures_are_cut_and_scaled_never_stretched():
    wide = np.zeros((40, 90, 3), np.uint8)
    wide[:, 45:] = 255
    assert whole_cells(wide, 8, 10**6).shape == (40, 88, 3)
    assert whole_cells(wide, 8, 900).shape == (16, 40, 3)
    square = fitted(wide, 16, 16)
    assert square[:, :7].max() < 40  # the middle stays in the middle
    assert square[:, 9:].min() > 215
    assert fitted(wide[..., 0] > 0, 16, 16).dtype == bool


def test_sounds_are_stored_as_wav_of_one_channel(client):
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full((100, 2), 1000, "<i2").tobytes())
    found = upload(client, buffer.getvalue(), "audio/wav").json()
    assert found["kind"] == "sound"
    with wave.open(io.BytesIO(client.get(f"/api/assets/{found['hash']}").content)) as file:
        assert (file.getnchannels(), file.getnframes(), file.getframerate()) == (1, 100, 8000)


# ------------------------------------------------------------------------------------------------------------- security


def test_every_answer_carries_the_headers_and_no_trace(client, monkeypatch):
    for path in ("/api/model", "/api/assets/" + "0" * 64, "/nowhere", "/api/history?limit=x", "/healthz", "/docs"):
        answer = client.get(path)
        assert {k: answer.headers[k] for k in HEADERS} == HEADERS, path
    assert "script" not in client.get("/docs").text
    store = client.app.state.server.store
    monkeypatch.setattr(store, "entries", lambda *_: 1 / 0)
    broken = client.get("/api/history")
    assert (broken.status_code, broken.json()["error"]["code"]) == (500, "internal")
    assert "ZeroDivision" not in broken.text


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://127.0.0.1:81"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"host": "evil.example"}, False),  # DNS rebinding
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, True),
        ({"host": "[::1]:7860"}, True),
    ],
)
def test_pages_of_others_may_not_use_the_server(client, headers, allowed):
    answer = client.post("/api/assets", content=png(), headers=headers)
    assert answer.status_code == (200 if allowed else 403)
    refused = nullcontext() if allowed else pytest.raises(WebSocketDisconnect, check=lambda e: e.code == 1008)
    with refused, client.websocket_connect(WS + "/ws/studio", headers=headers) as ws:
        assert ws.receive_json()["type"] == "ready"


def test_with_a_key_nothing_is_said_without_it():
    key = "k" * 20
    with served(policy=Policy(key, None)) as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/", "/api/model", "/v1/models", "/metrics", "/openapi.json", "/studio/app.js", "/?key=wrong"):
            assert client.get(path, follow_redirects=False).status_code == 401, path
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(WS + "/ws/studio"):
            pass
        assert client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        welcome = client.get(f"/?key={key}", follow_redirects=False)
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
        assert re.search("HttpOnly; SameSite=Strict", welcome.headers["set-cookie"])
        assert client.get("/api/model").status_code == 200  # the cookie
        with client.websocket_connect(WS + "/ws/studio") as ws:
            assert ws.receive_json()["type"] == "ready"


def test_rates_and_sizes_are_bounded():
    limits = Limits(rate=0.001, burst=3, messages=0.001, message_burst=2, upload_bytes=2000, connections=1)
    with served(tiny_server(limits=limits)) as client:
        assert upload(client, png()).status_code == 200
        assert upload(client, b"x" * 2001).status_code == 413
        assert upload(client, iter([b"x" * 1100] * 2)).status_code == 413  # without saying how much
        answer = upload(client, png())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert client.get("/api/model").status_code == 200
        with client.websocket_connect(WS + "/ws/studio") as ws:
            ws.receive_json()
            for _ in range(2):
                ws.send_text('{"type":"ping"}')
                assert ws.receive_json()["type"] == "pong"
            ws.send_text('{"type":"ping"}')
            assert ws.receive_json()["code"] == "rate_limited"
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(WS + "/ws/studio"):
                pass


def test_a_body_is_bounded_by_its_path_however_it_is_sent(client):
    for path in ("/v1/images/generations", "/v1/audio/speech"):
        answer = client.post(path, content=iter([b"x" * (1 << 19)] * 3))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_few_uploads_are_decoded_at_once_wherever_they_come_in(client, monkeypatch):
    lock, now, peak = threading.Lock(), 0, 0

    def slow(data, limits):
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        raise Refused("bad_request", "seen")

    for module in (openai_images, openai_media, studio_api):
        monkeypatch.setattr(module, "read_picture", slow)
    file, words = ("a.png", png()), {"prompt": "red"}
    asks = [
        lambda: upload(client, png()),
        lambda: client.post("/v1/images/edits", data=words, files={"image": file}),
        lambda: client.post("/v1/videos", data=words, files={"input_reference": file}),
    ]
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda ask: ask(), 3 * asks))
    assert [a.json()["error"]["message"] for a in answers] == ["seen"] * 9
    assert peak == 2


@pytest.mark.parametrize("shape", [(700, 1024), (70, 100), (45, 64)])
def test_a_mask_lies_where_it_was_painted(shape):
    pipe = SimpleNamespace(modalities=SimpleNamespace(cell=8), config=SimpleNamespace(picture=SimpleNamespace(size=64)))
    server = SimpleNamespace(model=SimpleNamespace(pipe=pipe), limits=CAREFREE)
    hole = np.zeros(shape, np.uint8)
    hole[:, : shape[1] // 4] = hole[3 * shape[0] // 4 :] = 255
    picture, mask = (io.BytesIO(), io.BytesIO())
    Image.fromarray(hole).convert("RGB").save(picture, "PNG")
    Image.fromarray(hole).save(mask, "PNG")
    form = FormData([("image", UploadFile(picture)), ("mask", UploadFile(mask))])
    for file in (picture, mask):
        file.seek(0)
    (seen,), where = openai_images._pictures(form, server)
    assert where.shape == seen.shape[:2]
    assert np.array_equal(where, seen[..., 0] > 127)


def test_a_host_is_known_in_any_case_and_no_method_makes_a_figure_of_its_own():
    with served(policy=Policy(None, frozenset({"Studio.Example.org"}))) as client:
        for host, status in (("studio.EXAMPLE.org:81", 200), ("127.0.0.1", 403)):
            assert client.get("/healthz", headers={"host": host}).status_code == status
        client.request("BREW", "/healthz", headers={"host": "studio.example.org"})
        figures = client.get("/metrics", headers={"host": "studio.example.org"}).text
        assert 'method="other"' in figures
        assert "BREW" not in figures


# ---------------------------------------------------------------------------------------------------------- the command


def test_a_core_is_left_to_the_browser(monkeypatch):
    from selfflow.serve import command

    for cores, threads, expected in ((1, 1, 1), (2, 2, 1), (8, 4, 4), (8, 8, 7)):
        monkeypatch.setattr(command.os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert command.spared(threads) == expected


def test_a_port_that_is_taken_and_an_open_door_are_one_line(capsys, tmp_path):
    from selfflow.serve.command import bind

    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    for arguments, words in (
        (["--port", str(port)], f"port {port} is taken"),
        (["--port", "99999"], "choose 0 to 65535"),
        (["--host", "0.0.0.0"], "give --api-key"),
        (["--host", "0.0.0.0", "--api-key", "short"], "at least 16"),
        (["--port", "0", "--model", str(tmp_path)], "is no model directory"),
        (["--port", "0", "--device", "xpu"], "there is no device 'xpu' here"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        assert ended.value.code == 2
        said = capsys.readouterr().err.strip()
        assert words in said
        assert "\n" not in said
    taken.close()
