"""Replication of 'The Unreasonable Effectiveness of the Final Batch Normalization Layer' (arXiv:2109.09016)."""

from collections.abc import Iterable

from replication.version import __version__ as __version__


def read(settings: Iterable[str] = ()):
    """The published results as a pandas table, one row a (run, readout); of the settings given, or all.

    Columns: `arm` (empty where the factors are those of no arm), names for readers (`images`, `body`, `arm_label`), `key`,
    every factor of `replication.run.Run`, facts such as `seconds`, and the metrics: see `replication.columns`.
    ValueError where a file does not agree with the manifest's checksum, or a name is no setting.
    """
    from replication.data.settings import setting
    from replication.pages.names import named
    from replication.results import published  # here, as importing the package must load nothing

    return named(published.read([setting(name).name for name in settings]))


def columns():
    """What every column means, as a pandas table: `column`, `type`, `unit`, `meaning`."""
    from replication.results.columns import columns as told

    return told()
