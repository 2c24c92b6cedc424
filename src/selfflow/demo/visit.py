"""`./run demo` where weights are at hand: one model does every task, and a page shows it beside the truth."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from selfflow.bundled import PAINTER, bundled_model
from selfflow.card import terms
from selfflow.demo.exhibits import House
from selfflow.demo.gallery import page
from selfflow.demo.tour import tour
from selfflow.pipeline import Pipeline
from selfflow.release import EVALUATION
from selfflow.train.engine import fast_dtype
from selfflow.train.history import training


def visit(model: Path, to: Path, seed: int = 0, scale: float = 1.0) -> Path:
    """Have the model of a directory do everything, and write the page; returns its path.

    Args:
        seed: of noise and of what is asked.
        scale: share of the exhibits to make.

    Raises:
        FileNotFoundError, ValueError: for no model, or a damaged one.
    """
    begun = time.monotonic()
    pipe = Pipeline.from_pretrained(model, dtype=fast_dtype("cpu"))
    config = pipe.config
    alone = bundled_model(PAINTER)
    painter = Pipeline.from_pretrained(alone, dtype=fast_dtype("cpu")) if alone else None
    rooms = tour(pipe, seed, scale, painter=painter)
    history = training(model, config)
    licence, licences = terms(config, history)
    measured = model / EVALUATION
    house = House(
        config.name,
        sum(p.numel() for p in pipe.net.parameters()),
        config.picture.size,
        rooms,
        time.monotonic() - begun,
        licence,
        licences,
        history,
        json.loads(measured.read_text()) if measured.exists() else {},
    )
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.tmp")
    temporary.write_text(page(house), encoding="utf-8")
    os.replace(temporary, to)
    return to.resolve()
