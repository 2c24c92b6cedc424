"""Where a maker stands: what the tools act on, what a reload and a way through the modes find, what history can reach.

The server is `studio_fake`, in a browser as in `test_studio_browser.py`.
"""

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
pytest.importorskip("uvicorn", reason="the browser tests need: pip install 'selfflow[serve]'")

import numpy as np  # noqa: E402

import studio_browser  # noqa: E402
from studio_browser import CHROMIUM, draw, final, keep, mode, type_prompt, until  # noqa: E402
from studio_fake import png  # noqa: E402

if CHROMIUM is None:
    pytest.skip("the browser tests need chromium: apt-get install chromium", allow_module_level=True)

expect = playwright.expect
served = pytest.fixture(scope="module")(studio_browser.served)
browser = pytest.fixture(scope="module")(studio_browser.browser)
fake = pytest.fixture(studio_browser.fake)
visit = pytest.fixture(studio_browser.visit)


@pytest.fixture
def page(visit):
    return visit()


def labelled(page, text):
    expect(page.locator("#picture")).to_have_attribute("aria-label", text)


def tool(page, name):
    return page.locator("#tools").get_by_role("button", name=name)


def pictures(fake):
    """The hash of every entry's picture, oldest first."""
    return [entry["parts"][0]["hash"] for entry in fake.entries]


def slots(page):
    return [address.split("/")[-1] for address in page.locator("#slots img").evaluate_all("all => all.map(i => i.src)")]


def edited(page):
    """A picture and an edit of it in history, in Edit with the edit's words."""
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    type_prompt(page, "make it blue")
    labelled(page, "edit: make it blue")
    keep(page, 2)
    page.locator("#strip button").first.click()
    labelled(page, "make it blue")


def test_tools_act_on_the_picture_to_edit_while_that_is_shown(page, fake):
    edited(page)
    red, _ = pictures(fake)
    type_prompt(page, "")
    labelled(page, "The picture to edit")
    tool(page, "Use as reference").click()
    until(lambda: slots(page), [red])
    with page.expect_download() as download:
        tool(page, "Download").click()
    assert fake.entries[0]["id"] in download.value.url
    tool(page, "Remove from history").click()
    expect(page.locator("#strip button")).to_have_count(1)
    expect(page.locator("#strip button")).to_have_attribute("aria-label", "edit: make it blue")
    expect(tool(page, "Remove from history")).to_be_disabled()
    page.get_by_role("button", name="Put back").click()
    tool(page, "Animate this").click()
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["source"]), ("animate", red))
    assert fake.jobs[-1]["parent"] == fake.entries[0]["id"]


def test_a_picture_from_elsewhere_is_not_taken_for_the_last_of_history(page, fake, tmp_path):
    from PIL import Image

    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    labelled(page, "The picture to edit")
    before = set(fake.assets)
    Image.new("RGB", (32, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Edit another picture").click()
    chooser.value.set_files(tmp_path / "blue.png")
    expect(tool(page, "Remove from history")).to_be_disabled()
    expect(tool(page, "Download")).to_be_disabled()
    (given,) = set(fake.assets) - before
    tool(page, "Use as reference").click()
    until(lambda: slots(page), [given])
    tool(page, "Animate this").click()
    until(lambda: (fake.jobs[-1]["source"], fake.jobs[-1]["parent"]), (given, None))


def test_a_mask_on_its_way_to_the_server_does_not_come_after_clear(page, fake):
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    mode(page, "Mask")
    held = []
    page.route("**/api/assets", lambda route: held.append(route))
    page.locator("#overlay").focus()
    page.keyboard.press(" ")
    until(lambda: page.wait_for_timeout(20) or len(held), 1)
    page.get_by_role("button", name="Clear mask").click()
    with page.expect_response("**/api/assets"):
        held[0].continue_()
    page.wait_for_timeout(100)
    assert [job["task"] for job in fake.jobs] == ["picture"]


def test_references_bear_the_numbers_that_the_model_counts(page, fake):
    draw(page, "a red ball", entries=1)
    page.evaluate(
        """hash => {
          const kept = JSON.parse(localStorage.getItem('selfflow.studio'));
          const references = Array.from({length: 9}, (_, i) => ({hash, on: i !== 1}));
          localStorage.setItem('selfflow.studio', JSON.stringify({...kept, references}));
        }""",
        pictures(fake)[0],
    )
    page.reload()
    numbers = page.locator("#slots .number")
    expect(numbers).to_have_text([str(i) for i in range(1, 9)])
    expect(page.locator("#slots li").nth(2)).to_have_attribute("aria-label", "Reference 3 of 9, on, picture 2")
    expect(page.locator(".slot.free")).to_be_visible()
    mode(page, "Edit")
    expect(numbers).to_have_text([str(i) for i in range(2, 10)])
    expect(page.locator("#slots li").nth(1)).to_have_attribute("aria-label", "Reference 2 of 9, off")
    expect(page.locator(".slot.free")).to_be_hidden()  # with the picture to edit there are ten


# ------------------------------------------------------------------------------------------------ reloads and ways back


def here(page, label, entries):
    """We stand at that entry, and Enter files no other."""
    final(page)
    current = page.locator("#strip [aria-current]")
    expect(current).to_have_attribute("aria-label", label)
    page.locator("#prompt").press("Enter")
    page.wait_for_timeout(200)
    expect(page.locator("#strip li")).to_have_count(entries)
    expect(current).to_have_attribute("aria-label", label)


def test_a_reload_and_a_way_back_to_a_mode_file_nothing_twice(page, fake):
    draw(page, "a red ball", entries=1)
    page.reload()
    labelled(page, "picture: a red ball")
    here(page, "picture: a red ball", 1)
    mode(page, "Sound")
    type_prompt(page, "a metal cup")
    expect(page.locator("#frame")).to_have_attribute("data-state", "heard")
    keep(page, 2)
    page.reload()
    expect(page.locator("#frame")).to_have_attribute("data-state", "heard")
    mode(page, "Draw")
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["parent"]), ("picture", fake.entries[0]["id"]))
    here(page, "picture: a red ball", 2)
    mode(page, "Edit")
    type_prompt(page, "make it blue")
    labelled(page, "edit: make it blue")
    keep(page, 3)
    mode(page, "Draw")
    labelled(page, "picture: a red ball")
    final(page)
    mode(page, "Edit")
    type_prompt(page, "make it blue")  # of the same picture again
    labelled(page, "edit: make it blue")
    final(page)
    expect(page.locator("#strip [aria-current]")).to_have_attribute("aria-label", "edit: make it blue")
    page.locator("#prompt").press("Enter")
    expect(page.locator("#prompt")).to_have_value("")
    assert len(fake.entries) == 3


def test_a_reload_does_not_take_the_words_of_a_mask_for_an_edit(page, fake):
    draw(page, "a red ball", entries=1)
    mode(page, "Edit")
    mode(page, "Mask")
    page.locator("#overlay").focus()
    page.keyboard.press(" ")
    type_prompt(page, "a yellow ball")
    labelled(page, "inpaint: a yellow ball")
    page.reload()
    expect(page.get_by_role("radio", name="Mask")).to_be_checked()
    labelled(page, "The picture to edit")
    page.wait_for_timeout(100)
    assert {job["task"] for job in fake.jobs} == {"picture", "inpaint"}


def test_an_edit_hangs_under_its_picture_after_a_reload_and_a_drag(page, fake):
    draw(page, "a red ball", entries=1)
    red = fake.entries[0]["id"]
    mode(page, "Edit")
    labelled(page, "The picture to edit")
    page.reload()
    labelled(page, "The picture to edit")
    type_prompt(page, "make it blue")
    until(lambda: fake.jobs[-1]["parent"], red)
    mode(page, "Motion")
    page.locator("#strip button").last.drag_to(page.locator("#frame"))
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["parent"]), ("animate", red))
    page.evaluate("localStorage.removeItem('selfflow.studio')")
    page.reload()
    mode(page, "Edit")
    expect(page.locator("#invitation")).to_contain_text("Drop or paste")
    page.locator("#strip button").last.drag_to(page.locator("#frame"))
    labelled(page, "The picture to edit")
    type_prompt(page, "make it green")
    until(lambda: (fake.jobs[-1]["task"], fake.jobs[-1]["parent"]), ("edit", red))


# ---------------------------------------------------------------------------------------------------------- old history


def test_history_is_reached_to_its_end_by_undo_and_after_a_removal(visit, fake):
    part = {"name": "picture", "mime": "image/png", "width": 8, "height": 8}
    part["hash"] = fake.store(png(np.zeros((8, 8, 3), np.uint8)), "image/png")
    settings = {"seed": 7, "steps": 8, "guidance": 2.0, "width": 64, "height": 64}
    for i in range(103):
        entry = {"id": f"e{i}", "created": i, "parent": f"e{i - 1}" if i else None, "task": "picture", "parts": [part]}
        fake.entries.append({**entry, "settings": {**settings, "prompt": f"number {i}"}})
    page = visit()
    strip = page.locator("#strip button")
    expect(strip).to_have_count(100)
    strip.first.press("Delete")
    expect(strip).to_have_count(99)
    strip.last.dispatch_event("click")  # without scrolling there
    labelled(page, "number 3")
    tool(page, "Undo").click()
    labelled(page, "number 2")
    expect(strip).to_have_count(102)
    for i in (1, 0):
        tool(page, "Undo").click()
        labelled(page, f"number {i}")
    expect(tool(page, "Undo")).to_be_disabled()
    page.reload()
    expect(strip).to_have_count(100)
    strip.first.press("Delete")
    expect(strip).to_have_count(99)
    page.locator("#strip").evaluate("strip => (strip.parentElement.scrollLeft = 1e6)")
    expect(strip).to_have_count(101)
