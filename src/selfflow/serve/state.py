"""What all parts of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field

from selfflow.serve.jobs import Worker
from selfflow.serve.limits import Buckets, Limits
from selfflow.serve.metrics import Metrics
from selfflow.serve.model import Model
from selfflow.serve.store import Store


@dataclass
class Server:
    """The model, the thread that owns it, what is kept, and the bounds."""

    model: Model
    store: Store
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    worker: Worker = field(init=False)
    buckets: Buckets = field(init=False)
    sockets: int = 0

    def __post_init__(self) -> None:
        self.worker = Worker(self.limits)
        self.buckets = Buckets(self.limits.rate, self.limits.burst)
        self.metrics.watch("selfflow_store_bytes", "Bytes of assets kept", lambda: float(self.store.bytes))
        self.metrics.watch(
            "selfflow_jobs_waiting", "API requests that wait", lambda: float(self.worker.patient_waiting)
        )
        self.metrics.watch("selfflow_busy", "1 while the model works", lambda: float(self.worker.busy))
