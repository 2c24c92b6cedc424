"""The studio for everyone: by finger, on a phone, by day and by night, and with nothing that axe-core objects to."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
pytest.importorskip("uvicorn", reason="the browser tests need: pip install 'selfflow[serve]'")

import studio_browser  # noqa: E402
from studio_browser import CHROMIUM, colour_name, draw, final, mode, type_prompt, until  # noqa: E402

if CHROMIUM is None:
    pytest.skip("the browser tests need chromium: apt-get install chromium", allow_module_level=True)

expect = playwright.expect
served = pytest.fixture(scope="module")(studio_browser.served)
browser = pytest.fixture(scope="module")(studio_browser.browser)
fake = pytest.fixture(studio_browser.fake)
visit = pytest.fixture(studio_browser.visit)
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


# ----------------------------------------------------------------------------------------------------------- by finger


def test_history_is_cleared_by_finger_and_what_went_comes_back(visit, fake):
    page = visit(**PHONE)
    draw(page, "a red ball", entries=1)
    draw(page, "a blue ball", entries=2)
    draw(page, "a green ball", entries=3)
    ids = [e["id"] for e in fake.entries]
    strip = page.locator("#strip [data-id]")
    strip.nth(1).tap()
    until(lambda: colour_name(page), "blue")
    page.get_by_role("button", name="Remove from history").tap()
    expect(strip).to_have_count(2)
    expect(page.get_by_role("button", name="Remove from history")).to_be_disabled()  # the stage is no entry now
    page.get_by_role("button", name="Put back").tap()
    expect(strip).to_have_count(3)
    expect(strip.nth(1)).to_have_attribute("aria-current", "true")
    assert [e["id"] for e in fake.entries] == ids  # the server was not told
    strip.nth(1).tap()
    page.get_by_role("button", name="Remove from history").tap()
    strip.nth(0).tap()
    page.get_by_role("button", name="Undo").tap()  # what came of it comes from where it came from
    until(lambda: colour_name(page), "red")
    page.reload()
    expect(strip).to_have_count(2)
    until(lambda: [e["id"] for e in fake.entries], [ids[0], ids[2]])


def test_by_key_the_neighbour_takes_over(visit, fake):
    page = visit()
    for i, colour in enumerate(("red", "blue", "green"), start=1):
        draw(page, f"a {colour} ball", entries=i)
    strip = page.locator("#strip [data-id]")
    strip.nth(1).focus()
    page.keyboard.press("Delete")
    expect(strip).to_have_count(2)
    expect(strip.nth(1)).to_be_focused()
    page.keyboard.press("Delete")
    until(lambda: len(fake.entries), 2)  # a second removal settles the first
    page.get_by_role("button", name="Put back").press("Enter")
    expect(strip).to_have_count(2)


def test_references_are_reordered_switched_and_removed_by_finger(visit, fake):
    page = visit(**PHONE)
    draw(page, "a red ball", entries=1)
    draw(page, "a blue ball", entries=2)
    page.locator("#unfold").tap()
    page.get_by_role("button", name="Pick from history").tap()
    for i in (0, 1):
        page.locator("#strip [data-id]").nth(i).tap()
    slots = page.locator("#slots [role=option]")
    expect(slots).to_have_count(2)
    page.get_by_role("button", name="Pick from history").tap()

    def asked():
        return [(r["hash"], r["on"]) for r in fake.jobs[-1]["references"]]

    until(lambda: len(asked()), 2)
    a, b = asked()
    slots.nth(1).tap()
    page.get_by_role("button", name="Move earlier").tap()
    until(asked, [b, a])
    page.get_by_role("button", name="Move later").tap()
    until(asked, [a, b])
    page.get_by_role("button", name="Switch off").tap()
    until(asked, [a, (b[0], False)])
    page.get_by_role("button", name="Remove reference").tap()
    expect(slots).to_have_count(1)
    until(asked, [a])


def test_on_a_phone_the_tools_of_a_mode_are_in_sight(visit, fake):
    page = visit(**PHONE)
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    expect(page.get_by_label("Steps")).to_be_hidden()  # settings are folded away
    mode(page, "Mask")
    box = page.locator("#overlay").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    type_prompt(page, "a blue ball")
    until(lambda: fake.jobs[-1]["task"], "inpaint")
    mode(page, "Motion")
    expect(page.get_by_label("With sound")).to_be_visible()


# ------------------------------------------------------------------------------------------------------- by every eye


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_to_object_to(visit, fake, width):
    """axe-core finds no violation in any mode, and no page is wider than its screen."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs: pip install axe-playwright-python"
    )
    page = visit(viewport={"width": width, "height": 844})
    page.evaluate(axe.Axe().axe_script)

    def clean(where):
        for scheme, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(
                """async options => (await axe.run(document, {resultTypes: ['violations'], ...options})).violations
                .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 160))])""",
                options,
            )
            assert not found, (where, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, where

    clean("empty")
    draw(page, "a red ball", entries=1)
    page.get_by_role("button", name="Use as reference").click()
    if width < 700:
        page.locator("#unfold").click()
    page.get_by_role("button", name="Pick from history").click()
    clean("draw, picking")
    page.keyboard.press("Escape")
    mode(page, "Edit")
    page.get_by_role("button", name="Before and after").click()
    clean("words")
    mode(page, "Mask")
    page.locator("#overlay").focus()
    page.keyboard.press(" ")
    final(page)
    clean("mask")
    mode(page, "Grow")
    clean("grow")
    mode(page, "Motion")
    type_prompt(page, "a red ball falls")
    page.get_by_label("With sound").check()
    expect(page.locator("#player")).to_have_class(re.compile("heard"))
    clean("motion")
    mode(page, "Sound")
    type_prompt(page, "a ball falls !fail")
    expect(page.locator("#notice")).to_contain_text("was refused")
    clean("sound, refused")
    type_prompt(page, "a ball falls")
    expect(page.locator("#frame")).to_have_attribute("data-state", "heard")
    clean("sound")
    mode(page, "Worlds")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#readout")).to_contain_text("frames a second")
    clean("worlds")
    mode(page, "Instruct")
    page.get_by_role("button", name="Carry out").click()
    expect(page.locator("#readout")).to_have_text("Done in 60 steps.")
    clean("robot")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    clean("shortcuts")
