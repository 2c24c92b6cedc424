"""The studio in a browser on the real server, a tiny model of random weights behind it: every job, there and back."""

import re
import time

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
pytest.importorskip("fastapi", reason="the server needs: pip install 'selfflow[serve]'")

from selfflow.serve.app import build  # noqa: E402
from serve_toys import live, tiny_server  # noqa: E402
from studio_browser import CHROMIUM, launch  # noqa: E402

if CHROMIUM is None:
    pytest.skip("the browser tests need chromium: apt-get install chromium", allow_module_level=True)

expect = playwright.expect


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    server = tiny_server(tmp_path_factory.mktemp("data"))
    with live(build(server)) as address, playwright.sync_playwright() as play:
        browser = launch(play)
        page = browser.new_context(reduced_motion="reduce").new_page()
        page.set_default_timeout(20_000)
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.goto(address)
        expect(page.get_by_role("radio", name="Draw")).to_be_attached(timeout=20_000)
        yield page
        browser.close()
        assert not complaints


def made(page, task, prompt, entries):
    """The result of that job is on the stage, and Enter keeps it."""
    page.locator("#prompt").fill(prompt)
    expect(page.locator("#picture")).to_have_attribute("aria-label", f"{task}: {prompt}", timeout=20_000)
    expect(page.locator("#frame")).to_have_attribute("aria-busy", "false", timeout=20_000)
    expect(page.locator("#frame")).to_have_attribute("data-stage", "final")
    page.locator("#prompt").press("Enter")
    expect(page.locator("#strip li")).to_have_count(entries, timeout=20_000)


def test_every_kind_of_job_goes_there_and_back(page):
    made(page, "picture", "a red ball", 1)
    expect(page.locator("#latency")).to_contain_text("to picture")
    assert page.locator("#picture").evaluate("c => [c.width, c.height]") == [16, 16]
    page.get_by_role("button", name="Use as reference").click()
    made(page, "edit", "a blue ball", 2)
    page.get_by_role("radio", name="Edit").check()
    expect(page.locator("#picture")).to_have_attribute("aria-label", "The picture to edit")
    made(page, "edit", "make it green", 3)
    page.get_by_role("radio", name="Mask").check()
    page.locator("#overlay").press(" ")
    made(page, "inpaint", "a box", 4)
    page.get_by_role("radio", name="Grow").check()
    page.get_by_role("slider", name="Grow right").press("ArrowRight")
    made(page, "outpaint", "a ball", 5)
    assert page.locator("#picture").evaluate("c => [c.width, c.height]") == [24, 16]
    page.get_by_role("radio", name="Motion").check()
    page.get_by_label("With sound").check()
    made(page, "clip+sound", "a ball", 6)
    page.get_by_role("button", name="Continue the clip").click()
    expect(page.locator("#strip li")).to_have_count(7, timeout=20_000)
    page.get_by_role("button", name="Give it sound").click()
    expect(page.locator("#strip li")).to_have_count(8, timeout=20_000)
    expect(page.locator("#player")).to_have_class(re.compile("heard"))
    page.get_by_role("radio", name="Sound").check()
    made_sound = page.locator("#strip .sound")
    page.locator("#prompt").fill("red")
    expect(page.locator("#player")).to_be_visible(timeout=20_000)
    page.locator("#prompt").press("Enter")
    expect(made_sound).to_have_count(1, timeout=20_000)


def test_downloads_carry_settings_and_history_survives_a_reload(page):
    page.reload()
    expect(page.locator("#strip li")).to_have_count(9)
    page.locator("#strip").get_by_label("picture: a red ball").click()
    expect(page.locator("#prompt")).to_have_value("a red ball")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    from PIL import Image

    with Image.open(download.value.path()) as picture:
        assert picture.text["prompt"] == "a red ball"


def test_words_typed_while_an_edit_is_kept_are_of_the_next_one(page):
    page.get_by_role("radio", name="Edit").check()
    page.get_by_role("radio", name="Words").check()  # the tool that was chosen before, Grow, outlived the reload
    page.locator("#prompt").fill("make it blue")
    expect(page.locator("#picture")).to_have_attribute("aria-label", "edit: make it blue", timeout=20_000)
    expect(page.locator("#frame")).to_have_attribute("data-stage", "final", timeout=20_000)
    expect(page.locator("#frame")).to_have_attribute("aria-busy", "false", timeout=20_000)
    held = []
    page.route("**/assets/**", lambda route: held.append(route))  # the picture that was kept is long in coming
    page.locator("#prompt").press("Enter")
    expect(page.locator("#strip li")).to_have_count(10, timeout=20_000)
    page.locator("#prompt").fill("and green")
    expect(page.locator("#picture")).to_have_attribute("aria-label", "edit: and green", timeout=20_000)
    expect(page.locator("#frame")).to_have_attribute("data-stage", "final", timeout=20_000)
    assert held
    for route in held:
        route.continue_()
    page.unroute("**/assets/**")
    expect(page.locator("#strip li")).to_have_count(11, timeout=20_000)  # kept, as nothing changes any more
    expect(page.locator("#picture")).to_have_attribute("aria-label", "edit: and green")
    expect(page.locator("#prompt")).to_have_value("and green")


def steered(page, key):
    """What is seen changes while a key is held."""
    page.keyboard.down(key)
    end, first = time.monotonic() + 20, None
    while True:
        seen = page.locator("#real").evaluate("c => c.toDataURL()")
        first = first or seen
        if seen != first:
            break
        assert time.monotonic() < end, f"nothing moved while {key} was held"
    page.keyboard.up(key)


@pytest.mark.parametrize(("world", "needs"), [("Sprites", "the data pack lpc64"), ("PushT", "the extra `world`")])
def test_other_worlds_are_driven(page, world, needs):
    page.get_by_role("radio", name="Worlds").check()
    place = page.get_by_role("radio", name=world)
    if not place.count():
        pytest.skip(f"the world {world} needs {needs}")
    place.check()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#readout")).to_contain_text("frames a second", timeout=20_000)
    steered(page, "ArrowUp")
    steered(page, "ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("dream", timeout=20_000)
    assert page.locator("#dream").evaluate("c => [c.width, c.height]") == [16, 16]
    page.get_by_role("button", name="Stop").click()


def test_worlds_turn_and_the_policy_acts(page):
    if not page.evaluate("fetch('/api/model').then(r => r.json()).then(m => m.worlds.length * m.policies.length)"):
        pytest.skip("the worlds need: pip install 'selfflow[world]'")
    page.get_by_role("radio", name="Worlds").check()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#readout")).to_contain_text("frames a second", timeout=20_000)
    steered(page, "ArrowRight")
    page.get_by_role("radio", name="Instruct").check()
    page.get_by_role("button", name="Carry out").click()
    expect(page.locator("#readout")).to_contain_text("step", timeout=20_000)
    expect(page.locator("#plan circle")).not_to_have_count(0, timeout=20_000)
    page.get_by_role("button", name="Stop").click()
