"""The one-page summary, in the form of the ML Reproducibility Challenge: its results are computed."""

from collections import Counter
from collections.abc import Mapping

from IPython.display import Markdown

from replication.claims.claim import WORDS
from replication.claims.tiers import TIERS
from replication.pages import judgements
from replication.pages.names import cell_phrase
from replication.pages.parameters import parameters
from replication.pages.scoreboard import Scoreboard
from replication.pages.selection import published_rows
from replication.pages.words import duration, listed


class Summary:
    """The judged claims, as sentences."""

    def __init__(self, board: Scoreboard):
        self.board = board

    def results(self) -> Markdown:
        """How many claims have which verdict, then each with its tier and number."""
        heads = [(j, h) for j in self.board.judgements.values() for h in j.headlines]
        counts = Counter(h.word for _, h in heads)
        said = listed([f"{counts[word]} *{word}*" for word in WORDS if counts[word]])
        lines = [f"The {len(self.board.judgements)} claims have {len(heads)} verdicts, one per part: {said}.", ""]
        for j, h in heads:
            found = (judgements.number_of(j.claim, h.lead) if h.lead else "") or h.reason
            where = f", tier *{h.tier}*, {cell_phrase(h.lead.cell)}" if h.lead else ""
            part = f", {h.part}" if h.part else ""
            lines.append(
                f"- **[{j.claim.title}]({j.claim.id}.html){part}**: {h.word}{where}. {found[0].upper()}{found[1:]}."
            )
        return Markdown("\n".join(lines))

    def scope(self) -> Markdown:
        """How many claims, cells and runs there are."""
        cells = [c for j in self.board.judgements.values() for c in j.cells]
        done = sum(c.done >= c.cell.seeds for c in cells)
        runs = published_rows().drop_duplicates("key")
        tiers = [name for name in TIERS if any(c.tier == name and c.done for c in cells)]
        return Markdown(
            f"{len(self.board.judgements)} claims are tested in {len(cells)} planned cells, of which {done} have all their "
            f"seeds. {len(runs):,} trainings are published; they took {duration(float(runs['seconds'].sum()))} on one core or "
            f"device. Results exist in the tiers {listed([f'*{name}*' for name in tiers])}."
        )


def open_summary(namespace: Mapping[str, object]) -> Summary:
    """The notebook's first call: check its parameters and judge every claim."""
    return Summary(Scoreboard(parameters(namespace)))
