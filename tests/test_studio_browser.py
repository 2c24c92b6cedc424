"""The studio in a real browser: every feature clicked through, by keyboard alone as well.

The server is `studio_fake`, which answers at once and exactly; `test_studio_server.py` has the real one, and
`test_studio_access.py` phones, fingers, day, night and axe-core.
"""

import asyncio
import re

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
pytest.importorskip("uvicorn", reason="the browser tests need: pip install 'selfflow[serve]'")

import studio_browser  # noqa: E402
from studio_browser import CHROMIUM, colour_name, draw, final, keep, mode, shown, type_prompt, until  # noqa: E402

if CHROMIUM is None:
    pytest.skip("the browser tests need chromium: apt-get install chromium", allow_module_level=True)

expect = playwright.expect
expect.set_options(timeout=15_000)


served = pytest.fixture(scope="module")(studio_browser.served)
browser = pytest.fixture(scope="module")(studio_browser.browser)
fake = pytest.fixture(studio_browser.fake)
visit = pytest.fixture(studio_browser.visit)


@pytest.fixture
def page(visit):
    return visit()


# ---------------------------------------------------------------------------------------------------------- live canvas


def test_the_picture_follows_the_prompt_and_says_how_fast(page, fake):
    expect(page.locator("#invitation")).to_contain_text("follows your words")
    page.locator("#prompt").press_sequentially("a red ball", delay=15)
    until(lambda: colour_name(page), "red")
    final(page)
    expect(page.locator("#latency")).to_have_text(re.compile(r"^(\d+ ms|\d\.\d s) to picture$"))
    type_prompt(page, "a blue ball")
    until(lambda: colour_name(page), "blue")
    assert fake.jobs[-1]["prompt"] == "a blue ball"
    ids = [job["id"] for job in fake.jobs]
    assert ids == sorted(set(ids))
    # It is shown in whole device pixels, crisp unless asked otherwise.
    box = page.locator("#picture").bounding_box()
    assert box["width"] % 64 == 0
    assert page.locator("#picture").evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"
    page.get_by_role("button", name="Smooth pixels").click()
    assert page.locator("#picture").evaluate("c => getComputedStyle(c).imageRendering") == "auto"


def test_the_first_keystroke_goes_at_once_and_the_rest_of_its_frame_as_one(page, fake):
    type_prompt(page, "a ball")
    final(page)
    before = len(fake.jobs)
    at_once = page.evaluate(
        """async () => {
          await new Promise(requestAnimationFrame);
          const send = WebSocket.prototype.send, sent = [];
          WebSocket.prototype.send = function (text) { sent.push(JSON.parse(text).prompt); send.call(this, text); };
          const prompt = document.getElementById('prompt');
          let first;
          for (const text of ['a r', 'a re', 'a red', 'a red b']) {
            prompt.value = text;
            prompt.dispatchEvent(new Event('input'));
            await null;
            first ??= [...sent];
          }
          WebSocket.prototype.send = send;
          return first;
        }"""
    )
    assert at_once == ["a r"]
    until(lambda: fake.jobs[-1]["prompt"], "a red b")
    assert [job["prompt"] for job in fake.jobs[before:]] == ["a r", "a red b"]


def test_a_slow_old_picture_never_comes_over_a_newer_one(page, fake):
    """Every picture drawn is noted: once the newest was there, none of another colour came."""
    page.evaluate(
        """() => {
          globalThis.labels = [];
          new MutationObserver(() => labels.push(document.getElementById('picture').getAttribute('aria-label')))
            .observe(document.getElementById('picture'), {attributes: true, attributeFilter: ['aria-label']});
        }"""
    )
    type_prompt(page, "a red ball !slow")
    until(lambda: fake.jobs[-1]["prompt"] if fake.jobs else "", "a red ball !slow")
    type_prompt(page, "a blue ball")
    until(lambda: page.locator("#picture").get_attribute("aria-label"), "picture: a blue ball")
    page.wait_for_timeout(1200)
    labels = page.evaluate("labels")
    assert labels.index("picture: a blue ball") > max((i for i, s in enumerate(labels) if "red" in s), default=-1)
    assert colour_name(page) == "blue"


def test_seed_steps_guidance_and_shape_are_asked_for(page, fake):
    draw(page, "a red ball")
    first = fake.jobs[-1]
    assert (first["steps"], first["guidance"]) == (None, None)
    assert page.get_by_label("Guidance").input_value() == "2"
    page.get_by_label("Seed", exact=True).fill("42")
    until(lambda: fake.jobs[-1]["seed"], 42)
    page.get_by_role("button", name="Shuffle").click()
    until(lambda: fake.jobs[-1]["seed"] != 42, True)
    page.get_by_label("Steps").fill("12")
    until(lambda: fake.jobs[-1]["steps"], 12)
    page.get_by_label("Guidance").fill("3.5")
    until(lambda: fake.jobs[-1]["guidance"], 3.5)
    page.get_by_label("Choices").fill("8")
    until(lambda: fake.jobs[-1]["choices"], 8)
    page.get_by_role("button", name="As the model likes it").click()
    until(lambda: [fake.jobs[-1][name] for name in ("steps", "guidance", "choices")], [None, None, 1])
    page.get_by_role("radio", name="Wide").check()
    until(lambda: (fake.jobs[-1]["width"], fake.jobs[-1]["height"]), (96, 64))
    page.get_by_label("Height in pixels").fill("83")
    page.get_by_label("Height in pixels").press("Tab")
    until(lambda: fake.jobs[-1]["height"], 80)  # whole cells
    # A seed that is not locked is drawn anew with everything that is kept.
    seed = fake.jobs[-1]["seed"]
    page.get_by_role("button", name="Keep the seed").click()
    final(page)
    keep(page, 1)
    until(lambda: page.get_by_label("Seed", exact=True).input_value() != str(seed), True)


def test_history_undoes_branches_and_reopens_whole(page, fake):
    draw(page, "a red ball", entries=1)
    page.get_by_label("Steps").fill("12")
    draw(page, "a blue ball", entries=2)
    page.get_by_role("button", name="Undo").click()
    until(lambda: colour_name(page), "red")
    expect(page.locator("#prompt")).to_have_value("a red ball")
    expect(page.get_by_label("Steps")).to_have_value("8")
    asked = len(fake.jobs)
    page.get_by_role("button", name="Redo").click()
    until(lambda: colour_name(page), "blue")
    expect(page.get_by_label("Steps")).to_have_value("12")
    assert len(fake.jobs) == asked  # what was kept is shown, not drawn anew
    page.get_by_role("button", name="Undo").click()
    until(lambda: colour_name(page), "red")
    draw(page, "a green ball", entries=3)
    parents = {e["settings"]["prompt"]: e["parent"] for e in fake.entries}
    root = fake.entries[0]["id"]
    assert parents == {"a red ball": None, "a blue ball": root, "a green ball": root}
    expect(page.locator("#strip .forks")).to_have_text("2")
    page.locator("#strip").get_by_label("picture: a blue ball").click()
    until(lambda: colour_name(page), "blue")
    # It all survives a reload, the place in history too.
    page.reload()
    expect(page.locator("#strip li")).to_have_count(3)
    expect(page.locator("#strip [aria-current]")).to_have_attribute("aria-label", "picture: a blue ball")
    expect(page.locator("#prompt")).to_have_value("a blue ball")
    # And what is forgotten is gone.
    page.locator("#strip").get_by_label("picture: a green ball").press("Delete")
    expect(page.locator("#strip li")).to_have_count(2)


def test_a_pause_keeps_what_was_drawn(page, fake):
    draw(page, "a red ball")
    expect(page.locator("#strip li")).to_have_count(1)
    assert len(fake.entries) == 1


def test_download_with_and_without_settings(page, fake):
    draw(page, "a red ball")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "full.png"
    page.get_by_label("Settings in downloads").uncheck()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "bare.png"


# -------------------------------------------------------------------------------------------------------------- editing


def test_edit_by_words_then_compare(page, fake):
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    base = fake.entries[0]["parts"][0]["hash"]
    type_prompt(page, "make it blue")
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["source"]), ("edit", base))
    until(lambda: colour_name(page), "blue")
    final(page)
    page.get_by_role("button", name="Before and after").click()
    slider = page.get_by_label("Before and after", exact=True).and_(page.locator("input"))
    expect(slider).to_be_visible()
    assert page.locator("#before").evaluate("c => c.style.clipPath") == "inset(0px 50% 0px 0px)"
    slider.press("ArrowRight")
    assert page.locator("#before").evaluate("c => c.style.clipPath") == "inset(0px 49% 0px 0px)"
    page.keyboard.press("Escape")
    expect(page.locator("#curtain")).to_be_hidden()
    keep(page, 2)
    expect(page.locator("#prompt")).to_have_value("")
    assert fake.entries[1]["parent"] == fake.entries[0]["id"]
    type_prompt(page, "and now green")
    until(lambda: fake.jobs[-1]["source"], fake.entries[1]["parts"][0]["hash"])


def test_the_mask_brush_paints_erases_and_clears(page, fake):
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    mode(page, "Mask")
    box = page.locator("#overlay").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=4)
    page.mouse.up()
    until(lambda: fake.jobs[-1]["task"], "inpaint")
    type_prompt(page, "a yellow ball")
    until(lambda: fake.jobs[-1]["prompt"], "a yellow ball")
    painted = fake.jobs[-1]["mask"]
    final(page)
    assert shown(page, 0.0, 0.0) == (232, 232, 236)  # what was not painted stayed
    page.get_by_role("radio", name="Erase").check()
    page.get_by_label("Brush", exact=True).and_(page.locator("input[type=range]")).fill("24")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.up()
    until(lambda: fake.jobs[-1]["mask"] not in (None, painted), True)
    page.get_by_role("button", name="Clear mask").click()
    expect(page.locator("#picture")).to_have_attribute("aria-label", "The picture to edit")


def test_edges_grow_by_drag_and_by_key(page, fake):
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    mode(page, "Grow")
    right = page.get_by_role("slider", name="Grow right")
    box, scale = right.bounding_box(), page.locator("#picture").bounding_box()["width"] / 64
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 16 * scale, box["y"] + 100, steps=3)
    page.mouse.up()
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["width"], fake.jobs[-1]["height"]), ("outpaint", 80, 64))
    page.get_by_role("slider", name="Grow top").press("ArrowUp")
    until(lambda: (fake.jobs[-1]["width"], fake.jobs[-1]["height"]), (80, 72))
    final(page)
    assert shown(page, 0.0, 9 / 72)[2] >= 230  # the picture itself, one cell down
    expect(right).to_have_attribute("aria-valuenow", "2")
    page.get_by_role("button", name="Back to the picture").click()
    expect(right).to_have_attribute("aria-valuenow", "0")
    assert page.locator("#picture").evaluate("c => [c.width, c.height]") == [64, 64]


def test_references_from_everywhere_reordered_and_switched(page, fake, tmp_path):
    from PIL import Image

    draw(page, "a red ball", entries=1)
    page.get_by_role("button", name="Use as reference").click()
    slots = page.locator("#slots [role=option]")
    expect(slots).to_have_count(1)
    until(lambda: fake.jobs[-1]["task"], "edit")
    # From a file; what is no picture is said and leaves the rest alone.
    Image.new("RGB", (33, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    (tmp_path / "note.txt").write_text("no picture")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a reference").click()
    chooser.value.set_files([tmp_path / "note.txt", tmp_path / "blue.png"])
    expect(slots).to_have_count(2)
    expect(page.locator("#notice")).to_contain_text("note.txt is no PNG")
    # Pasted, dropped from history, picked from history.
    page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(16, 16);
          canvas.getContext('2d').fillRect(0, 0, 16, 16);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], 'black.png', {type: 'image/png'}));
          dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}));
        }"""
    )
    expect(slots).to_have_count(3)
    page.locator("#strip button").first.drag_to(page.locator(".slot.free"))
    expect(slots).to_have_count(4)
    page.locator("#strip button").first.drag_to(page.locator("#frame"))
    expect(slots).to_have_count(5)
    page.get_by_role("button", name="Pick from history").click()
    page.locator("#strip button").last.click()
    expect(slots).to_have_count(6)
    page.keyboard.press("Escape")
    hashes = [r["hash"] for r in fake.jobs[-1]["references"]]
    # By drag, by button, by key.
    slots.nth(0).drag_to(slots.nth(1))
    until(lambda: [r["hash"] for r in fake.jobs[-1]["references"]][:2], hashes[1::-1])
    page.get_by_role("button", name="Move earlier").click()
    until(lambda: [r["hash"] for r in fake.jobs[-1]["references"]][:2], hashes[:2])
    slots.nth(0).press("Alt+ArrowRight")
    until(lambda: [r["hash"] for r in fake.jobs[-1]["references"]][:2], hashes[1::-1])
    slots.nth(1).press(" ")
    until(lambda: [r["on"] for r in fake.jobs[-1]["references"]][:2], [True, False])
    slots.nth(1).press("Delete")
    expect(slots).to_have_count(5)
    for _ in range(5):
        page.get_by_role("button", name="Remove reference").click()
    expect(slots).to_have_count(0)
    until(lambda: fake.jobs[-1]["task"], "picture")


# ----------------------------------------------------------------------------------------------------- motion and sound


def test_clips_play_scrub_continue_and_get_sound(page, fake):
    mode(page, "Motion")
    type_prompt(page, "a red ball falls")
    until(lambda: colour_name(page), "red")
    final(page)
    scrub = page.get_by_label("Time")
    expect(scrub).to_have_attribute("max", "7")
    still = shown(page, 0.55, 0.35)
    scrub.fill("4")
    assert shown(page, 0.55, 0.35) != still or page.locator(".time").inner_text().startswith("0.5")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    until(lambda: scrub.input_value() != "4", True)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Continue the clip").click()
    until(lambda: fake.jobs[-1]["task"], "continue")
    expect(page.locator("#strip li")).to_have_count(2)
    assert fake.jobs[-1]["source"] == fake.entries[0]["parts"][0]["hash"]
    page.get_by_role("button", name="Give it sound").click()
    expect(page.locator("#strip li")).to_have_count(3)
    assert fake.jobs[-1]["task"] == "dub"
    expect(page.locator("#player")).to_have_class(re.compile("heard"))
    expect(scrub).to_have_attribute("max", "7")  # the clip stays
    page.get_by_label("With sound").check()
    until(lambda: fake.jobs[-1]["task"], "clip+sound")


def test_animate_this(page, fake):
    draw(page, "a green ball", entries=1)
    page.get_by_role("button", name="Animate this").click()
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["source"]), ("animate", fake.entries[0]["parts"][0]["hash"]))
    expect(page.get_by_role("radio", name="Motion")).to_be_checked()
    until(lambda: colour_name(page), "green")
    expect(page.locator("#first")).to_be_visible()
    page.get_by_role("button", name="Begin from nothing").click()
    until(lambda: fake.jobs[-1]["task"], "clip")
    page.locator("#strip button").last.drag_to(page.locator("#frame"))
    until(lambda: fake.jobs[-1]["source"], fake.entries[0]["parts"][0]["hash"])


def test_sounds_show_their_wave_and_play(page, fake):
    mode(page, "Sound")
    type_prompt(page, "a metal cup")
    expect(page.locator("#player")).to_have_class(re.compile("heard"))
    assert page.get_by_label("Guidance").input_value() == "6"  # as this model's sounds are led
    expect(page.locator(".time")).to_have_text("0.0 / 1.0 s")
    ink = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"
    until(lambda: page.locator(".wave").evaluate(ink), True)
    page.get_by_role("button", name="Play").click()
    until(lambda: int(page.get_by_label("Time").input_value()) > 0, True)
    keep(page, 1)
    expect(page.locator("#strip .sound")).to_be_visible()


# ---------------------------------------------------------------------------------------------------- worlds and robots


def test_worlds_are_driven_and_policies_watched(page, fake):
    mode(page, "Worlds")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#readout")).to_contain_text("frames a second")
    expect(page.locator("#latency")).to_be_hidden()  # it is of another mode's picture
    page.keyboard.down("ArrowRight")
    until(lambda: fake.counts["ArrowRight"], 1)
    page.keyboard.up("ArrowRight")
    page.locator("[data-key=ArrowUp]").dispatch_event("pointerdown")
    until(lambda: fake.counts["ArrowUp"], 1)
    page.locator("[data-key=ArrowUp]").dispatch_event("pointerup")
    for name in ("real", "dream"):
        assert page.locator(f"#{name}").evaluate("c => c.getContext('2d').getImageData(1, 1, 1, 1).data[0]") == 228
    fake.idle = True
    expect(page.locator("#readout")).to_contain_text("nobody drove")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.get_by_role("radio", name="Instruct").check()
    page.get_by_label("Instruction").fill("put the red ball left of the box")
    page.get_by_role("button", name="Carry out").click()
    expect(page.locator("#plan circle")).to_have_count(8)
    expect(page.locator("#real-words")).to_have_text("put the red ball left of the box")
    expect(page.locator("#readout")).to_have_text("Done in 60 steps.")


# ------------------------------------------------------------------------------------------- when things do not go well


def test_a_lost_connection_comes_back_with_everything_kept(page, visit, fake):
    draw(page, "a red ball")
    fake.refuse = True
    for socket in list(fake.sockets):
        asyncio.run_coroutine_threadsafe(socket.close(), fake.loop).result(10)
    expect(page.locator("#connection")).to_contain_text("Your work is kept")
    type_prompt(page, "a blue ball")
    assert colour_name(page) == "red"
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#connection")).to_be_visible()
    fake.refuse = False
    expect(page.locator("#connection")).to_be_hidden()
    until(lambda: colour_name(page), "blue")
    visit.complaints.clear()  # browsers report the refused connection themselves


@pytest.mark.parametrize(("mode", "name", "words"), [("edit", "base", "Drop or paste"), ("motion", "first", "happens")])
def test_a_picture_that_the_server_no_longer_has_is_left_behind(page, visit, fake, mode, name, words):
    page.evaluate(
        """([mode, name]) => {
          const gone = {hash: 'f'.repeat(64), width: 64, height: 64, entry: null};
          localStorage.setItem('selfflow.studio', JSON.stringify({mode, [name]: gone}));
        }""",
        [mode, name],
    )
    page.reload()
    expect(page.locator("#notice")).to_contain_text("no longer has that picture")
    expect(page.locator("#invitation")).to_contain_text(words)
    expect(page.locator("#frame")).to_have_attribute("data-state", "empty")
    visit.complaints[:] = [c for c in visit.complaints if "404" not in c]  # the browser reports the answer itself


def test_a_server_that_is_not_there_yet(browser, served, fake):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.route("**/api/model", lambda route: route.abort())
    page.goto(served[1])
    expect(page.locator("#invitation")).to_contain_text("The server cannot be reached.")
    page.unroute("**/api/model")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#invitation")).to_contain_text("follows your words")
    draw(page, "a red ball")
    context.close()


def test_refusals_say_what_happens_next(page, fake):
    type_prompt(page, "a red ball !fail")
    expect(page.locator("#notice")).to_contain_text("was refused")
    expect(page.locator("#notice").get_by_role("button", name="Try again")).to_be_visible()
    type_prompt(page, "a red ball !limit")
    expect(page.locator("#notice")).to_contain_text("A little fast")
    until(lambda: colour_name(page), "red")
    expect(page.locator("#notice")).to_be_empty()


# --------------------------------------------------------------------------------------- keyboard, sight, small screens


def test_by_keyboard_alone(page, fake):
    press = page.keyboard.press
    press("/")
    page.keyboard.type("a red ball")
    final(page)
    until(lambda: colour_name(page), "red")
    press("Enter")
    expect(page.locator("#strip li")).to_have_count(1)
    press("Escape")
    press("r")
    expect(page.locator("#slots [role=option]")).to_have_count(1)
    press("s")
    until(lambda: fake.jobs[-1]["seed"] != 7, True)
    final(page)
    press("2")
    expect(page.get_by_role("radio", name="Edit")).to_be_checked()
    until(lambda: page.evaluate("document.getElementById('picture').getAttribute('aria-label')"), "The picture to edit")
    page.get_by_role("radio", name="Words").focus()
    press("ArrowRight")
    expect(page.get_by_role("radio", name="Mask")).to_be_checked()
    expect(page.get_by_role("radio", name="Mask")).to_be_focused()
    page.locator("#overlay").focus()
    for key in ("ArrowLeft", "ArrowUp", " "):
        press(key)
    until(lambda: fake.jobs[-1]["task"], "inpaint")
    press("]")
    expect(page.get_by_label("Brush", exact=True).and_(page.locator("input[type=range]"))).to_have_value("12")
    press("e")
    expect(page.get_by_role("radio", name="Erase")).to_be_checked()
    press("x")
    expect(page.locator("#picture")).to_have_attribute("aria-label", "The picture to edit")
    press("1")
    press("z")
    press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    press("?")
    expect(page.locator("#help")).to_be_visible()
    page.get_by_label("Single letters are shortcuts").uncheck()
    press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.evaluate("document.activeElement.blur()")
    press("2")
    expect(page.get_by_role("radio", name="Draw")).to_be_checked()
