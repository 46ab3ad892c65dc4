"""The image data sets to come: where their images are looked for, under which licence, whom to cite."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataSet:
    """A data set of images, one archive or folder a class below `folder()`."""

    name: str
    licence: str
    citation: str

    def folder(self) -> Path:
        """Where its classes lie: the folder of its name below `REPLICATION_DATA`. ValueError if that is not set."""
        root = os.environ.get("REPLICATION_DATA")
        if not root:
            raise ValueError(f"REPLICATION_DATA is not set: it names the folder that holds {self.name}/")
        return Path(root) / self.name


DATA_SETS = {
    d.name: d
    for d in (
        DataSet(
            "plantvillage", "CC BY-SA 3.0 (original release)",
            "D. P. Hughes, M. Salathé, An open access repository of images on plant health, arXiv:1511.08060, 2015",
        ),
        DataSet(
            "cracks", "CC BY 4.0",
            "Ç. F. Özgenel, Concrete Crack Images for Classification, Mendeley Data, doi:10.17632/5y9wdsg2zt.2, 2019",
        ),
        DataSet(
            "skin", "CC BY-NC 4.0",
            "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, Scientific Data 5:180161, 2018",
        ),
        DataSet(
            "cifar10", "none stated; free for research with citation",
            "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, University of Toronto, 2009",
        ),
    )
}  # fmt: skip
