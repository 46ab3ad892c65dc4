"""What a notebook of the book shows: checked parameters in; key result, findings, verdict and provenance out."""

import html
import shlex
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML, Markdown

from replication.pages import judgements, provenance
from replication.pages.box import key_result
from replication.pages.evidence import Evidence
from replication.pages.names import cell_label
from replication.pages.parameters import parameters
from replication.pages.picture import Picture
from replication.pages.selection import Missing
from replication.pages.stories.told import story
from replication.pages.tables import design_table, folded, table_html

DESIGN = "What is compared, at which learning rates, over which seeds; an asterisk marks an end of the rates tried"


class Page(Evidence):
    """A claim, or a question beyond the claims, as its notebook shows it."""

    def key_result(self) -> HTML:
        """The box atop a page: claim, verdict, number, caveat, what a re-run takes, and where the numbers lie."""
        return HTML(key_result(self))

    def key_figure(self) -> Picture | HTML:
        """The one figure of a page, see `stories`."""
        return self.drawn(lambda: story(self.name).figure(self))

    def found(self) -> Markdown:
        """What was found, in computed sentences."""
        try:
            return Markdown("\n".join(story(self.name).found(self)) or self.nothing())
        except Missing as missing:
            return Markdown(f"*Not run yet: {missing}.*")

    def nothing(self) -> str:
        """What a page says where no cell has all its runs."""
        return f"*Not run yet.* {self.selection.open(**self.where) or 'Nothing is planned here'}."

    def design(self) -> HTML:
        """The design, folded: what varies, over which seeds, how many runs."""
        entries = []
        for cell in self.cells:
            try:
                entries += [(cell, c.place, entry) for c in self.plan.design(cell) for entry in c.entries()]
            except ValueError:  # nothing has been tuned there yet
                continue
        rows = design_table(entries) if entries else pd.DataFrame()
        text = table_html(rows, DESIGN) if len(rows) else ""
        waiting = [cell_label(c) for c in self.cells if not self.selection.tuned(c)]
        more = f"<p>Learning rates are not chosen yet for: {'; '.join(waiting)}.</p>" if waiting else ""
        return folded("The design", text + more)

    def verdict(self) -> HTML:
        """How the verdict came about: rule, tests of the lead cell, and every cell with its word."""
        j = self.judgement
        return HTML(
            judgements.headlines_html(j, self.single)
            + judgements.rule_html(j)
            + judgements.p_values_html(j)
            + judgements.cells_html(j)
            + f"<p><small>{judgements.SEED_NOTE} {judgements.same_images(j)}</small></p>"
        )

    def provenance(self) -> HTML:
        """Commit, versions, hardware, seeds, files and run time of the results shown."""
        kind = "Computed on this machine" if self.local else "Published results"
        asked = [("settings", self.parameters.settings), ("networks", self.parameters.networks), ("seeds", "3")]
        given = [word for name, value in asked if value for word in ("-p", name, value)]
        again = html.escape(shlex.join(["papermill", f"book/{self.name}.ipynb", "out.ipynb", *given]))
        return HTML(
            f"<p><strong>{kind}.</strong> To run this page on your machine: <code>{again}</code></p>"
            + provenance.list_html(self.selection, self.records())
        )


def open_page(name: str, namespace: Mapping[str, object]) -> Page:
    """A notebook's first call: check its parameters, read or train the results, return the page."""
    return Page(name, parameters(namespace))
