"""The image data sets: their official files, licence and citation, and where on this machine they lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from replication.limits import check_known
from replication.paths import home

MENDELEY = "https://data.mendeley.com/public-files/datasets"
ISIC = "https://isic-challenge-data.s3.amazonaws.com/2018/ISIC2018_Task3_Training"


@dataclass(frozen=True)
class File:
    """An official file. Without `sha256` no sum of it is known to us; `size` in bytes is 0 where it is not known."""

    name: str
    url: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class DataSet:
    """A data set of images, one archive or folder per class below `folder()`."""

    name: str
    licence: str
    citation: str
    files: tuple[File, ...]

    def folder(self) -> Path:
        """Where its classes lie: below `REPLICATION_DATA`, else where `replication data fetch` has put them.

        If it is at neither place: where the next fetch would put it.
        """
        folders = [root / self.name for root in roots()]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def downloads(self) -> Path:
        """Where official files are kept until the set is whole: beside it, so that images move without being copied."""
        return self.folder().parent / ".downloads" / self.name

    def how_to_get(self) -> str:
        """One clause: the command that fetches it, how much of it is fetched, and where else it may be."""
        begun = sum(path.stat().st_size for path in self.downloads().glob("*") if path.is_file())
        what = f"resumes it ({begun / 1e6:.1f} MB are here)" if begun else "gets it"
        return (
            f"`replication data fetch {self.name}` {what}, or REPLICATION_DATA or --data PATH names the folder that "
            f"holds {self.name}/"
        )


def roots() -> list[Path]:
    """Folders that hold data sets: `REPLICATION_DATA` where it is set, then `data` in the folder of this machine."""
    given = os.environ.get("REPLICATION_DATA")
    return [*([Path(given)] if given else []), home() / "data"]


DATA_SETS = {
    d.name: d
    for d in (
        DataSet(
            "plantvillage",
            "CC BY-SA 3.0 (original release; the copy on Mendeley Data is under CC0 1.0)",
            "D. P. Hughes, M. Salathé, An open access repository of images on plant health, arXiv:1511.08060, 2015",
            (
                File(
                    "plantvillage.zip",
                    f"{MENDELEY}/tywbtsjrjv/files/d5652a28-c1d8-4b76-97f3-72fb80f94efc/file_downloaded",
                    "ac3432453984d02a86197987e775a5429d0d59e7cc7c35bcf5a8f50349b90ff0",
                    868_032_562,
                ),
            ),
        ),
        DataSet(
            "cracks",
            "CC BY 4.0",
            "Ç. F. Özgenel, Concrete Crack Images for Classification, Mendeley Data, doi:10.17632/5y9wdsg2zt.2, 2019",
            (
                File(
                    "cracks.rar",
                    f"{MENDELEY}/5y9wdsg2zt/files/8a70d8a5-bce9-4291-bab9-b48cfb3e87c3/file_downloaded",
                    "08d7dc505a4f5a0330cee2fa2a1ae4b5b4f98bcffd0549b774caf7959bb1f02f",
                    241_363_336,
                ),
            ),
        ),
        DataSet(
            "skin",
            "CC BY-NC 4.0",
            "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, Scientific Data 5:180161, 2018",
            tuple(
                File(f"ISIC2018_Task3_Training_{name}", f"{ISIC}_{name}")
                for name in ("GroundTruth.zip", "LesionGroupings.csv", "Input.zip")
            ),
        ),
        DataSet(
            "cifar10",
            "none stated; free for research with citation",
            "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, University of Toronto, 2009",
            (
                File(
                    "cifar-10-python.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                    170_498_071,
                ),
            ),
        ),
    )
}
"""the data sets by name"""


def data_set(name: str) -> DataSet:
    """The data set of that name. ValueError names those there are."""
    check_known("data set", name, DATA_SETS)
    return DATA_SETS[name]
