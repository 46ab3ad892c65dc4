"""The course of the learning rate and of Adam's momentum over the updates of a run."""

import functools

import torch

from replication.limits import check_known
from replication.run import FINE_TUNE, SCHEDULES


@functools.cache
def schedule(name: str, peak: float, updates: int) -> tuple[tuple[float, float], ...]:
    """(learning rate, beta1) of every update: torch's OneCycleLR with its defaults, or both constant."""
    check_known("schedule", name, SCHEDULES)
    if name == "constant":
        return ((peak, 0.9),) * updates
    if name == FINE_TUNE:
        raise ValueError(f"schedule {name!r} trains all layers of a network one by one: `trained` must be 'all'")
    optimizer = torch.optim.Adam([torch.zeros(1)])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=updates)
    group, values = optimizer.param_groups[0], []
    for _ in range(updates):
        values.append((group["lr"], group["betas"][0]))
        optimizer.step()
        if len(values) < updates:
            cycle.step()
    return tuple(values)
