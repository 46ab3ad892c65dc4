"""The snippets of the advice page run and do what the page says of them; its advice hides no failure."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch

from replication.pages import advice, names
from replication.pages.parameters import Parameters
from replication.pages.tuning import TuningPage

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
