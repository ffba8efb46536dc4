"""The process group of a run in several processes, and what the Trainer is told of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import distributed as dist

from retable.training import data_parallel
from retable.util.errors import UserError

SILENCE_S = 600.0
"""Longest time that the processes wait for one of them; what they do apart takes less."""

_c10d = cast("Any", dist)  # its stores are public in its documentation, but not in its types
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


class _Given(ClusterEnvironment):
    """Processes that are there already and know each other: Lightning is to look for nothing."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return ""  # not used: the group is there before Lightning asks for one

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self._rank


def listen() -> Any:
    """A store where the others will find this process; the port is one that is free."""
    return _c10d.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)


def connect(host: str, port: int) -> Any:
    """The store that another process listens with."""
    return _c10d.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=60))


def check_index(index: int) -> None:
    """See that there is a GPU for this process.

    Raises:
        UserError: where there is none of that number.
    """
    count = torch.cuda.device_count()
    if index >= count:
        has = "1 GPU" if count == 1 else f"{count} GPUs"
        raise UserError(f"device.devices: this machine has {has}, too few for its processes")


@contextmanager
def joined(rank: int, size: int, store: Any, device: str, index: int) -> Generator[dict[str, Any]]:
    """Be in the group; gives the options of the Trainer.

    Args:
        rank: number of this process.
        size: of the group.
        store: that all of them reach.
        device: type of the devices.
        index: of the own device.

    Raises:
        UserError: where there is no such device.
    """
    more: dict[str, Any] = {}
    if device == "cuda":
        check_index(index)
        torch.cuda.set_device(index)
        more["device_id"] = torch.device("cuda", index)
    dist.init_process_group(
        _BACKENDS[device],
        store=_c10d.PrefixStore("run", store),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=SILENCE_S),
        **more,
    )
    try:
        with data_parallel.use(data_parallel.Ranks(rank, size)):
            yield {
                "devices": [index] if device == "cuda" else 1,
                "num_nodes": size,
                # With unused ones DDP keeps its buckets as they are, which makes resuming exact:
                # else the order in which more than two numbers are added depends on the step.
                "strategy": data_parallel.Split(find_unused_parameters=True),
                "plugins": [_Given(rank, size)],
                "use_distributed_sampler": False,
            }
    finally:
        dist.destroy_process_group()


def is_of_connection(error: BaseException) -> bool:
    """Whether an error says that another process does not answer, rather than what is wrong."""
    following: BaseException | None = error
    while following is not None:
        if isinstance(following, dist.DistError):
            return True
        if isinstance(following, RuntimeError) and "gloo" in str(following):
            return True
        following = following.__cause__ or following.__context__
    return False
