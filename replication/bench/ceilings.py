"""The machine's best: operations per second of matrix products and convolutions, bytes per second of a copy."""

import time
from collections.abc import Callable

import torch

SIDES = (1024, 2048, 4096)
"""of the square matrices; on a GPU twice and four times as long too"""
CONVOLUTIONS = ((64, 64, 128, 16), (64, 32, 64, 32), (128, 256, 256, 16))
"""batch, input and output channels and pixels of 3x3 convolutions, channels last"""
SECONDS = 0.5
"""that each measurement takes at least"""


def _throughput(work: Callable[[], None], amount: float, cuda: bool) -> float:
    """`amount` a call, per second, over as many calls as fill `SECONDS` after a first one."""
    work()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for _ in range(8 if cuda else 1):
            work()
            calls += 1
        if cuda:
            torch.cuda.synchronize()
    return amount * calls / (time.perf_counter() - start)


def _product(side: int, dtype: torch.dtype, device: str) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return _throughput(lambda: torch.mm(a, b, out=out), 2 * side**3, device == "cuda")


def _convolution(n: int, inputs: int, outputs: int, pixels: int, dtype: torch.dtype, device: str) -> float:
    x, w = (
        torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        for shape in ((n, inputs, pixels, pixels), (outputs, inputs, 3, 3))
    )
    return _throughput(
        lambda: torch.conv2d(x, w, padding=1), 2 * 9 * n * inputs * outputs * pixels**2, device == "cuda"
    )


def ceilings(device: str) -> dict[str, float]:
    """Best of several sizes: `float32 product`, `float32 convolution`, and both in `bfloat16`, in operations per second;
    `copy` in bytes per second (read + write).

    By all threads that torch has. Neither is above the other everywhere: a library can be poor at products. In float32
    a GPU computes at full precision, as the engines do.
    """
    from replication.training.loop import settle

    settle(torch.device(device))
    cuda, found = device == "cuda", {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        sides = SIDES + ((8192, 16384) if cuda else ())
        found[f"{name} product"] = max(_product(side, dtype, device) for side in sides)
        found[f"{name} convolution"] = max(_convolution(*sizes, dtype, device) for sizes in CONVOLUTIONS)
    source = torch.zeros(2**28 if cuda else 2**26, device=device)
    target = torch.empty_like(source)
    found["copy"] = _throughput(lambda: target.copy_(source), 2 * source.nbytes, cuda)
    return found
