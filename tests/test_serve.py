"""The studio's server: its protocol, what it keeps, and what it refuses."""

import io
import json
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")

import serve_toys
from selfflow.serve import worlds
from selfflow.serve.framing import Part, pack, unpack
from selfflow.serve.jobs import Channel, Pulse
from selfflow.serve.limits import Limits, Refused
from selfflow.serve.making import Wish, check, make
from selfflow.serve.messages import STUDIO, WORLD, parse
from selfflow.serve.store import Store
from serve_toys import CAREFREE, WS, png, served, tiny_server, upload

client = pytest.fixture(scope="module")(serve_toys.client)


@pytest.fixture
def ws(client):
    with client.websocket_connect(WS + "/ws/studio") as ws:
        assert ws.receive_json() == {"type": "ready", "protocol": 1}
        yield ws


def job(number, task="picture", **more):
    return json.dumps({"type": "job", "id": number, "task": task, "prompt": "red", "seed": 5, **more})


def results(ws, number):
    """What is said of a job until it ends."""
    found = []
    while True:
        message = ws.receive()
        if message.get("bytes") is not None:
            found.append(unpack(message["bytes"]))
            if found[-1][0]["final"]:
                return found
        else:
            said = json.loads(message["text"])
            assert said.get("id") == number, said
            if said["type"] != "started":
                return said


# -------------------------------------------------------------------------------------------------------------- framing


@given(st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=40)), max_size=4), st.text(max_size=20))
def test_messages_come_back_as_they_were(parts, word):
    given = [Part(name, "image/rgb", data, {"width": 3}) for name, data in parts]
    header, again = unpack(pack({"type": word, "n": 1}, given))
    assert (header, again) == ({"type": word, "n": 1}, given)


def test_a_message_cut_short_is_noticed():
    message = pack({"a": 1}, [Part("x", "y", b"12345")])
    assert struct.unpack_from("<I", message)[0] == len(message) - 4 - 5
    for end in (2, 10, len(message) - 1):
        with pytest.raises(ValueError):
            unpack(message[:end])


# ---------------------------------------------------------------------------------------------------------- the studio


def test_what_the_studio_is_told_of_the_model(client):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    facts = client.get("/api/model").json()
    assert (facts["name"], facts["size"], facts["cell"], facts["audio_rate"]) == ("tiny", 16, 8, 16_000)
    assert {"picture", "edit", "inpaint", "clip+sound", "continue"} <= set(facts["tasks"])
    assert facts["limits"]["references"] == 10
    assert {w["name"] for w in facts["worlds"]} >= {"tabletop", "pusht"}
    from selfflow.worlds.tabletop.robot import draw_start, parse_goal

    for policy in facts["policies"]:  # what is given as an example can be asked of seed 0
        parse_goal(policy["instruction_example"], draw_start(policy["env"], 0, "test").scene.things)


def test_a_preview_comes_before_the_final_and_one_seed_gives_one_picture(ws):
    ws.send_text(job(1, steps=16, preview=True))
    first = results(ws, 1)
    stages = [h["stage"] for h, _ in first]
    assert stages == sorted(stages, reverse=True)  # preview, then final
    header, (part,) = first[-1]
    assert (header["step"], header["steps"], header["seed"], part.mime) == (16, 16, 5, "image/png")
    picture = np.asarray(Image.open(io.BytesIO(part.data)))
    assert picture.shape == (16, 16, 3)
    for header, parts in first[:-1]:
        assert (header["final"], parts[0].mime, len(parts[0].data)) == (False, "image/rgb", 16 * 16 * 3)
    ws.send_text(job(2, steps=16))
    assert results(ws, 2)[-1][1][0].about["hash"] == part.about["hash"]
    ws.send_text(job(3, steps=16, seed=6))
    assert results(ws, 3)[-1][1][0].about["hash"] != part.about["hash"]


def test_a_quick_pass_goes_first_where_it_is_much_shorter():
    server = tiny_server()
    pulse, shown = Pulse(server.worker, Channel("x", live=True)), []

    def show(made, stage, step, steps, final):
        shown.append((stage, step, steps, final))

    for steps, preview in ((16, True), (15, True), (16, False)):
        shown.clear()
        make(Wish("picture", "red", steps=steps), server.model.pipe, server.model.pipe, pulse, show, preview)
        ends = [s for s in shown if s[1] == s[2]]
        assert ends == [("preview", 4, 4, False)] * (steps == 16 and preview) + [("final", steps, steps, True)]


def test_of_several_choices_the_first_is_shown_while_the_others_are_made():
    server, shown = tiny_server(), {}
    pulse, pipe = Pulse(server.worker, Channel("x", live=True)), server.model.pipe

    def show(made, stage, step, steps, final):
        if step == steps:
            shown[stage] = made.picture

    for seed in range(4):
        wish = Wish("picture", "red", seed=seed, steps=3, choices=4)
        make(wish, pipe, pipe, pulse, show, preview=True)
        first, kept = shown.pop("preview"), shown.pop("final")
        make(replace(wish, choices=1), pipe, pipe, pulse, show)
        assert np.array_equal(first, shown.pop("final"))
        if not np.array_equal(first, kept):
            return
    raise AssertionError("the first draw was kept each time")


def test_what_alike_jobs_share_is_bit_for_bit_what_each_gets_alone():
    server, gate, sizes = tiny_server(), threading.Event(), []
    solve = server.model.runtime.solve
    prompts = ["red", "red box", "blue", "green", "red", "green ball"]
    lengths = [server.model.pipe.text.length(p) for p in prompts]
    assert len(set(lengths)) > 1
    with served(server) as client, ExitStack() as stack:
        sockets = [stack.enter_context(client.websocket_connect(WS + "/ws/studio")) for _ in prompts]
        given = [{"prompt": p, "seed": i, "steps": 16, "preview": True} for i, p in enumerate(prompts)]

        def asked(ws, number, more):
            ws.send_text(job(number, **more))
            ws.send_text('{"type":"ping"}')  # once it is answered, the job waits

        for ws in sockets:
            assert ws.receive_json()["type"] == "ready"
        alone = []
        for ws, more in zip(sockets, given, strict=True):
            ws.send_text(job(1, **more))
            alone.append(results(ws, 1)[-1][1][0].about["hash"])
        server.model.runtime.solve = lambda task, samples, **o: sizes.append(len(samples)) or solve(task, samples, **o)
        server.worker.soon(lambda: gate.wait(20))
        for ws, more in zip(sockets, given, strict=True):
            asked(ws, 2, more)
            assert ws.receive_json()["type"] == "pong"
        gate.set()
        together = [results(ws, 2) for ws in sockets]
    assert [found[-1][1][0].about["hash"] for found in together] == alone
    assert all({header["stage"] for header, _ in found} == {"preview", "final"} for found in together)
    expected = [lengths.count(n) for n in dict.fromkeys(lengths)]
    assert sizes == [n for n in expected for _ in ("preview", "final")]


def test_every_task_over_the_socket(client, ws):
    source = upload(client, png(20, 37)).json()
    assert (source["width"], source["height"]) == (32, 16)  # whole cells
    mask = np.zeros((16, 32), np.uint8)
    mask[:8, :8] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    mask = upload(client, buffer.getvalue()).json()["hash"]
    size, h = {"width": 32, "height": 16, "steps": 2}, source["hash"]
    before = np.asarray(Image.open(io.BytesIO(client.get(f"/api/assets/{h}").content)))

    def made(number, task, **more):
        ws.send_text(job(number, task, **(size | more)))
        found = results(ws, number)
        assert isinstance(found, list), found
        return {p.name: p for p in found[-1][1]}

    assert set(made(10, "edit", references=[{"hash": h, "on": True}])) == {"picture"}
    for number, task in ((11, "inpaint"), (12, "outpaint")):
        picture = np.asarray(Image.open(io.BytesIO(made(number, task, source=h, mask=mask)["picture"].data)))
        assert np.array_equal(picture[8:], before[8:])
        assert np.array_equal(picture[:, 8:], before[:, 8:])
        assert not np.array_equal(picture, before)
    clip = made(13, "clip", frames=6, fps=10)["clip"]
    assert (clip.about["frames"], clip.about["seconds"]) == (6, 0.6)
    assert np.asarray(Image.open(io.BytesIO(clip.data))).shape == (6 * 16, 32, 3)
    animated = made(14, "animate+sound", frames=6, fps=10, source=h)
    assert animated["sound"].about["seconds"] == 0.6
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(animated["clip"].data)))[:16], before)
    dubbed = made(15, "dub", source=clip.about["hash"], frames=1, fps=1)  # the clip's own length and rate count
    assert (dubbed["clip"].about["hash"], dubbed["sound"].about["seconds"]) == (clip.about["hash"], 0.6)
    longer = made(16, "continue", source=clip.about["hash"], frames=4)["clip"]
    assert longer.about["frames"] == 10
    kept = np.asarray(Image.open(io.BytesIO(longer.data)))[: 6 * 16]
    assert np.array_equal(kept, np.asarray(Image.open(io.BytesIO(clip.data))))
    assert set(made(17, "sound", frames=4)) == {"sound"}


@pytest.mark.parametrize(
    ("wish", "code", "words"),
    [
        ({"prompt": "x" * 2001}, "too_large", "2001 characters"),
        ({"steps": 0}, "bad_request", "0 steps"),
        ({"steps": 10**9}, "bad_request", "choose 1 to 100"),
        ({"width": 17}, "bad_request", "multiple of 8"),
        ({"width": 8000, "height": 8000}, "too_large", "at most 65536"),
        ({"guidance": 1e9}, "bad_request", "guidance"),
        ({"choices": 0}, "bad_request", "0 choices; choose 1 to 16"),
        ({"choices": 10**9}, "bad_request", "choose 1 to 16"),
        ({"choices": 16, "width": 256, "height": 256}, "too_large", "16 choices of 1 frames"),
        ({"task": "edit"}, "bad_request", "needs a picture"),
        ({"task": "animate"}, "bad_request", "needs a source"),
        ({"task": "inpaint", "source": "0" * 64}, "not_found", "no asset"),
        ({"task": "clip", "frames": 65}, "bad_request", "choose 1 to 64"),
        ({"task": "clip", "frames": 64, "width": 128, "height": 128}, "too_large", "64 frames of 128 × 128"),
        ({"task": "clip", "fps": 0}, "bad_request", "frames a second"),
        ({"references": [{"hash": "0" * 64}] * 11}, "too_large", "11 references"),
    ],
)
def test_a_wish_out_of_bounds_is_refused_by_name(ws, wish, code, words):
    ws.send_text(job(7, **wish))
    said = results(ws, 7)
    assert (said["type"], said["code"]) == ("error", code)
    assert words in said["message"]


def test_the_picture_to_edit_is_one_of_the_ten_that_are_looked_at():
    pipe, picture = tiny_server().model.pipe, np.zeros((16, 16, 3), np.uint8)
    check(Wish("edit", source=picture, references=(picture,) * 9), pipe, Limits())
    check(Wish("edit", references=(picture,) * 10), pipe, Limits())
    with pytest.raises(Refused, match="10 references and the picture to edit; at most 10 in all"):
        check(Wish("edit", source=picture, references=(picture,) * 10), pipe, Limits())


def test_messages_that_are_none_are_answered_and_the_connection_lives_on(ws):
    for text in ("", "{", "[]", '{"type":"fly"}', job(1, task="fly"), job(-1), '{"type":"keep","id":99}', "[" * 10_000):
        ws.send_text(text)
        assert ws.receive_json()["type"] == "error"
    ws.send_bytes(b"\x00")
    assert ws.receive_json()["code"] == "bad_request"
    ws.send_text("x" * (CAREFREE.message_bytes + 1))
    assert ws.receive_json()["code"] == "too_large"
    ws.send_text('{"type":"ping","at":3.5}')
    assert ws.receive_json() == {"type": "pong", "at": 3.5}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3), max_leaves=6,
)  # fmt: skip
FIELDS = (
    "id", "task", "prompt", "seed", "steps", "guidance", "width", "height", "references", "source", "frames", "fps",
    "choices", "preview", "world", "keys", "action", "env", "at",
)  # fmt: skip
TYPES = ("job", "keep", "cancel", "ping", "start", "keys", "action", "policy", "stop")


@settings(max_examples=100)
@given(st.sampled_from(TYPES) | st.text(max_size=5), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_message_is_understood_or_refused(kind, fields):
    for parser in (STUDIO, WORLD):
        with suppress(Refused):
            assert parse(parser, json.dumps({**fields, "type": kind})).type == kind


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TYPES[:4]), st.dictionaries(st.sampled_from(FIELDS[:14]), JSON, max_size=5))
def test_no_message_ends_a_connection(ws, kind, fields):
    ws.send_text(json.dumps({**fields, "type": kind}))
    ws.send_text('{"type":"cancel"}')
    ws.send_text('{"type":"ping","at":"end"}')
    while True:  # jobs may end between
        message = ws.receive()
        assert message["type"] == "websocket.send"
        if message.get("text") == '{"type": "pong", "at": "end"}':
            return


# ------------------------------------------------------------------------------------------------------ assets, history


def test_what_is_kept_can_be_reopened_downloaded_and_deleted(client, ws):
    reference = upload(client, png(seed=4)).json()["hash"]
    wish = {"steps": 2, "guidance": 1.5, "choices": 2, "references": [{"hash": reference, "on": True}], "task": "edit"}
    ws.send_text(job(20, **wish))
    (part,) = results(ws, 20)[-1][1]
    ws.send_text('{"type":"keep","id":20}')
    entry = ws.receive_json()["entry"]
    assert entry["task"] == "edit"
    settings = entry["settings"]
    wanted = {
        "prompt": "red",
        "seed": 5,
        "width": 16,
        **{k: wish[k] for k in ("steps", "guidance", "choices", "references")},
    }
    assert {k: settings[k] for k in wanted} == wanted
    assert entry["parts"][0]["hash"] == part.about["hash"]
    ws.send_text(job(21, steps=2, parent=entry["id"]))
    results(ws, 21)
    ws.send_text('{"type":"keep","id":21}')
    child = ws.receive_json()["entry"]
    assert child["parent"] == entry["id"]
    assert [e["id"] for e in client.get("/api/history?limit=2").json()["entries"]] == [child["id"], entry["id"]]
    page = client.get(f"/api/history?before={child['id']}").json()["entries"]
    assert page[0]["id"] == entry["id"]

    plain = client.get(f"/api/assets/{part.about['hash']}")
    assert plain.content == part.data
    assert "immutable" in plain.headers["cache-control"]
    told = client.get(f"/api/history/{entry['id']}/download")
    with Image.open(io.BytesIO(told.content)) as image:
        assert (image.text["prompt"], image.text["seed"], image.text["model"]) == ("red", "5", "tiny")
        assert json.loads(image.text["settings"])["guidance"] == 1.5
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(part.data))))
    assert client.get(f"/api/history/{entry['id']}/download?metadata=0").content == part.data
    assert client.delete(f"/api/history/{entry['id']}").status_code == 204
    assert client.get(f"/api/history/{entry['id']}/download").status_code == 404
    assert client.get("/api/history").json()["entries"][0]["parent"] is None


def test_clips_are_downloaded_as_mp4(client, ws):
    pytest.importorskip("av", reason="mp4 needs the extra `video`")
    from selfflow.worlds.tabletop.export.video import read_mp4

    ws.send_text(job(30, "clip+sound", steps=1, frames=6, fps=20, width=16, height=16))
    results(ws, 30)
    ws.send_text('{"type":"keep","id":30}')
    entry = ws.receive_json()["entry"]
    frames, fps, sound, rate = read_mp4(io.BytesIO(client.get(f"/api/history/{entry['id']}/download").content))
    assert (frames.shape, round(fps), rate) == ((6, 16, 16, 3), 20, 16_000)
    assert sound is not None


KEEPER = """
import sys
from pathlib import Path
from selfflow.serve.store import Store
store = Store(Path(sys.argv[1]))
for i in range(10**6):
    found = store.put(b"picture %d" % i, "image/png", {"kind": "picture"})
    entry = store.keep("picture", {"prompt": str(i)}, [{"name": "picture", "hash": found}], None)
    print(entry["id"], flush=True)
"""


def test_what_was_kept_survives_kill_9(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    said = [process.stdout.readline().strip() for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().split("\n")[:-1]  # the last line may be cut
    process.wait()
    process.stdout.close()
    store = Store(tmp_path)
    found = {entry["id"]: entry for entry in store.entries(10**6)}
    assert set(said) <= set(found)
    for entry in found.values():
        assert store.get(entry["parts"][0]["hash"]).data == b"picture " + entry["settings"]["prompt"].encode()
    store.close()


def test_the_store_forgets_what_nobody_needs_and_nothing_else(tmp_path):
    store = Store(tmp_path, Limits(store_bytes=100, entries=2))
    kept = store.put(b"k" * 40, "image/png", {})
    store.keep("picture", {}, [{"name": "picture", "hash": kept}], None)
    others = [store.put(bytes([i]) * 30, "image/png", {}) for i in range(4)]
    assert store.bytes <= 100
    assert store.get(kept).data == b"k" * 40
    assert store.get(others[-1]).data == bytes([3]) * 30
    with pytest.raises(Refused, match="no asset"):
        store.get(others[0])
    with pytest.raises(Refused, match="fills the store"):
        store.put(b"x" * 61, "image/png", {})
    assert store.put(b"k" * 40, "image/png", {}) == kept  # what is there takes no room
    store.keep("picture", {}, [{"name": "picture", "hash": kept}], "gone")
    with pytest.raises(Refused, match="has 2 entries"):
        store.keep("picture", {}, [{"name": "picture", "hash": kept}], None)
    with pytest.raises(Refused, match="is gone"):
        Store(None).keep("picture", {}, [{"name": "picture", "hash": kept}], None)
    store.close()


def test_a_write_that_is_refused_or_fails_leaves_the_count_of_bytes_alone():
    class Full:
        """A connection that cannot commit."""

        def __init__(self, db):
            self.db = db

        def __getattr__(self, name):
            return getattr(self.db, name)

        def execute(self, text, *values):
            if text == "COMMIT":
                raise sqlite3.OperationalError("disk full")
            return self.db.execute(text, *values)

    store = Store(None, Limits(store_bytes=100))
    kept = store.put(b"k" * 40, "image/png", {})
    store.keep("picture", {}, [{"name": "picture", "hash": kept}], None)
    other = store.put(b"o" * 30, "image/png", {})
    with pytest.raises(Refused, match="fills the store"):
        store.put(b"x" * 61, "image/png", {})  # makes room in vain: what it forgot is back
    assert (store.bytes, store.get(other).data) == (70, b"o" * 30)
    db, store.db = store.db, Full(store.db)
    with pytest.raises(sqlite3.OperationalError):
        store.put(b"y" * 20, "image/png", {})
    assert store.bytes == 70
    store.db = db
    store.put(b"y" * 60, "image/png", {})
    assert store.bytes == 100
    store.close()


def test_a_damaged_store_is_one_clear_error(tmp_path):
    (tmp_path / "studio.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match="move it away"):
        Store(tmp_path)


def test_metrics_count_what_happened(client, ws):
    ws.send_text(job(1, steps=1))
    results(ws, 1)
    text = client.get("/metrics").text
    assert re.search(r'selfflow_jobs_total\{outcome="done",task="picture"\} [1-9]', text)
    assert re.search(r'selfflow_websockets\{path="/ws/studio"\} 1', text)
    assert "selfflow_store_bytes" in text


# -------------------------------------------------------------------------------------------------------------- worlds


def frames(ws, count):
    """So many frames, or what else is said first."""
    found = []
    while len(found) < count:
        message = ws.receive()
        if message.get("bytes") is None:
            return [(json.loads(message["text"]), [])]
        found.append(unpack(message["bytes"]))
    return found


def test_a_world_is_played_beside_its_dream(client):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    with client.websocket_connect(WS + "/ws/world") as ws:
        assert ws.receive_json()["type"] == "ready"
        ws.send_text('{"type":"start","world":"nowhere"}')
        assert ws.receive_json()["code"] == "not_found"
        ws.send_text('{"type":"start","world":"tabletop","seed":3}')
        ((begin, parts),) = frames(ws, 1)
        assert [p.name for p in parts] == ["real", "dream"]
        assert parts[0].data == parts[1].data  # both begin with the same picture
        assert len(parts[0].data) == 16 * 16 * 3
        assert (begin["step"], begin["drift"]) == (0, 0)
        ws.send_text('{"type":"keys","keys":["ArrowLeft","Space"]}')
        seen = frames(ws, 2)
        while len(seen) < 100 and not (
            seen[-1][0]["action"][0] < seen[0][0]["action"][0] and any(len(p) == 2 for _, p in seen)
        ):
            seen += frames(ws, 1)
        assert len(seen) < 100  # the gripper went to the left, and the dream came along
        times = [h["t"] for h, _ in seen]
        assert times == sorted(times)
        ws.send_text('{"type":"action","action":[0.5]}')
        while (said := frames(ws, 1)[0][0])["type"] == "frame":
            pass
        assert (said["code"], "takes 3" in said["message"]) == ("bad_request", True)


def test_a_forgotten_world_ends_though_its_page_pings(client, monkeypatch):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    monkeypatch.setattr(worlds, "IDLE_SECONDS", 0.5)
    with client.websocket_connect(WS + "/ws/world") as ws:
        ws.receive_json()
        ws.send_text('{"type":"start","world":"tabletop","seed":3}')
        said, end = {}, time.monotonic() + 8
        while said.get("type") != "stopped" and time.monotonic() < end:
            ws.send_text('{"type":"ping","at":1}')
            said = frames(ws, 1)[0][0]
        assert said == {"type": "stopped", "reason": "idle"}


def test_the_policy_shows_its_plan_and_the_episode_ends(client):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    with client.websocket_connect(WS + "/ws/world") as ws:
        ws.receive_json()
        ws.send_text('{"type":"policy","env":"stack","seed":2,"instruction":"stack it"}')
        seen = frames(ws, 6)
        header, parts = seen[-1]
        assert [p.name for p in parts] == ["real"]
        assert header["instruction"] == "stack it"
        assert len(header["action"]) == 3
        plan = np.array(header["plan"])
        assert plan.shape[1] == 3
        assert plan.min() >= 0
        assert plan.max() <= 1
        ws.send_text('{"type":"stop"}')


def test_an_episode_of_words_that_nobody_judges_ends_though_the_scenes_own_goal_is_reached(monkeypatch):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    from selfflow.serve.boards import Tabletop

    monkeypatch.setattr("selfflow.worlds.tabletop.robot.env.reached", lambda *_: True)
    still = np.zeros(3, np.float32)
    for words, judged in (("tidy up", False), (None, True)):
        board, ends = Tabletop(16, 0, words, "stack", limit=3), []
        for _ in range(3):
            board.step(still)
            ends.append((board.success, board.truncated))
        assert board.env.success
        assert ends == ([(True, False)] * 3 if judged else [(False, False), (False, False), (False, True)])


def test_limits_of_worlds(client):
    pytest.importorskip("pymunk", reason="worlds need the extra `world`")
    server = client.app.state.server
    before, server.limits = server.limits, replace(server.limits, worlds=0)
    with client.websocket_connect(WS + "/ws/world") as ws:
        ws.receive_json()
        ws.send_text('{"type":"start","world":"tabletop"}')
        assert ws.receive_json()["code"] == "busy"
    server.limits = before
