"""What is counted, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "selfflow_http_requests", "HTTP requests answered", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "selfflow_http_request_seconds", "Time to answer HTTP requests", ["route"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.jobs = Counter("selfflow_jobs", "Jobs of the model", ["task", "outcome"], registry=registry)
        self.job_seconds = Histogram(
            "selfflow_job_seconds", "Time the model spent on a finished job", ["task"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.answer_seconds = Histogram(
            "selfflow_answer_seconds", "From a job's arrival to its final result", ["task"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.world_frames = Counter("selfflow_world_frames", "Frames of worlds sent", ["world"], registry=registry)
        self.refused = Counter("selfflow_refused", "Requests refused", ["code"], registry=registry)
        self.sockets = Gauge("selfflow_websockets", "WebSockets open", ["path"], registry=registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
