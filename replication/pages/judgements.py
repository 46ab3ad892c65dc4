"""A claim's judgement in words and as HTML: the number behind a verdict, its qualifiers, and how it came about."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication.analysis.effects import Curve, Effect
from replication.analysis.statistics import MARGIN
from replication.claims.claim import CONTRADICTED, NOT_RUN, REPLICATED, UNDECIDED, WORDS, Claim
from replication.claims.verdict import CellVerdict, Headline, Judgement
from replication.pages.names import KINDS, arm_label, cell_label, effect_label, setting_label
from replication.pages.tables import badge, code, table_html
from replication.pages.terms import qualifier, term
from replication.pages.words import NBSP, estimate, listed, p_value, signed

SEED_NOTE = (
    "Seeds vary only the split, the head and the order of the images: intervals hold for these weights and images."
)
NOT_TESTED = "not tested"
GATE = (
    f" <em>But first</em> the gain itself must be shown to exceed {MARGIN}: where it is shown to lie below, the claim is "
    "<em>not assessable</em>, and where neither is shown, <em>undecided</em>."
)
"""the part of the rule that claims about the gain share, see `claims.claim.assessable`"""
MOST_NAMED = 3
"""other cells of a tier that the box names; more are counted"""
UNITS = {"epochs_saved": 1}
"""effects that are no scores -> digits that they are printed with; their median too, as a few seeds may carry the mean"""


def number_of(claim: Claim, c: CellVerdict, kind: str = "own") -> str:
    """The effect or curve that the criterion turns on, as words; empty where it has not been run."""
    name, label = claim.headline
    measure = c.measures.get(kind, {}).get(name)
    if isinstance(measure, Curve):
        means = measure.D.mean(axis=0)
        return f"{label} {signed(means.min())}{NBSP}to{NBSP}{signed(means.max())} ({measure.n} seeds each)"
    if isinstance(measure, Effect) and np.isfinite(measure.d).all():
        digits = 3 if abs(measure.d.mean() - measure.margin) < 0.01 else UNITS.get(name, 2)
        median = f"; median {signed(float(np.median(measure.d)), digits)}" if name in UNITS else ""
        return f"{label} {estimate(measure.d, digits)}{median}"
    return ""


def notes(c: CellVerdict) -> tuple[str, ...]:
    """What has to be said beside a cell's verdict: what macro F1 says, and the qualifiers."""
    macro = (f"macro F1: {c.macro}",) if c.macro in ("shown", "not shown") else ()
    return macro + c.qualifiers


def headline_notes(h: Headline) -> tuple[str, ...]:
    """The same of a headline."""
    return notes(h.lead) if h.lead else h.qualifiers


def nearer(h: Headline) -> str:
    """The tiers nearer to the papers that lack runs, those not tested together: `identity and close not tested`."""
    tiers = dict(text.split(": ", 1) for text in h.beside)
    untested = [name for name, said in tiers.items() if said == NOT_TESTED]
    begun = [f"{name}: {said}" for name, said in tiers.items() if said != NOT_TESTED]
    return "; ".join(filter(None, (f"{listed(untested)} {NOT_TESTED}" if untested else "", *begun)))


def variant_label(c: CellVerdict) -> str:
    """The variant of a unit in brackets, where its claim judges several."""
    return f" ({c.unit.variant})" if c.unit.variant and "," in c.unit.variant else ""


def unit_label(c: CellVerdict) -> str:
    """A judged unit for readers."""
    return cell_label(c.cell) + variant_label(c)


def focus(j: Judgement) -> CellVerdict | None:
    """The cell that stands for a claim: the headline's, else the first with a verdict; none where nothing has been run."""
    for h in j.headlines:
        if h.lead:
            return h.lead
    return next((c for c in j.cells if c.word != NOT_RUN), None)


def qualifier_html(words: Sequence[str]) -> str:
    """Qualifiers as a short list in a line."""
    return " ".join(f'<span class="qualifier">{qualifier(word)}</span>' for word in words)


def evidence(word: str, page: str = "") -> str:
    """A verdict that leads to how it came about, on its own page or on another."""
    where = f"{page}.html" if page else ""
    return f"<a class='evidence' href='{where}#how-the-verdict-came-about'>{word}</a>"


def same_tier(j: Judgement, h: Headline) -> str:
    """What the other cells of a headline's tier say, as HTML: one by one, or as counts where they are many; else empty."""
    counted = [c for c in j.counted() if c.tier == h.tier]
    judged = [c for c in counted if c.word != NOT_RUN]
    missing = f"{len(counted) - len(judged)} not run" if judged and len(judged) < len(counted) else ""
    if len(judged) > MOST_NAMED:
        counts = Counter(c.word for c in judged)
        found = [f"{counts[word]}{NBSP}{evidence(badge(word))}" for word in WORDS if counts[word]]
        return ", ".join(found + [missing] * bool(missing))
    named = []
    for c in judged:
        same = h.lead is not None and c.cell.network == h.lead.cell.network
        where = setting_label(c.cell.setting) if same else unit_label(c)
        more = [q.partition(":")[0] for q in c.qualifiers if h.lead is None or q not in h.lead.qualifiers]
        beside = "; ".join((number_of(j.claim, c), *more))
        named.append(f"{evidence(badge(c.word))} on {where}{', same network' if same else ''}: {beside}")
    return "; ".join(named + [missing] * bool(missing))


def _elsewhere(h: Headline) -> str:
    """What an undecided headline's cell says at other kinds of rate, where it decides there; a decided one has qualifiers."""
    if h.lead is None or h.word != UNDECIDED:
        return ""
    kinds = {w: [KINDS[k] for k, d in h.lead.decisions.items() if d.word == w] for w in (REPLICATED, CONTRADICTED)}
    return " ".join(f"{word.capitalize()} at {listed(at)}." for word, at in kinds.items() if at)


def headlines_html(j: Judgement, single: bool = False) -> str:
    """Each headline of a claim: part, verdict, tier, qualifiers, and which higher tiers lack runs.

    `single`: the page shows some cells alone, whose verdict stands for itself.
    """
    lead = focus(j)
    if single and lead and all(h.word == NOT_RUN for h in j.headlines):
        return (
            f"<p class='answer'>{evidence(badge(lead.word))} on {unit_label(lead)}, {term('tier')} <em>{lead.tier}</em> "
            f"{qualifier_html(notes(lead))}</p>"
        )
    lines = []
    for h in j.headlines:
        part = f"{h.part}: " if h.part else ""
        where = f" {term('tier')} <em>{h.tier}</em>: {unit_label(h.lead)}" if h.lead else ""
        said = [
            f"Why undecided: {code(h.reason)}." if h.word == UNDECIDED else "",
            _elsewhere(h),
            f"Other cells of this tier: {others}." if h.lead and (others := same_tier(j, h)) else "",
            f"Nearer to the papers: {nearer(h)}." if h.beside else "",
        ]
        small = f"<br><small>{' '.join(filter(None, said))}</small>" if any(said) else ""
        found = f"{evidence(badge(h.word))}{where} {qualifier_html(headline_notes(h))}{small}"
        lines.append(f"<p class='answer'>{part}{found}</p>")
    return "".join(lines)


def cells_frame(j: Judgement) -> pd.DataFrame:
    """One row per judged unit, in words."""
    return pd.DataFrame(
        {
            "images and network": unit_label(c),
            "tier": c.tier,
            "verdict": c.word,
            "found": number_of(j.claim, c),
            "beside it": "; ".join(notes(c)),
            "runs at F1 0": ", ".join(f"{arm_label(arm)} {n} of {of}" for arm, (n, of) in c.collapsed.items()),
            "why": c.reason,
            "role": "registered" if c.cell.version else "after the fact",
            "seeds": f"{c.done} of {c.cell.seeds}",
        }
        for c in j.cells
    )


def cells_html(j: Judgement) -> str:
    """The same as a sortable table, with a link to it as CSV."""
    rows = cells_frame(j)
    shown = rows.assign(verdict=[badge(word) for word in rows["verdict"]]).drop(columns=["role"])
    done = [c for c in j.cells if c.word != NOT_RUN]
    caption = f"{j.claim.title}: every cell, {len(done)} of {len(j.cells)} have been run"
    return table_html(shown, caption, sortable=True, data=rows)


def rule_html(j: Judgement) -> str:
    """The criterion of a claim, and what the lead cell's numbers make of it at every kind of learning rate."""
    text = (
        f"<p class='rule'><em>Replicated when</em> {j.claim.replicated_when}; <em>contradicted when</em> "
        f"{j.claim.contradicted_when}. Where tests show neither, undecided.{GATE if j.claim.gated else ''}</p>"
    )
    lead = focus(j)
    if lead is None or not lead.decisions:
        return text
    rows = pd.DataFrame(
        {
            "learning rate": KINDS[kind],
            "verdict there": badge(decision.word),
            "because": decision.reason,
            "number": number_of(j.claim, lead, kind),
        }
        for kind, decision in lead.decisions.items()
    )
    return code(text) + table_html(
        rows, f"{unit_label(lead)}: the same rule at every kind of learning rate; the first counts"
    )


def p_values_html(j: Judgement) -> str:
    """The adjusted p-values of the effects that the lead cell's word may rest on."""
    lead = focus(j)
    if lead is None:
        return ""
    rows = [
        {
            "measured": effect_label(name, e.tests),
            "margin": signed(e.margin).lstrip("+"),
            "mean": signed(e.d.mean(), 3),
            "p that it lies above": p_value(e.adjusted[0]),
            "p that it lies below": p_value(e.adjusted[1]),
            "p that it lies within": p_value(e.adjusted[2]),
        }
        for name, e in lead.measures.get("own", {}).items()
        if isinstance(e, Effect) and np.isfinite(e.d).all()
    ]
    caption = f"{unit_label(lead)}: what was tested, one-sided, adjusted over its family"
    return table_html(pd.DataFrame(rows), caption) if rows else ""


def same_images(j: Judgement) -> str:
    """A sentence on cells that share their images, so that nobody counts them as independent."""
    images: dict[str, int] = {}
    for c in j.cells:
        if c.word != NOT_RUN:
            label = setting_label(c.cell.setting).split(",")[0]
            images[label] = images.get(label, 0) + 1
    several = [f"{n} on {label}" for label, n in images.items() if n > 1]
    return f"Cells on the same images are not independent results: {', '.join(several)}." if several else ""
