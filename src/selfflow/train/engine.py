"""The engine: which device, which precision, how many processes. The loop asks it and never looks itself.

One process, or many under `torchrun`, with torch's own DDP or FSDP2; a process finds out from torchrun's environment.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

Precision = Literal["auto", "bf16", "fp32"]
Parallel = Literal["auto", "ddp", "fsdp"]


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices faster than float32 ones: with AMX, or AVX512-BF16 other than Intel's.

    An Intel Xeon whose AMX is hidden from its guests was 1.4 times *slower* in bf16 than in float32 (docs/realtime.md).
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if "avx512" not in torch.backends.cpu.get_cpu_capability().lower():
        return False
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("amx_bf16")) or not str(found.get("cpu_name", "")).startswith("Intel")


def keep_memory() -> None:
    """Ask glibc to keep freed memory rather than hand each large tensor back to the kernel.

    A training step frees and takes the same few hundred tensors again; mapped anew, every page of them is cleared by
    the kernel first. Keeping them makes a CPU step about an eighth faster. Does nothing under another C library.
    """
    mmap_max, trim_threshold = -4, -1  # from malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass


def fast_dtype(device: str) -> torch.dtype:
    """What to compute in on a device: bf16 where its hardware multiplies it, else float32."""
    return torch.bfloat16 if device.startswith("cuda") or cpu_has_bf16() else torch.float32


class Engine:
    """Device, precision and process group of one run.

    Args:
        device: `"cpu"`, `"cuda"` or `"auto"`.
        precision: `"bf16"` autocast, `"fp32"`, or `"auto"`: bf16 where the hardware has it.
        parallel: how several processes share the work: `"ddp"`, `"fsdp"`, or `"auto"` (FSDP2 on GPUs, DDP on CPUs).
        threads: CPU threads for torch; 0 leaves torch's choice.
    """

    def __init__(
        self, device: str = "auto", precision: Precision = "auto", parallel: Parallel = "auto", threads: int = 0
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' was asked for, but torch sees no GPU; use --config.train.device cpu")
        self.world_size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        if kind == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            kind = f"cuda:{torch.cuda.current_device()}"
            torch.backends.cuda.matmul.allow_tf32 = True
        self.device = torch.device(kind)
        if self.world_size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        if self.device.type == "cpu":
            keep_memory()
        self.bf16 = precision == "bf16" or (precision == "auto" and fast_dtype(kind) == torch.bfloat16)
        self.parallel = ("fsdp" if self.device.type == "cuda" else "ddp") if parallel == "auto" else parallel

    @property
    def sharded(self) -> bool:
        return self.world_size > 1 and self.parallel == "fsdp"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def prepare(self, objective: nn.Module, partial: bool = False) -> nn.Module:
        """Place the objective on the device and share it out; returns what to call in the loop.

        `partial` says that a step may leave parameters unused, as one task of a network of many does.

        FSDP2 shards the student, its EMA and every other submodule alike, block by block, in place: the EMA update
        then stays local. DDP wraps the objective.
        """
        objective.to(self.device)
        if self.world_size == 1:
            return objective
        if self.parallel == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(
                objective, ids, broadcast_buffers=False, find_unused_parameters=partial
            )
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(self.device.type, (self.world_size,))
        for child in objective.children():
            for block in getattr(child, "blocks", ()):
                fully_shard(block, mesh=mesh)
            # A root would stay gathered until its backward pass, and the EMA never has one.
            fully_shard(child, mesh=mesh, reshard_after_forward=True)
            if hasattr(child, "read"):  # memory is read by itself where several passes share it
                register_fsdp_forward_method(child, "read")
        return objective

    @contextmanager
    def autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            yield

    @contextmanager
    def accumulating(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Skip the exchange of gradients in all but the last micro-batch of a step."""
        if isinstance(module, nn.parallel.DistributedDataParallel) and not last:
            with module.no_sync():
                yield
            return
        yield

    def clip(self, parameters: list[nn.Parameter], most: float) -> Tensor:
        """Clip the gradient's global norm; returns the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(parameters, most if most > 0 else float("inf"))
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values = values / self.world_size
        return values

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """True when any process says so: all must leave the loop at the same step."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def close(self) -> None:
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def describe(self) -> dict[str, Any]:
        return {
            "device": str(self.device),
            "name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else os.uname().machine,
            "precision": "bf16" if self.bf16 else "fp32",
            "processes": self.world_size,
            "parallel": self.parallel if self.world_size > 1 else "none",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
