"""What the studio asks for and waits for: `jobs.js` and `wire.js` in a browser, on a line of the test's own."""

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
pytest.importorskip("uvicorn", reason="the browser tests need: pip install 'selfflow[serve]'")

import studio_browser  # noqa: E402
from studio_browser import CHROMIUM  # noqa: E402

if CHROMIUM is None:
    pytest.skip("the browser tests need chromium: apt-get install chromium", allow_module_level=True)

served = pytest.fixture(scope="module")(studio_browser.served)
browser = pytest.fixture(scope="module")(studio_browser.browser)

# Pauses are a twentieth as long; `line` is a connection that notes what is sent, and says what it is told to.
TOOLS = """async () => {
  const real = setTimeout;
  globalThis.setTimeout = (act, ms) => real(act, ms / 20);
  globalThis.pause = (ms) => new Promise((done) => real(done, ms));
  const { state, set, setPrompt } = await import('/studio/state.js');
  const { Jobs } = await import('/studio/jobs.js');
  class Line extends EventTarget {
    up = true;
    sent = [];
    send(message) {
      if (this.up) this.sent.push(message);
      return this.up;
    }
    tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
    says(message) { this.tell('message', message); }
    async draws(id) {
      const parts = [{ name: 'picture', mime: 'image/rgb', width: 1, height: 1, data: new Uint8Array(3) }];
      const header = { type: 'result', id, task: 'picture', stage: 'final', final: true, ms: 1 };
      this.tell('parts', { header, parts });
      await pause(20);
    }
    kept(id) { this.says({ type: 'kept', id, entry: { id: `entry ${id}`, parts: [] } }); }
    falls() { this.up = false; this.tell('state', { state: 'waiting', wait: 1 }); }
    said() { return this.sent.map(({ type, id }) => `${type} ${id}`); }
  }
  set({ model: { tasks: ['picture'], size: 64, cell: 8, frames: 16, fps: 20, sampling: {}, limits: {} } });
  const line = new Line(), jobs = new Jobs(line);
  const wants = async (words) => {
    setPrompt(words);
    jobs.ask();
    await pause(40);
  };
  Object.assign(globalThis, { state, line, jobs, wants });
}"""


@pytest.fixture(scope="module")
def page(browser):
    return browser.new_page()


@pytest.fixture
def script(page, served):
    """Runs a scenario; what it returns."""
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(served[1] + "api/history")  # a page of the same origin in which nothing runs
    page.evaluate(TOOLS)
    done = "Promise.race([(async () => {{ {} }})(), pause(5000).then(() => 'nothing came of it')])"
    yield lambda code: page.evaluate(done.format(code))
    assert not complaints


def test_what_is_there_already_is_not_asked_for_again_and_still_kept(script):
    said = script(
        """await wants('a ball');
        await line.draws(1);
        await wants('a ball ');
        await pause(200);
        return line.said();"""
    )
    assert said == ["job 1", "keep 1"]


def test_what_a_pause_has_kept_is_what_enter_goes_on_from(script):
    said = script(
        """await wants('a ball');
        await line.draws(1);
        await pause(200);
        line.kept(1);
        const kept = await jobs.keep();
        await wants('a box');
        const next = jobs.keep();
        await line.draws(2);
        line.kept(2);
        return [kept?.id, (await next).id, ...line.said()];"""
    )
    assert said == ["entry 1", "entry 2", "job 1", "keep 1", "job 2", "keep 2"]


def test_what_came_too_fast_is_asked_again_though_the_refusal_has_no_number(script):
    """The server counts messages before it reads them, so it cannot say which one it refused."""
    said = script(
        """await wants('a cup');
        line.says({ type: 'error', id: null, code: 'rate_limited', message: 'slow down' });
        await pause(120);
        return line.sent.map(({ type, id, prompt }) => `${type} ${id} ${prompt}`);"""
    )
    assert said == ["job 1 a cup", "job 2 a cup"]


def test_a_refusal_of_another_message_asks_for_nothing(script):
    said = script(
        """await wants('a cup');
        line.says({ type: 'error', id: null, code: 'rate_limited', message: 'slow down' });
        await line.draws(1);
        await pause(50);
        const pending = jobs.pending;
        await pause(50);
        return [pending, ...line.said().filter((s) => s.startsWith('job'))];"""
    )
    assert said == [False, "job 1"]


def test_a_keep_that_came_too_fast_is_sent_again_and_nothing_is_drawn_anew(script):
    said = script(
        """await wants('a cup');
        await line.draws(1);
        const kept = jobs.keep();
        line.says({ type: 'error', id: null, code: 'rate_limited', message: 'slow down' });
        await pause(120);
        line.kept(1);
        return [(await kept).id, ...line.said()];"""
    )
    assert said == ["entry 1", "job 1", "keep 1", "keep 1"]


def test_a_keep_during_an_outage_is_made_good(script):
    """The server has forgotten what was not kept: the picture is made again, then kept."""
    said = script(
        """await wants('a box');
        await line.draws(1);
        line.falls();
        const kept = jobs.keep();
        const same = jobs.keep() === kept;
        line.up = true;
        jobs.again();
        line.says({ type: 'error', id: 1, code: 'not_found', message: 'no such result' });
        await line.draws(2);
        line.kept(2);
        return [same, (await kept).id, ...line.said()];"""
    )
    assert said == [True, "entry 2", "job 1", "keep 1", "job 2", "keep 2"]


def test_a_pause_that_fell_into_an_outage_keeps_too(script):
    said = script(
        """await wants('a hat');
        await line.draws(1);
        line.falls();
        await pause(150);
        line.up = true;
        jobs.again();
        return line.said();"""
    )
    assert said == ["job 1", "keep 1"]


def test_nobody_waits_for_ever_for_what_was_left_when_the_connection_fell(script):
    said = script(
        """await wants('a hat');
        await line.draws(1);
        const kept = jobs.keep().catch((error) => error.message);
        await wants('a cap');
        line.falls();
        return Promise.race([kept, pause(500)]);"""
    )
    assert said == "left"


def test_a_connection_that_is_closed_leaves_nothing_behind(script):
    said = script(
        """const timers = new Set(), [begin, end] = [setInterval, clearInterval];
        globalThis.setInterval = (...given) => { const id = begin(...given); timers.add(id); return id; };
        globalThis.clearInterval = (id) => { timers.delete(id); end(id); };
        let opened = 0;
        globalThis.WebSocket = class { static OPEN = 1; readyState = 1; constructor() { opened += 1; } close() {} };
        const { Wire } = await import('/studio/wire.js');
        const wire = new Wire('/ws/world');
        wire.connect();
        const during = timers.size;
        wire.close();
        dispatchEvent(new Event('online'));
        return [during, timers.size, opened];"""
    )
    assert said == [1, 0, 1]
