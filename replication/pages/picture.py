"""A figure as a page shows it: the image with its caption and its alternative text, both computed, and its data."""

import base64
import io
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

RESOLUTION = 130
PALETTE = 64
"""dots an inch and colours: sharp at the width of the text, small enough for git"""


def smaller(png: bytes) -> bytes:
    """The same image with a small palette: a third of the bytes, and no difference to the eye."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(PALETTE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass
class Picture:
    """A drawn figure; `replication execute` copies caption and alternative text to where the book reads them."""

    figure: Figure
    caption: str
    """Markdown: what the figure shows, its finding first"""
    alt: str
    """the finding for those who do not see it"""
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    """what is drawn, one row a seed"""

    def png(self) -> bytes:
        """The image on white paper."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=RESOLUTION, facecolor="white")
        plt.close(self.figure)
        return smaller(buffer.getvalue())

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        image = base64.b64encode(self.png()).decode()
        return {"image/png": image, "text/plain": self.alt}, {"caption": self.caption, "alt": self.alt}
