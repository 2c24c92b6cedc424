"""Who gets the model when: the latest wish wins, nobody starves, clients take turns. By events, without sleeping."""

import asyncio
import queue

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")

from selfflow.serve.jobs import Cancelled, Channel, Job, Worker
from selfflow.serve.limits import Bucket, Buckets, Limits, Refused
from selfflow.serve.outbox import Outbox

WAIT = 20  # seconds until a test that hangs fails


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Stepped(Job):
    """A job that does one step each time it is told to."""

    def __init__(self, name="", steps=4, final=True, told=None):
        self.name, self.steps, self.final = name, steps, final
        self.told = queue.Queue() if told is None else told
        self.go = queue.Queue()

    def run(self, pulse):
        for step in range(1, self.steps + 1):
            self.told.put((self.name, step))
            if self.go.get(timeout=WAIT) == "fail":
                raise ZeroDivisionError
            if pulse(step, self.steps, self.final):
                raise Cancelled
        self.told.put((self.name, "done"))

    def cancelled(self):
        self.told.put((self.name, "cancelled"))

    def failed(self, error):
        self.told.put((self.name, type(error).__name__))

    def said(self):
        return self.told.get(timeout=WAIT)

    def finish(self, steps=None):
        for _ in range(steps or self.steps):
            self.go.put("on")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def worker(clock):
    worker = Worker(Limits(waiting=4, waiting_each=3), clock).start()
    yield worker
    worker.close()
    assert not worker.thread.is_alive()


def begun(worker, channel, clock, job, after=1, seconds=1.0):
    """The job runs and has done `after - 1` steps, each of which took so many seconds."""
    worker.submit(channel, job)
    assert job.said() == (job.name, 1)
    for step in range(2, after + 1):
        clock.now += seconds
        job.go.put("on")
        assert job.said() == (job.name, step)
    clock.now += seconds


def test_the_latest_wins_and_each_of_the_others_is_told_once(worker, clock):
    channel, (a, b, c) = Channel("x", live=True), (Stepped(n) for n in "abc")
    begun(worker, channel, clock, a)
    worker.submit(channel, b)
    worker.submit(channel, c)
    assert b.said() == ("b", "cancelled")
    a.go.put("on")
    assert a.said() == ("a", "cancelled")
    c.finish()
    assert [c.said() for _ in range(5)] == [("c", 1), ("c", 2), ("c", 3), ("c", 4), ("c", "done")]
    assert a.told.empty()
    assert b.told.empty()


@pytest.mark.parametrize(
    ("after", "seconds", "final", "end"),
    [
        (1, 1.0, True, "cancelled"),
        (2, 1.0, True, "done"),  # half of its steps
        (1, 0.04, True, "done"),  # 120 ms to go
        (1, 0.06, True, "cancelled"),  # 180 ms to go
        (2, 0.01, False, "cancelled"),  # a quick pass is not worth waiting for
    ],
)
def test_what_is_nearly_done_is_let_through(worker, clock, after, seconds, final, end):
    channel, old, new = Channel("x", live=True), Stepped("old", final=final), Stepped("new")
    begun(worker, channel, clock, old, after, seconds)
    worker.submit(channel, new)
    old.finish()
    said = old.said()
    while said[1] not in ("cancelled", "done"):
        said = old.said()
    assert said == ("old", end)
    new.finish()
    assert new.said() == ("new", 1)


def test_who_types_on_and_on_sees_every_third_result(worker, clock):
    channel, ends = Channel("x", live=True), []
    job = Stepped("0")
    begun(worker, channel, clock, job)
    for number in range(1, 10):
        following = Stepped(str(number))
        worker.submit(channel, following)
        clock.now += 1
        job.finish()
        said = job.said()
        while said[1] not in ("cancelled", "done"):
            said = job.said()
        ends.append(said[1])
        assert following.said() == (str(number), 1)
        job = following
    assert ends == ["cancelled", "cancelled", "done"] * 3
    job.finish()


def test_clients_take_turns(worker, clock):
    told = queue.Queue()
    greedy, modest = Channel("greedy", live=False), Channel("modest", live=True)
    jobs = [Stepped(f"g{i}", steps=1, told=told) for i in range(3)] + [Stepped("m", steps=1, told=told)]
    for job in jobs[:3]:
        worker.submit(greedy, job)
    assert told.get(timeout=WAIT) == ("g0", 1)
    worker.submit(modest, jobs[3])
    for job in jobs:
        job.finish()
    order = [told.get(timeout=WAIT) for _ in range(7)]
    assert [name for name, what in order if what == "done"] == ["g0", "m", "g1", "g2"]


def test_the_queue_is_bounded_and_a_patient_job_is_never_replaced(worker, clock):
    first, a, b = Stepped(), Channel("a", live=False), Channel("b", live=False)
    begun(worker, a, clock, first)
    waiting = [Stepped(str(i), steps=1) for i in range(4)]
    for channel, job in zip((a, a, a, b), waiting, strict=True):
        worker.submit(channel, job)
    for channel in (a, b):
        with pytest.raises(Refused, match="4 requests are waiting"):
            worker.submit(channel, Stepped())
    for job in (first, *waiting):
        job.finish()
    for job in waiting:
        assert [job.said()[1], job.said()[1]] == [1, "done"]
    assert worker.patient_waiting == 0


def test_what_is_short_is_done_between_two_steps(worker, clock):
    job, channel = Stepped(), Channel("x", live=True)
    begun(worker, channel, clock, job)
    future = worker.soon(lambda: 7)
    broken = worker.soon(lambda: 1 / 0)
    assert not future.done()
    job.go.put("on")
    assert future.result(WAIT) == 7
    assert isinstance(broken.exception(WAIT), ZeroDivisionError)
    assert job.said() == ("", 2)
    job.finish()


def test_a_client_that_leaves_and_a_job_that_is_stopped_free_the_model(worker, clock):
    gone, waiting, next_one = Stepped("gone"), Stepped("waiting"), Stepped("next")
    channel, other = Channel("x", live=True), Channel("y", live=False)
    begun(worker, channel, clock, gone, after=3)
    worker.submit(channel, waiting)
    worker.submit(other, next_one)
    worker.leave(channel)
    gone.go.put("on")
    assert (gone.said(), waiting.said()) == (("gone", "cancelled"), ("waiting", "cancelled"))
    assert next_one.said() == ("next", 1)
    next_one.stop = True
    next_one.go.put("on")
    assert next_one.said() == ("next", "cancelled")
    with pytest.raises(Refused, match="closing"):
        worker.submit(channel, Stepped())


def test_a_job_that_fails_harms_no_other(worker, clock):
    channel, bad, good = Channel("x", live=False), Stepped("bad"), Stepped("good", steps=1)
    begun(worker, channel, clock, bad)
    worker.submit(channel, good)
    bad.go.put("fail")
    assert bad.said() == ("bad", "ZeroDivisionError")
    good.finish()
    assert [good.said()[1], good.said()[1]] == [1, "done"]


def test_closing_stops_what_runs_and_tells_what_waits(clock):
    worker = Worker(Limits(), clock).start()
    running, same, other = Stepped("a"), Stepped("b"), Stepped("c")
    x, y = Channel("x", live=False), Channel("y", live=True)
    begun(worker, x, clock, running, after=3)
    worker.submit(x, same)
    worker.submit(y, other)
    running.go.put("on")
    worker.close()
    last = running.said()
    assert last in (("a", "cancelled"), ("a", 4))  # stopped at once, or at the step it had begun
    running.finish()
    assert (same.said(), other.said()) == (("b", "cancelled"), ("c", "cancelled"))


# ------------------------------------------------------------------------------------------------------- several as one


class Alike(Stepped):
    """A job that may run with others of its kind, at the pace of the first."""

    company = 3

    def __init__(self, name, channel, kind="k", **given):
        super().__init__(name, **given)
        self.channel, self.kind = channel, kind

    @staticmethod
    def run_together(jobs, pulse):
        first = jobs[0]
        for step in range(1, first.steps + 1):
            first.told.put(("+".join(job.name for job in jobs), step))
            if first.go.get(timeout=WAIT) == "fail":
                raise ZeroDivisionError
            if pulse(step, first.steps, first.final):
                raise Cancelled
        gone = [job for job in jobs if pulse.gone(job.channel)]
        for job in jobs:
            if job not in gone:
                job.told.put((job.name, "done"))
        return gone


@pytest.fixture
def crowd(worker, clock):
    """Jobs of clients of their own that wait behind one that runs: `crowd(names, kinds)`; and what lets it end."""

    def gather(names, kinds):
        busy, told = Stepped("busy", steps=1), queue.Queue()
        begun(worker, Channel("busy", live=True), clock, busy)
        jobs = [Alike(n, Channel(n, live=True), k, steps=2, told=told) for n, k in zip(names, kinds, strict=True)]
        for job in jobs:
            worker.submit(job.channel, job)
        busy.go.put("on")
        return jobs, lambda: told.get(timeout=WAIT)

    return gather


def test_jobs_of_a_kind_run_as_one_whoever_waits_longest_first(crowd):
    jobs, said = crowd("abcdef", "kkxkkk")
    for job in jobs:
        job.finish()
    assert [said() for _ in range(12)] == [
        ("a+b+d", 1), ("a+b+d", 2), ("a", "done"), ("b", "done"), ("d", "done"),
        ("c", 1), ("c", 2), ("c", "done"),
        ("e+f", 1), ("e+f", 2), ("e", "done"), ("f", "done"),
    ]  # fmt: skip


def test_who_leaves_gets_nothing_and_holds_up_nobody(worker, crowd):
    (a, b, *_), said = crowd("abc", "kkk")
    assert said() == ("a+b+c", 1)
    worker.cancel(a.channel)
    following = Stepped("following", steps=1)
    worker.submit(b.channel, following)  # a newer wish waits for what is shared
    a.finish()
    assert [said() for _ in range(4)] == [("a+b+c", 2), ("b", "done"), ("c", "done"), ("a", "cancelled")]
    following.finish()
    assert following.said() == ("following", 1)


def test_what_nobody_wants_any_more_is_stopped(worker, crowd):
    jobs, said = crowd("ab", "kk")
    assert said() == ("a+b", 1)
    for job in jobs:
        worker.leave(job.channel)
    jobs[0].finish()
    assert [said(), said()] == [("a", "cancelled"), ("b", "cancelled")]


def test_what_fails_together_is_done_one_by_one(crowd):
    (a, b), said = crowd("ab", "kk")
    a.go.put("fail")
    a.go.put("fail")
    b.finish()
    assert [said() for _ in range(6)] == [
        ("a+b", 1), ("a", 1), ("a", "ZeroDivisionError"), ("b", 1), ("b", 2), ("b", "done"),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------- slow clients, rates


def test_a_slow_client_loses_guesses_never_results_and_is_asked_nothing_meanwhile():
    class Socket:
        def __init__(self):
            self.got, self.gate = [], asyncio.Event()

        async def send_text(self, message):
            await self.gate.wait()
            self.got.append(message)

    async def play():
        outbox, socket = Outbox(most=10), Socket()
        sending = asyncio.create_task(outbox.send(socket))
        outbox._post("first", False, False)
        await asyncio.sleep(0)  # the sender holds it
        await asyncio.sleep(0)
        for number in range(5):
            outbox._post(f"guess{number}", True, False)
        assert [m for m, _ in outbox.messages] == ["guess4"]  # the newest
        outbox._post("result-a", False, False)
        outbox._post("a guess that does not fit", True, False)
        outbox._post("result-b", False, False)
        assert not outbox.free.is_set()  # 16 bytes wait: nothing more is read from this client
        outbox._post("cancelled", False, True)
        socket.gate.set()
        await asyncio.wait_for(outbox.room(), WAIT)
        while len(socket.got) < 4:
            await asyncio.sleep(0)
        sending.cancel()
        return socket.got, outbox

    got, outbox = asyncio.run(play())
    assert got == ["first", "result-a", "result-b", "cancelled"]
    assert (outbox.dropped, outbox.bytes) == (6, 0)


def test_a_bucket_holds_its_burst_and_fills_at_its_rate(clock):
    bucket = Bucket(2.0, 3, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    clock.now += 1e6
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_are_apart_and_bounded(clock):
    buckets = Buckets(1.0, 1, most=2, clock=clock)
    assert [buckets.take(c) for c in "aabb"] == [0, 1, 0, 1]
    assert buckets.take("c") == 0
    assert set(buckets.found) == {"b", "c"}
