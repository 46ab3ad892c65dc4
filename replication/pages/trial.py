"""The page of a trial of one's own images: the answer first, then the evidence; one file that needs no network."""

import html
import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from replication.analysis import statistics as st
from replication.analysis.choices import ARMS, CHOICE_OF, CHOICES, HELD, LEAST_SEEDS, Comparison, Gain, scores
from replication.pages.names import METRICS
from replication.pages.tables import csv_link, table_html
from replication.pages.trial_picture import choices_picture
from replication.pages.words import between, duration, listed, number, rate_text, signed
from replication.running.trial_files import ABOUT, RESULTS

FREE = ("plain · tuned", "plain · logit_adjusted")
"""what needs no training of its own"""
READ = (
    "arm",
    "role",
    "readout",
    "seed",
    "n_test",
    "roc_auc",
    HELD,
    f"{HELD}_tuned",
    f"{HELD}_adjusted",
    *(name + suffix for name in ("f1_minority", "f1_macro") for suffix in ("", "_tuned")),
)


def _machine(record: dict) -> str:
    """A provenance record in words."""
    commit = [f"commit {record['commit']}"] if record.get("commit", "unknown") != "unknown" else []
    versions = [f"{name} {version}" for name, version in record.get("versions", {}).items()]
    return ", ".join([*commit, *versions, f"{record.get('hardware', '')} ({record.get('device', '')})"])


def _table(rows: list[dict], caption: str) -> HTML:
    """A table that scrolls in its own box, below its caption, which does not."""
    table = table_html(pd.DataFrame(rows))
    return HTML(f"<figure><figcaption>{caption}</figcaption><div class='wide'>{table}</div></figure>")


def _digits(gain: Gain) -> int:
    """So many that a limit which is not zero does not read as zero."""
    return 3 if 0 < min(abs(gain.low), abs(gain.high)) < 0.005 else 2


def _interval(gain: Gain) -> str:
    return f" ({between(gain.low, gain.high, _digits(gain))})" if np.isfinite(gain.low) else ""


class TrialPage:
    """What a trial has found, from the two files that it left in a folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.about = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        self.rows = pd.read_parquet(self.folder / RESULTS, columns=list(READ))
        self.comparison = Comparison(scores(self.rows[self.rows["role"] == "confirmatory"]))

    @cached_property
    def minority(self) -> str:
        """The name of the minority, or of its classes."""
        return listed([html.escape(name) for name in list(self.about["shares"])[1:]])

    @property
    def majority(self) -> str:
        """The name of the majority class."""
        return html.escape(next(iter(self.about["shares"])))

    @property
    def _exact(self) -> bool:
        return self.comparison.n >= LEAST_SEEDS

    def _against(self, choice: str, reference: str = "plain", metric: str = "f1_minority") -> str:
        """A difference with its interval and what that is, in words."""
        gain = self.comparison.gain(choice, reference, metric)
        if not np.isfinite(gain.low):
            return signed(gain.mean)
        digits = _digits(gain)
        return f"{signed(gain.mean, digits)} (95 % interval {between(gain.low, gain.high, digits)})"

    def title(self) -> HTML:
        """What the page is about."""
        a = self.about
        n, short = self.comparison.n, ""
        if n < a["seeds"]:
            short = f" So far {n} of {a['seeds']} seeds are done; the same command resumes."
        return HTML(
            f"<h1>Does it help on {html.escape(Path(a['path']).name)}?</h1>"
            f"<p class='under'>{sum(a['shares'].values())} images: {self.majority} against {self.minority}. "
            f"{html.escape(a['label'])}. Trained with {a['train'][0]} and {a['train'][1]} images, {n} seeds.{short}</p>"
        )

    def sentence(self) -> str:
        """The recommendation for a terminal."""
        best = CHOICE_OF[self.comparison.recommended]
        said = f"On these images, use {best.use}: minority F1 {number(self.comparison.mean(best.name, 'f1_minority'))}"
        over = f", {self._against(best.name)} over plain training" if best.name != "plain" else ""
        return f"{said}{over}, {self.comparison.n} seeds."

    def answer(self) -> HTML:
        """The recommended choice, what it is worth, and whether the layer helps."""
        f, choice = self.comparison, CHOICE_OF[self.comparison.recommended]
        of = {metric: number(f.mean(choice.name, metric)) for metric in ("f1_minority", "f1_macro")}
        if choice.name == "plain":
            worth = (
                f"Its minority F1 on test images is {of['f1_minority']}, its macro F1 {of['f1_macro']}. No other choice did "
                "better on validation images by more than one standard error."
            )
        else:
            plain = {metric: number(f.mean("plain", metric)) for metric in of}
            worth = (
                f"Its minority F1 on test images is {of['f1_minority']}, "
                f"compared with {plain['f1_minority']} for plain training: "
                f"{self._against(choice.name)}. Macro F1: {of['f1_macro']} and {plain['f1_macro']}, "
                f"{self._against(choice.name, metric='f1_macro')}."
            )
        many, few = self.about["validation"][0], min(self.about["validation"][1], self.about["train"][1])
        needs = f" The threshold needs {many} + {few} labelled images in addition to those used for training."
        extra = needs if choice.suffix else ""
        small = (
            f"The choice was made on validation images. Intervals are simultaneous over the {len(CHOICES)} choices and come "
            f"from {f.n} seeds."
            if self._exact
            else f"The choice was made on validation images. With fewer than {LEAST_SEEDS} seeds no intervals are given, and "
            "another seed may change the choice."
        )
        return HTML(
            f"<div class='box'><p class='lead'>On these images, use {choice.use}.</p><p>{worth}</p>"
            f"<p><strong>Does the final BN layer help?</strong> {self._layer()}</p><p class='small'>{small}{extra}</p></div>"
        )

    def _layer(self) -> str:
        gain, free = self.comparison.gain("final_bn"), max(FREE, key=lambda name: self.comparison.mean(name, HELD))
        beside = (
            f" {CHOICE_OF[free].label[0].upper()}{CHOICE_OF[free].label[1:]}, which needs no training of its own, has "
            f"{number(self.comparison.mean(free, 'f1_minority'))}; the layer minus that is {self._against('final_bn', free)}."
        )
        change = self._against("final_bn")
        if not self._exact:
            return f"Not known yet: so far it changes the minority F1 of plain training by {change}.{beside}"
        if gain.low > st.MARGIN:
            return f"Compared with plain training, yes: it raises minority F1 by {change}.{beside}"
        if gain.high < -st.MARGIN:
            return f"No: it lowers the minority F1 of plain training by {change}.{beside}"
        if max(abs(gain.low), abs(gain.high)) < st.MARGIN:
            how = "A little: it raises" if gain.low > 0 else "No: it lowers" if gain.high < 0 else "No: it changes"
            return f"{how} the minority F1 of plain training by less than {st.MARGIN}, {change}.{beside}"
        return f"Not decided: the change in minority F1 is {change}.{beside}"

    def table(self) -> HTML:
        """All choices side by side."""
        made = []
        for choice in CHOICES:
            row = {"choice": choice.label + (" ←" if choice.name == self.comparison.recommended else "")}
            for metric in ("f1_minority", "f1_macro"):
                row[METRICS[metric]] = number(self.comparison.mean(choice.name, metric))
                gain = self.comparison.gain(choice.name, metric=metric)
                row["minus plain" + (" " if metric == "f1_macro" else "")] = (
                    "" if choice.name == "plain" else f"{signed(gain.mean)}{_interval(gain)}"
                )
            row["ROC AUC"] = number(self.comparison.mean(choice.name, "roc_auc"))
            row["validation macro F1"] = number(self.comparison.mean(choice.name, HELD))
            made.append(row)
        what = (
            "with intervals simultaneous over all pairs of choices"
            if self._exact
            else "without intervals, as the seeds are few"
        )
        caption = (
            f"Means over {self.comparison.n} seeds, differences paired by seed, {what}; ← is recommended, "
            f"chosen by the last column ({csv_link(self.comparison.rows, 'choices', 'CSV of all seeds')})"
        )
        return _table(made, caption)

    def picture(self, metric: str = "f1_minority") -> HTML:
        """Every seed of every choice, with means and intervals."""
        return choices_picture(self.comparison, self._exact, metric)

    def errors(self) -> HTML:
        """The confusion on the balanced test images at the recommended choice's threshold, beside plain's."""
        n, made = int(self.comparison.rows["n"].iloc[0]), []
        counts = list(self.about["shares"].values())
        share = sum(counts[1:]) / sum(counts)
        for name in dict.fromkeys(("plain", self.comparison.recommended)):
            found, false = self.comparison.mean(name, "found") / n, self.comparison.mean(name, "false") / n
            said = found * share + false * (1 - share)
            made.append(
                {
                    "choice": CHOICE_OF[name].label,
                    "minority found": f"{found:.0%}",
                    "minority missed": f"{1 - found:.0%}",
                    "majority called minority": f"{false:.0%}",
                    "majority right": f"{1 - false:.0%}",
                    f"share of minority calls that are right, at {share:.1%}": f"{found * share / said:.0%}"
                    if said
                    else "none called minority",
                }
            )
        caption = (
            f"Confusion on {n} + {n} test images, means over {self.comparison.n} seeds. Minority: {self.minority}. "
            f"The last column is for images of which {share:.1%} are minority, as in your folder"
        )
        return _table(made, caption)

    def certainty(self) -> HTML:
        """What it would take to know more."""
        best, other, lines = self.comparison.recommended, self.comparison.next_best, []
        gain = self.comparison.gain(best)
        if best != "plain":
            if gain.low > st.MARGIN or gain.high < st.MARGIN:
                side = "more" if gain.low > st.MARGIN else "less"
                lines.append(f"The gain over plain training is shown to be {side} than {st.MARGIN} in minority F1.")
            else:
                lines.append(
                    f"Whether the gain over plain training exceeds {st.MARGIN} in minority F1 is open: "
                    f"{self._needed(gain.d, st.MARGIN)}."
                )
        apart = self.comparison.gain(best, other, "f1_macro")
        names = f"{CHOICE_OF[best].label} and {CHOICE_OF[other].label} (the next best on validation images)"
        if apart.low > 0 or apart.high < 0:
            lines.append(f"In macro F1, {names} differ: {self._against(best, other, 'f1_macro')}.")
        else:
            lines.append(
                f"In macro F1, {names} cannot be distinguished, {self._against(best, other, 'f1_macro')}: "
                f"{self._needed(apart.d, 0.0)}."
            )
        n = self.about["test"]
        lines.append(f"Every seed is tested on {n} images of each class, so one image moves recall by {1 / n:.1%}.")
        lines.append(
            "Your split gives every seed the same images: intervals hold for initial weights and batch order alone, and say "
            "nothing of other images."
            if self.about["fixed"]
            else "Seeds draw split, initial weights and batch order anew from the same folder. "
            "Intervals hold for these images and "
            "these ImageNet weights; images from another camera, place or year need a test of their own."
        )
        return HTML("<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>")

    def _needed(self, d: np.ndarray, margin: float) -> str:
        needed = st.seeds_needed(d, margin) if len(d) > 1 else None
        if needed is None:
            return "how many seeds it would take cannot be estimated from these"
        if needed <= len(d):
            return "these seeds would suffice for this comparison alone, but not for all pairs at once"
        return (
            f"with this spread about {needed:,} seeds would be needed (--seeds {needed})"
            if needed <= 1000
            else (f"with this spread about {needed:,} seeds would be needed, so it hardly matters which is used")
        )

    def images(self) -> HTML:
        """What was found in the folder, and what the parts are."""
        lines = "\n".join(html.escape(line) for line in self.about["survey"])
        a = self.about
        return HTML(
            f"<pre>{lines}</pre><p>{html.escape(a['sizes'])} {html.escape(a['ratio'])} Images are shown at {a['pixels']} × "
            f"{a['pixels']} pixels; the test set is balanced.</p>"
        )

    def method(self) -> HTML:
        """How the numbers were made, and how to make them again."""
        a = self.about
        rates = listed([f"{CHOICE_OF[arm].label} {rate_text(value)}" for arm, value in a["rates"].items()])
        ends = listed([CHOICE_OF[arm].label for arm in a["ends"]])
        ends = f" At an end of the rates tried: {ends}." if ends else ""
        records = "; ".join(map(_machine, a["provenance"]))
        pilots = int(((self.rows["role"] == "pilot") & (self.rows["readout"] == "as_trained")).sum())
        return HTML(
            f"<p>{len(ARMS)} ways to train were tuned, each on {a['pilots']} pilot seeds by macro F1 on validation images "
            f"({pilots} trainings), and trained on {self.comparison.n} further seeds. Learning rates: {rates}.{ends}</p>"
            "<p>The recommended choice is the first in the table whose mean macro F1 on validation images lies within one "
            "standard error of the best. "
            "The tuned threshold is set on validation images with as many minority labels as training has; "
            "for the choice it is scored on validation images that it was not set on. Test images play no part in the choice. "
            "Intervals: studentised max-|t| bootstrap over seeds.</p>"
            f'<p>All rows are in <code>{RESULTS}</code> beside this page (pandas: <code>pd.read_parquet("{RESULTS}")</code>; '
            "<code>replication.results.columns.columns()</code> explains every column). Made in "
            f"{duration(a['seconds'])} on {html.escape(a['device'])}, version {html.escape(a['version'])}, data {a['data']}; "
            f"{html.escape(records)}.</p><p>Again:</p><pre>{html.escape(a['command'])}</pre>"
        )


def open_trial(folder: Path | str) -> TrialPage:
    """The notebook's first call."""
    return TrialPage(folder)
