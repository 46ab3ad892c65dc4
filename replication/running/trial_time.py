"""How long a trial will take, by what one core does in a second."""

import time

from replication.analysis.choices import ARMS
from replication.data.loading import load
from replication.data.settings import setting as setting_of
from replication.run import Run
from replication.running.processes import cores
from replication.running.trial import Trial
from replication.study.design import BASE_UPDATES, pilot_seeds
from replication.study.networks import network as network_of
from replication.study.rates import grid_of

HEADS_A_SECOND = 25
"""heads a core trains and scores a second; a guess for what is printed beforehand"""
PAGE = 15
"""seconds that the page takes"""


def expected(trial: Trial, device: str) -> float:
    """Seconds that the rest will take: what one core does a second is measured, the number of trainings is known.

    Three times the work of a forward pass is a training step's.
    """
    import numpy as np
    import torch

    from replication.training.features import Features, labels_of, pooled
    from replication.training.heads import build

    run = Run(setting=trial.setting, **network_of(trial.network).factors(trial.setting))
    source = load(setting_of(trial.setting).source, setting_of(trial.setting).pixels)
    body = build(run, *source.images.shape[1:3], 2).body.eval()
    where = torch.device(device)
    body = body.to(where, memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(2):
            start = time.perf_counter()
            pooled(body, np.array(source.images[:24]), where, run.input_side)
            second = min(24, len(source.images)) / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    workers = cores() if device == "cpu" else 1
    pilots = len(ARMS) * len(pilot_seeds(trial.network)) * len(grid_of(trial.network)) * 1.2
    trainings = pilots + len(ARMS) * trial.seeds
    if run.trained == "head":
        features = Features.of(run, body)
        left = sum(len(features.members(*block)) for block in features.missing(labels_of([run])))
        return 2 * left / second / workers + trainings / HEADS_A_SECOND / workers + PAGE
    n = trial.sizes.n_majority + trial.sizes.n_minority
    held = 2 * trial.sizes.test + sum(trial.sizes.validation)
    images = 3 * BASE_UPDATES * run.batch_size + run.epochs * held + 2 * (n + held)
    return trainings * images / second / workers + PAGE
