"""The snippets of the advice page run and do what the page says of them; its advice hides no failure."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from replication.claims.beyond import rate_profile
from replication.claims.cells import LITE
from replication.claims.judge import plan_frame
from replication.pages import advice, everywhere, names, words
from replication.pages.parameters import Parameters
from replication.pages.tuning import TuningPage
from replication.results import published
from replication.run import Run
from replication.study.rates import Place, learning_rate
from replication.training.losses import loss_of

PAGE = Path(__file__).parents[1] / "book/advice.ipynb"
TEXT = "\n".join("".join(c["source"]) for c in json.loads(PAGE.read_text())["cells"] if c["cell_type"] == "markdown")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(word):
    """What the one snippet with that word leaves behind; skips where its library is not installed."""
    (source,) = [s for s in SNIPPETS if word in s]
    for library in ("timm", "fastai"):
        if re.search(rf"^(import|from) {library}", source, re.MULTILINE) and not importlib.util.find_spec(library):
            pytest.skip(f"{library} is not installed")
    found = {}
    exec(source, found)  # noqa: S102  the page's own
    return found


def test_every_snippet_is_run():
    assert len(SNIPPETS) == 6


def test_the_layer_in_pytorch_takes_a_constant_out_and_trains_its_shift():
    (source,) = [s for s in SNIPPETS if "nn.Linear" in s and "requires_grad_" not in s]
    found = {}
    exec(source, found)  # noqa: S102
    head, x = found["head"], torch.randn(64, 512)
    assert torch.allclose(head(x).mean(0), torch.zeros(2), atol=1e-5) and head[1].bias.requires_grad
    assert head[0].bias is None


def test_a_fixed_shift_stays_fixed():
    head = run("requires_grad_")["head"]
    x, y = torch.randn(64, 512), torch.arange(64) % 2
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    before = head[0].weight.clone()
    torch.nn.functional.cross_entropy(head(x), y).backward()
    optimizer.step()
    assert torch.equal(head[1].bias, torch.tensor([0.2, -0.2])) and not torch.equal(head[0].weight, before)
    z = head(x).mean(0)
    assert float(z[1] - z[0]) == pytest.approx(-0.4, abs=1e-4)


def test_the_layer_in_timm():
    model = run("timm")["model"].train()
    z = model(torch.randn(8, 3, 64, 64))
    assert z.shape == (8, 2) and torch.allclose(z.mean(0), torch.zeros(2), atol=1e-4)


def test_the_layer_in_fastai_and_its_momentum():
    head = run("fastai")["head"]
    assert isinstance(head[-1], torch.nn.BatchNorm1d) and head[-1].momentum == 0.1


def test_adjusting_logits_takes_the_log_prior_off():
    found = run("adjusted = ")
    odds = found["adjusted"][0, 1] - found["adjusted"][0, 0]
    assert float(odds) == pytest.approx(-3 + torch.log(torch.tensor(100.0)).item(), abs=1e-5)


def test_the_logit_adjusted_loss_is_the_book_s():
    loss = run("def logit_adjusted_loss")["logit_adjusted_loss"]
    logits, labels = torch.randn(32, 2), torch.arange(32) % 2
    wanted = loss_of(Run(loss="logit_adjusted"), torch.tensor([1000.0, 10.0]))(logits, labels)
    assert float(loss(logits, labels)) == pytest.approx(float(wanted), rel=1e-6)


def test_advice_says_where_the_fixed_shift_fails():
    """Of the registered comparisons, not of the page's own cells alone."""
    page = advice.AdvicePage(Parameters())
    worse = [c for c in TuningPage(Parameters()).contests if not c.noninferior]
    third = page.sentences().data.splitlines()[2]
    far = min(worse, key=lambda c: c.d.mean())
    assert f"in {len(worse)} of " in third and names.cell_phrase((far.setting, far.network)) in third


def published_means(setting: str, **factors) -> pd.Series:
    """Mean macro F1 of seeds 100 to 119 by readout, of EfficientNet-Lite0 frozen with these factors."""
    base = Run(setting=setting, network="efficientnet_lite0", init="imagenet", trained="head")
    same = {n: v for n, v in vars(dataclasses.replace(base, **factors)).items() if n != "seed"}
    of = published.read((setting,))
    rows = of[(of[list(same)] == pd.Series(same)).all(axis=1) & of["seed"].between(100, 119)]
    assert rows["seed"].nunique() == 20
    return rows.groupby("readout")["f1_macro"].mean()


def test_the_counts_are_those_of_the_published_runs():
    page = everywhere.Everywhere()
    tuned = published_means(
        "skin@160", final_norm="bn", learning_rate=learning_rate(Place("skin@160", LITE), "final_bn")
    )
    of_cell = page.means[(page.means["setting"] == "skin@160") & (page.means["network"] == LITE)]
    here = of_cell.set_index(["remedy", "rate"])["mean"]
    assert here[everywhere.LAYER, everywhere.OWN_RATE] == pytest.approx(tuned["as_trained"])
    assert here[("final_bn", "bn_removed", "f1_macro"), everywhere.OWN_RATE] == pytest.approx(tuned["bn_removed"])
    loss = published_means("skin@160", loss="logit_adjusted", learning_rate=1e-3)["as_trained"]
    assert here[everywhere.LOSS, 1e-3] == pytest.approx(loss)
    best = max(
        mean
        for (remedy, rate), mean in here.items()
        if rate == everywhere.OWN_RATE and remedy != everywhere.FIXED_SHIFT
    )
    mine = of_cell[of_cell["remedy"] == everywhere.LOSS]
    assert mine.set_index("rate")["below"][1e-3] == pytest.approx(best - loss)


def test_sentences_and_tables_give_the_same_counts():
    page = everywhere.Everywhere()
    n = len(page.cells)
    assert n >= 9 and page.table().data.count("<tr>") == n
    low = page.below(everywhere.LOSS, 1e-3)
    assert len(low) == n and page.near(everywhere.LOSS, 1e-3) == (low <= 0.05).sum()
    text = page.counts().data
    for remedy, rate in ((everywhere.LOSS, 1e-3), (everywhere.LAYER, everywhere.OWN_RATE)):
        assert f"{page.near(remedy, rate)} of {n} ({page.below(remedy, rate).max():.2f})" in text
    assert page.below(everywhere.FIXED_SHIFT).empty and "—" in text  # the fixed shift is not tuned
    loss, layer = page.near(everywhere.LOSS, 1e-3), page.near(everywhere.LAYER)
    line = f"in {loss} of {n} cells, none fine-tuned; the layer, tuned, in {layer} ("
    assert line in page.line() and not any(network.endswith(":imagenet") for _, network in page.cells)
    assert f"at 0.01 in {page.near(everywhere.LAYER, 1e-2)}." in page.second()
    frozen = sum(":head" in network for _, network in page.cells)
    assert f"{frozen} heads on frozen bodies and {n - frozen} networks with all layers trained" in page.scope


def test_adjusted_logits_are_compared_at_their_best_rate():
    below = []
    for cell in rate_profile.PLAN.cells:
        part = plan_frame(rate_profile.PLAN, [cell], published.read((cell.setting,)))
        by = part.groupby(["arm", "readout", "level"])["f1_macro"].mean()
        below.append(by["final_bn", "as_trained"].max() - by["plain", "logit_adjusted"].max())
    text = everywhere.Everywhere().adjusted()
    assert "In 4 sweeps of the learning rate (tomato leaves and apple leaves)" in text
    assert f"at their best rate are {words.span(below)} below the layer" in text


def test_spans_are_one_number_where_they_read_alike():
    assert words.span([0.012, 0.1]) == "0.01 to 0.10" and words.span([0.011, 0.013]) == "0.01"
    assert words.span([20, 20], 0) == "20" and words.span([10, 20], 0) == "10 to 20"


def test_without_results_there_are_no_tables(monkeypatch):
    monkeypatch.setattr(everywhere, "published_rows", lambda settings: pd.DataFrame())
    page = everywhere.Everywhere()
    assert "Not run yet" in page.table().data and "Not run yet" in page.counts().data
    assert page.line() == "" and page.adjusted() == "" and page.cells == []
