"""Batches drawn by other processes: the same ones in the same order, however many there are and whatever happens."""

import json
import os
import signal
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from selfflow.data import DecodeError, Sample
from selfflow.data.loader import Loader
from selfflow.data.mixture import MixtureLoader
from selfflow.data.processes import ProcessLoader
from selfflow.data.streaming import StreamLoader
from selfflow.train.run import train
from test_train_mixture import losses, tiny


class Numbers:
    """Pictures that are their index; record 3 cannot be read, and record `fatal` is refused while a file is there."""

    def __init__(self, name, n=10, fatal=None, flag=""):
        self.name, self.n, self.fatal, self.flag = name, n, fatal, flag

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == 3:
            raise DecodeError(f"record {index} is broken")
        if index == self.fatal and os.path.exists(self.flag):
            raise OSError(f"disk of record {index} is gone")
        return Sample(f"{self.name}/{index}", np.full((2, 2, 3), index, np.uint8), str(os.getpid()))


def mixed(**options):
    loaders = [Loader(Numbers(name, **options), 2, seed=i) for i, name in enumerate("abc")]
    return MixtureLoader(loaders, [3, 2, 1], 4, seed=7, parts=2)


def single(**options):
    return Loader(Numbers("a", **options), 4, seed=1)


def drawn(make, processes):
    return ProcessLoader(make, make(), processes)


def take(loader, batches):
    return [next(loader).ids for _ in range(batches)]


def collect(loader, got, count):
    while len(got) < count:
        got.append(next(loader).ids)


@pytest.fixture
def closing():
    opened = []
    yield lambda loader: opened.append(loader) or loader
    for loader in opened:
        loader.close()


@pytest.mark.parametrize("make", [mixed, single])
def test_the_batches_are_those_of_one_process(make, closing):
    plain = make()
    whole = take(plain, 9)
    loader = closing(drawn(make, 2))
    assert take(loader, 5) == whole[:5]
    state = json.loads(json.dumps(loader.state_dict()))
    alone = make()
    alone.load_state_dict(state)  # a run goes on with another number of processes, or none
    assert take(alone, 4) == whole[5:]
    assert alone.state_dict() == plain.state_dict()
    assert take(loader, 2) == whole[5:7]
    loader.load_state_dict(state)  # what was drawn ahead is dropped
    assert take(loader, 4) == whole[5:]
    assert loader.state_dict() == plain.state_dict()  # broken records are counted, too
    assert plain.state_dict()["skipped"] > 0


def test_two_processes_draw_and_this_one_does_not(closing):
    loader = closing(drawn(single, 2))
    drawers = [{sample.text for sample in next(loader).samples} for _ in range(4)]
    assert all(len(pids) == 1 for pids in drawers)
    assert drawers[0] == drawers[2] != drawers[1] == drawers[3]
    assert str(os.getpid()) not in set().union(*drawers)


def test_an_error_is_told_and_loses_nothing(closing, tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    make = partial(single, fatal=8, flag=str(flag))
    loader, got = closing(drawn(make, 2)), []
    with pytest.raises(OSError, match="disk of record 8 is gone"):
        collect(loader, got, 20)
    flag.unlink()
    got += take(loader, 8 - len(got))
    assert got == take(single(), 8)


def test_a_killed_process_is_told_and_loses_nothing(closing):
    loader = closing(drawn(single, 1))
    got = take(loader, 2)
    os.kill(int(next(loader).samples[0].text), signal.SIGKILL)
    got.append(None)
    with pytest.raises(RuntimeError, match="exit code -9; is memory short"):
        collect(loader, got, 9)  # what it had handed over still comes
    got += take(loader, 8 - len(got))
    assert [g for g in got if g] == [w for i, w in enumerate(take(single(), 8)) if got[i]]


class Large(Numbers):
    """Batches larger than a pipe holds: a killed process leaves half of one."""

    def __getitem__(self, index):
        return Sample(f"{self.name}/{index}", np.full((64, 64, 3), index, np.uint8), str(os.getpid()))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_killed_in_the_middle_of_a_batch_is_told(closing, processes):
    loader = closing(drawn(large, processes))
    pid = int(next(loader).samples[0].text)
    time.sleep(0.5)  # it is writing by now, and waits for room
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exit code -9; is memory short"):
        collect(loader, [], 9)


def large():
    return Loader(Large("a", n=100), 32, seed=1)


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="0 processes"):
        drawn(single, 0)
    with pytest.raises(ValueError, match="StreamLoader reads in order"):
        ProcessLoader(single, StreamLoader.__new__(StreamLoader), 2)


def test_a_training_is_the_same_and_finds_what_was_drawn(tmp_path):
    config = tiny(steps=3, mixture=("tabletop-still:picture", "tabletop-clip:clip"))
    train(config, tmp_path / "plain", progress=False)
    with_processes = replace(config, data=replace(config.data, processes=1, cache=str(tmp_path / "cache")))
    train(with_processes, tmp_path / "drawn", progress=False)
    assert losses(tmp_path / "drawn") == losses(tmp_path / "plain")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert len(files) > 10
    train(with_processes, tmp_path / "again", progress=False)
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert losses(tmp_path / "again") == losses(tmp_path / "plain")
