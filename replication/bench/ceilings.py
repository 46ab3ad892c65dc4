"""What the machine can do at best: operations a second of a matrix product, bytes a second of a copy."""

import time

import torch

SIDES = (1024, 2048, 4096)
"""of the square matrices; on a GPU twice and four times as long too"""
SECONDS = 0.5
"""that each measurement takes at least"""


def _rate(work, amount: float, cuda: bool) -> float:
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


def ceilings(device: str) -> dict[str, float]:
    """`float32` and `bfloat16` in operations a second (best of several sizes) and `copy` in bytes a second (read + write).

    By all threads that torch has. In float32 a GPU multiplies at full precision, as the engines do.
    """
    cuda, found = device == "cuda", {}
    for dtype in (torch.float32, torch.bfloat16):
        rates = []
        for side in SIDES + ((8192, 16384) if cuda else ()):
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            out = torch.empty_like(a)
            rates.append(_rate(lambda: torch.mm(a, b, out=out), 2 * side**3, cuda))
        found[str(dtype).removeprefix("torch.")] = max(rates)
    source = torch.zeros(2**28 if cuda else 2**26, device=device)
    target = torch.empty_like(source)
    found["copy"] = _rate(lambda: target.copy_(source), 2 * source.nbytes, cuda)
    return found
