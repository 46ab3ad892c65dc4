"""Flips and small shifts of training images: the same draws for every arm, batch size and engine."""

import numpy as np

from replication.run import entropy

SHIFT = 16
"""images shift by up to one part in so many of their side, in both directions"""


def reach(pixels: int) -> int:
    """Largest shift in pixels."""
    return pixels // SHIFT


def draws(seed: int, n: int, pixels: int, epochs: int) -> np.ndarray:
    """(epochs, n, 3) moves of every image in every epoch, from (seed, "augment"): mirrored or not, rows, columns.

    Rows and columns count from the corner of the padded image, 0 to twice the reach. They belong to the image, not to
    its place in a batch.
    """
    rng = np.random.default_rng(entropy(seed, "augment"))
    high = [2, 2 * reach(pixels) + 1, 2 * reach(pixels) + 1]
    return rng.integers(high, size=(epochs, n, 3), dtype=np.int16)


class Augmented:
    """Training images (N, C, P, P) uint8, padded by reflection once, so that a moved batch is one copy."""

    def __init__(self, images: np.ndarray):
        r, side = reach(images.shape[-1]), images.shape[-1]
        pad = ((0, 0), (r, r), (r, r), (0, 0))
        padded = np.pad(images.transpose(0, 2, 3, 1), pad, mode="reflect")
        both = np.stack([padded, padded[:, :, ::-1]], axis=1)  # (N, 2, P + 2r, P + 2r, C)
        windows = np.lib.stride_tricks.sliding_window_view(both, (side, side), axis=(2, 3))
        self.windows = windows.transpose(0, 1, 2, 3, 5, 6, 4)  # (N, 2, 2r + 1, 2r + 1, P, P, C)

    def __call__(self, numbers: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Images of some numbers (B,) by their moves (B, 3), as (B, C, P, P) uint8, channels last in memory."""
        return self.windows[numbers, moves[:, 0], moves[:, 1], moves[:, 2]].transpose(0, 3, 1, 2)
