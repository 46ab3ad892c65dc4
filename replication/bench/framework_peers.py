"""Training by fastai and by Lightning, with the settings that their documentation starts from."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from replication.bench.torch_peers import held_set, network, train_set
from replication.bench.workloads import Finished
from replication.data.augmentation import reach
from replication.data.splits import split
from replication.run import Run


def fastai(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """A DataBlock of images with fastai's own transforms and loaders, and `fit_one_cycle`."""
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401, they give Learner no_bar and fit_one_cycle
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import IndexSplitter, Normalize
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.augment import CropPad, FlipItem, PadMode, RandomCrop
    from fastai.vision.core import PILImage, PILImageBW
    from fastai.vision.data import ImageBlock

    for run in runs:
        parts = split(run)
        everything = (parts.train, parts.validation, parts.test)
        images = np.concatenate([part.images for part in everything]).transpose(0, 2, 3, 1)
        labels = np.concatenate([part.labels for part in everything])
        channels, pixels = images.shape[-1], images.shape[1]
        if channels == 1:
            images = images[..., 0]
        shift = [CropPad(pixels + 2 * reach(pixels), pad_mode=PadMode.Reflection), RandomCrop(pixels)]
        block = DataBlock(
            blocks=(ImageBlock(PILImage if channels == 3 else PILImageBW), CategoryBlock(list(range(parts.n_classes)))),
            get_x=images.__getitem__,
            get_y=labels.__getitem__,
            splitter=IndexSplitter(range(len(parts.train.labels), len(labels))),
            item_tfms=[FlipItem(), *shift] if parts.augment else None,
            batch_tfms=Normalize.from_stats([0.5] * channels, [0.5] * channels, cuda=device == "cuda"),
        )
        loaders = block.dataloaders(range(len(labels)), bs=run.batch_size, device=torch.device(device))
        learn = Learner(loaders, network(run, parts, device), loss_func=CrossEntropyLossFlat())
        if run.precision == "bfloat16":
            learn = learn.to_bf16()
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(run.epochs, run.learning_rate)
        finished(1)


def lightning(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """A LightningModule and a Trainer that keeps no logs and no checkpoints, over the DataLoaders of `dataloader`."""
    import logging

    import lightning as L

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(L.LightningModule):
        def __init__(self, run: Run, model: nn.Module, updates: int):
            super().__init__()
            self.run_, self.model, self.updates = run, model, updates

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.model(batch[0])

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=self.run_.learning_rate)
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.run_.learning_rate, total_steps=self.updates + 1
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    for run in runs:
        parts = split(run)
        options = {"num_workers": 2, "persistent_workers": True, "pin_memory": device == "cuda"}
        train = DataLoader(train_set(parts), run.batch_size, shuffle=True, drop_last=True, **options)
        test = DataLoader(held_set(parts), run.batch_size, **options)
        trainer = L.Trainer(
            max_epochs=run.epochs,
            accelerator=device,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            precision="bf16-mixed" if run.precision == "bfloat16" else "32-true",
        )
        trainer.fit(Module(run, network(run, parts, device), len(train) * run.epochs), train, test)
        finished(1)
