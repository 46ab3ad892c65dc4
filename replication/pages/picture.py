"""A figure as a page shows it: image, caption and alternative text, all computed; its data and the code behind it."""

import base64
import io
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image

from replication.pages.tables import csv_link, slug

RESOLUTION = 110
PALETTE = 40
"""dots an inch and colours: sharp at the width of the text, small enough for git"""


def smaller(png: bytes) -> bytes:
    """The same image with a small palette: a third of the bytes, and no difference to the eye.

    The palette is chosen to cover the colours that there are: by median cut rare ones, such as a verdict's, become another's.
    """
    buffer, image = io.BytesIO(), Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(PALETTE, Image.Quantize.MAXCOVERAGE, kmeans=2).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass
class Picture:
    """A drawn figure; `replication execute` copies caption and alternative text to where the book reads them."""

    figure: Figure
    caption: str
    """Markdown: what the figure shows, its finding first"""
    alt: str
    """the finding for those who do not see it"""
    data: pd.DataFrame
    """what is drawn, in most figures one row per seed"""

    def png(self) -> bytes:
        """The image on white paper."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=RESOLUTION, facecolor="white")
        plt.close(self.figure)
        return smaller(buffer.getvalue())

    def source(self) -> str:
        """Links to what is drawn as CSV and to the function that draws it, as HTML."""
        module, _, name = getattr(self.figure, "drawn_by", "").rpartition(".")
        anchor = "" if name.startswith("_") else f"#{name}"
        where = f"_modules/{module.replace('.', '/')}.html{anchor}"
        drawn = f' · drawn by <a href="{where}"><code>{module.rpartition(".")[2]}.{name}</code></a>' if module else ""
        return f"<p class='figure-source'>{csv_link(self.data, slug(self.alt), 'CSV of this figure')}{drawn}</p>"

    def _ipython_display_(self) -> None:
        image, about = self._repr_mimebundle_()
        display(image, metadata=about, raw=True)
        display(HTML(self.source()))

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        image = base64.b64encode(self.png()).decode()
        return {"image/png": image, "text/plain": self.alt}, {"caption": self.caption, "alt": self.alt}
