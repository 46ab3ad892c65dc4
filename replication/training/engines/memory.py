"""How much memory a run takes on a device, at the most, from its network and its images alone."""

import dataclasses

import torch
from torch import nn

from replication.data.splits import Split
from replication.run import Run
from replication.training.engines.member import HELD_BATCH
from replication.training.heads import Dropout, build
from replication.training.loop import PRECISIONS, batches

# cuBLAS keeps 32 MiB a stream (on compute capability 9.0), once outside a capture and once in its pool; cuDNN's
# workspaces and the allocator's rounding to segments of 2 and 20 MiB, which streams do not share, come on top. Measured
# with torch 2.11 on an H200, two runs on streams: each held 73 MiB (simple_cnn, 64 px) and 110 MiB (resnet34) more than
# its tensors.
WORKSPACES = 128 * 2**20
"""bytes that libraries and the GPU's allocator may take for one run that is captured on a stream of its own"""


def _traced(run: Run, split: Split) -> tuple[int, int, int]:
    """Numbers kept for the backward pass of one update, of the largest layer's output for one image, and of weights.

    Found without computing anything, on torch's `meta` device.
    """
    channels, pixels = split.train.images.shape[1:3]
    with torch.device("meta"):
        model = build(dataclasses.replace(run, init="random"), channels, pixels, split.n_classes)
        images = torch.empty(run.batch_size, channels, pixels, pixels)
    model.train()
    kept, largest = {}, [images[0].numel()]
    # `_cdata` is the storage's address: on the `meta` device `data_ptr()`, the public one, is 0 for all of them
    own = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, lest another one gets its address
        return tensor

    for layer in model.modules():
        if isinstance(layer, Dropout):
            layer.eval()  # its masks, which are small beside feature maps, cannot be drawn on no device
        if not list(layer.children()):
            layer.register_forward_hook(lambda _, __, out: largest.append(out[0].numel()))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        nn.functional.cross_entropy(model(images), torch.zeros(run.batch_size, dtype=torch.int64, device="meta"))
    numbers = sum(storage.nbytes() for storage in kept.values()) // images.element_size()
    return numbers, max(largest), sum(p.numel() for p in model.parameters())


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it arose from, says that the device has no memory left."""
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "ALLOC_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def bound(run: Run, split: Split, capture: bool = False) -> int:
    """Bytes that one run holds at the most while it trains beside others; n runs hold at most n times as many.

    With `capture` as on a GPU, where the state is kept twice while an update is captured. Runs that are stacked keep
    their weights and moments in their own place too.

    With numbers of s bytes (4; 8 in float64), P weights, batches of B images, A numbers kept for the backward pass and
    m in the largest layer's output for one image:

    s (4 P + max(A + 4 m B, 4 m T, 2 P)) + images + plan + logits, and s 3 P + logits where it is captured, and
    `WORKSPACES`

    - 4 P: weights, gradient and Adam's two moments; in half precision another half of it for copies;
    - A + 4 m B: an update, whose backward pass needs a few gradients of feature maps at a time;
    - 4 m T: a test on T = `HELD_BATCH` images at a time; 2 P: Adam at work; both when the update has left its memory;
    - images: all of them, one byte a value; plan: 8 + 3 * 2 bytes an image and update (its number and its moves);
      logits: of all held-out images after every epoch.

    Not in it: what libraries take once for all runs.
    """
    size = torch.finfo(PRECISIONS[run.precision]).bits // 8
    numbers, largest, weights = _traced(run, split)
    plan = batches(run, split.train.labels)
    drawn = sum(epoch.size for epoch in plan)
    n_held = len(split.validation.labels) + len(split.test.labels)
    images = sum(part.images.nbytes for part in (split.train, split.validation, split.test))
    passes = numbers + 4 * largest * run.batch_size, 4 * largest * min(HELD_BATCH, n_held), 2 * weights
    state = 4 * weights + max(passes)
    half = 2 * weights if run.precision == "bfloat16" else 0
    logits = size * len(plan) * n_held * split.n_classes
    captured = size * 3 * weights + logits + WORKSPACES if capture else 0
    return size * state + half + images + (8 + 3 * 2) * drawn + logits + captured
