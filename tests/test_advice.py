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
from replication.pages import advice, everywhere, names
from replication.pages.parameters import Parameters
from replication.pages.tuning import TuningPage
from replication.results import published
from replication.run import Run
from replication.study.rates import Place, learning_rate

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
    assert len(SNIPPETS) == 5


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
    found = run("adjusted")
    odds = found["adjusted"][0, 1] - found["adjusted"][0, 0]
    assert float(odds) == pytest.approx(-3 + torch.log(torch.tensor(100.0)).item(), abs=1e-5)


def test_advice_says_where_the_fixed_shift_fails():
    """Of the registered comparisons, not of the page's own cells alone."""
    page = advice.AdvicePage(Parameters())
    worse = [c for c in TuningPage(Parameters()).contests if not c.noninferior]
    third = page.sentences().data.splitlines()[2]
    assert (
        worse
        and f"in {len(worse)} of " in third
        and all(names.cell_phrase((c.setting, c.network)) in third for c in worse)
    )


def test_the_table_has_every_cell_whose_runs_are_there():
    page = everywhere.Everywhere()
    of = published.read(("skin@160",))
    base = Run(setting="skin@160", network="efficientnet_lite0", init="imagenet", trained="head", final_norm="bn")
    base = dataclasses.replace(base, learning_rate=learning_rate(Place(base.setting, LITE), "final_bn"))
    same = {name: value for name, value in vars(base).items() if name != "seed"}
    rows = of[(of[list(same)] == pd.Series(same)).all(axis=1) & of["seed"].between(100, 119)]
    for readout, name in (("as_trained", "final BN"), ("bn_removed", "final BN with the layer removed")):
        wanted = rows.loc[rows["readout"] == readout, "f1_macro"]
        assert len(wanted) == 20 and page.means["skin@160", LITE][name] == pytest.approx(wanted.mean())
    assert len(page.means) >= 9 and page.table().data.count("<tr>") == len(page.means)
    lines = page.sentence().data.splitlines()[2:]
    assert len(lines) == len(next(iter(page.means.values()))) and " 0.00 below the best" not in lines[-1]
    (layer,) = [line for line in lines if line.startswith("- final BN: ")]
    near = [of["final BN"] >= max(of.values()) - 0.05 for of in page.means.values()]
    assert f"{sum(near)} of {len(near)}, " in layer
    assert f"cells, the layer in {sum(near)}, " in page.line().data


def test_the_rate_of_adjusted_logits_is_their_own():
    text = everywhere.Everywhere().adjusted()
    rows = published.read(("plantvillage/apple@160",))
    run = Run(setting="plantvillage/apple@160", network="efficientnet_lite0", init="imagenet", trained="head")
    scores = {}
    for rate in rate_profile.RATES:
        same = {n: v for n, v in vars(dataclasses.replace(run, learning_rate=rate)).items() if n != "seed"}
        here = rows[(rows[list(same)] == pd.Series(same)).all(axis=1) & rows["seed"].between(100, 159)]
        scores[rate] = here.groupby("readout")["f1_macro"].mean()
    adjusted = max(scores, key=lambda rate: scores[rate]["logit_adjusted"])
    plain = max(scores, key=lambda rate: scores[rate]["as_trained"])
    layer = Run(**vars(run) | {"final_norm": "bn"})
    same = {n: v for n, v in vars(layer).items() if n not in ("seed", "learning_rate")}
    of = rows[(rows[list(same)] == pd.Series(same)).all(axis=1) & (rows["readout"] == "as_trained")]
    of = of[of["seed"].between(100, 159) & of["learning_rate"].isin(rate_profile.RATES)]
    best = of.groupby("learning_rate")["f1_macro"].mean().max()
    page = everywhere.Everywhere()
    (mine,) = page.profiles[(page.profiles["setting"] == run.setting) & (page.profiles["network"] == LITE)].to_dict(
        "records"
    )
    assert mine["own rate"] == pytest.approx(best - scores[adjusted]["logit_adjusted"])
    assert mine["rate of plain"] == pytest.approx(best - scores[plain]["logit_adjusted"])
    assert len(page.profiles) == 4 and "tomato leaves and apple leaves" in text
    assert (
        f"it is {page.profiles['rate of plain'].min():.2f} to {page.profiles['rate of plain'].max():.2f} below" in text
    )


def test_without_results_there_is_no_table(monkeypatch):
    monkeypatch.setattr(everywhere, "published_rows", lambda settings: pd.DataFrame())
    page = everywhere.Everywhere()
    assert page.sentence().data == "*Not run yet.*" and "Not run yet" in page.table().data and page.adjusted() == ""
    assert page.line().data == ""
