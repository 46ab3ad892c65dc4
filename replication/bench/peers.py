"""Who is compared: every peer by name, with what it needs and how many runs it trains at the same time."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from replication.bench.framework_peers import fastai, lightning
from replication.bench.jax_peer import jax_vmap
from replication.bench.ours import ours, ours_loop, together
from replication.bench.torch_peers import compiled, dataloader, dataloader_processes, in_memory
from replication.bench.workloads import Finished, Workload
from replication.run import Run
from replication.running.processes import cores
from replication.training.engines.lockstep import WAYS


@dataclass(frozen=True)
class Peer:
    """A way to train runs: `train(runs, device, finished)`."""

    train: Callable[[Sequence[Run], str, Finished], None]
    together: str = "one"
    """runs trained at the same time: `one`, `cores` (one per core) or `half` of all"""
    needs: tuple[str, ...] = ()
    """packages beyond this project's own"""
    precision: str = "float32"

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def runs(self, workload: Workload, device: str) -> int:
        """Runs that are timed: the first of them cold."""
        tiny, large = workload.name == "digits", workload.cpu_epochs == 1
        if self.together == "cores":
            return (20 if tiny else 3) * cores()
        if self.together == "half":
            return 20 if device == "cuda" or tiny else 4
        return 10 if tiny else 2 if large and device == "cpu" else 3

    def at_once(self, workload: Workload, device: str) -> int:
        """How many of these are trained at the same time."""
        return {"one": 1, "cores": cores(), "half": self.runs(workload, device) // 2}[self.together]


def peers(device: str) -> dict[str, Peer]:
    """All peers on a device, ours first."""
    many = "cores" if device == "cpu" else "half"
    return {
        "ours": Peer(ours, many),
        "ours_bfloat16": Peer(ours, many, precision="bfloat16"),
        "ours_loop": Peer(ours_loop),
        **{f"ours_{way}": Peer(partial(together, way=way), "half") for way in WAYS},
        "fastai": Peer(fastai, needs=("fastai",)),
        "dataloader": Peer(dataloader),
        "dataloader_processes": Peer(dataloader_processes, "cores"),
        "in_memory": Peer(in_memory),
        "compiled": Peer(compiled),
        "lightning": Peer(lightning, needs=("lightning",)),
        "jax_vmap": Peer(jax_vmap, "half", needs=("jax", "flax", "optax")),
    }
