"""The law of the shift: its simulation against torch's optimisers, and what it gave before its predictions were registered."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from replication.analysis import law
from replication.run import Run
from replication.training import loop, schedules


@pytest.mark.parametrize("updates", [2, 3, 4, 5, 7, 10, 11, 150, 1501])
@pytest.mark.parametrize("name", ["one_cycle", "constant"])
def test_schedule_is_torchs(name, updates):
    expected = np.array(schedules.schedule(name, 3e-3, updates))
    np.testing.assert_allclose(np.stack(law.schedule(name, 3e-3, updates), 1), expected, rtol=1e-12, atol=1e-18)


def trained(rate, updates, counts, optimizer, one_logit, schedule="one_cycle", multiple=1.0):
    """The shifts after every update of torch's own optimiser, gradients by autograd of the expected cross-entropy."""
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    b = torch.zeros(1 if one_logit else len(counts), dtype=torch.float64, requires_grad=True)
    make = {
        "adam": lambda: torch.optim.Adam([b]),
        "adamw": lambda: torch.optim.AdamW([b], weight_decay=0.0),
        "sgd": lambda: torch.optim.SGD([b], lr=1.0, momentum=0.9),
    }
    of, seen = make[optimizer](), []
    for lr, beta1 in schedules.schedule(schedule, rate, updates):
        of.param_groups[0]["lr"] = lr * multiple
        if optimizer != "sgd":
            of.param_groups[0]["betas"] = (beta1, 0.999)
        of.zero_grad()
        if one_logit:
            F.binary_cross_entropy_with_logits(b[0], shares[1]).backward()
        else:
            F.cross_entropy(b, shares).backward()
        of.step()
        seen.append(float((b[-1] if one_logit else b[-1] - b[0]).detach()))
    return np.array(seen)


@pytest.mark.parametrize("counts", [(1000, 10), (1000, 80), (500, 500, 10), (1000, 10, 10)])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("rate", [1e-4, 3e-3, 3e-2])
def test_simulation_is_torch_on_the_shifts_alone(optimizer, rate, counts):
    found = law.simulate(rate, 150, counts, optimizer=optimizer)
    np.testing.assert_allclose(found.shifts, trained(rate, 150, counts, optimizer, False), rtol=0, atol=1e-10)
    assert found.S == pytest.approx(sum(lr for lr, _ in schedules.schedule("one_cycle", rate, 150)))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_simulation_of_one_sigmoid_logit_is_torch(optimizer):
    found = law.simulate(1e-2, 150, optimizer=optimizer, one_logit=True)
    np.testing.assert_allclose(found.shifts, trained(1e-2, 150, (1000, 10), optimizer, True), rtol=0, atol=1e-10)


def test_rate_of_its_own_and_a_constant_schedule():
    found = law.simulate(1e-3, 60, schedule_name="constant", shift_rate=10)
    expected = trained(1e-3, 60, (1000, 10), "adam", False, "constant", 10)
    np.testing.assert_allclose(found.shifts, expected, rtol=0, atol=1e-10)
    assert found.S == pytest.approx(0.6)


BN = {"final_norm": "bn"}


@pytest.mark.parametrize(
    ("factors", "shift"),
    [
        ({"learning_rate": 1e-4}, -0.015),
        ({"learning_rate": 1e-3}, -0.145),
        ({"learning_rate": 3e-3}, -0.42),
        ({"learning_rate": 1e-2}, -1.21),
        ({"learning_rate": 3e-2}, -2.48),
        ({"learning_rate": 3e-4}, -0.045),
        ({"learning_rate": 1e-3, "epochs": 30}, -0.425),
        ({"learning_rate": 1e-3, "epochs": 100}, -1.21),
        ({"batch_size": 16}, -1.43),
        ({"batch_size": 256}, -0.08),
        ({"n_minority": 2}, -0.42),
        ({"n_minority": 40}, -0.45),
        ({"n_minority": 100}, -0.47),
    ],
)
def test_predictions_are_those_made_before_registration(factors, shift):
    assert law.predicted(Run(**BN, **factors)).shift == pytest.approx(shift, abs=0.006)


def test_the_law_knows_how_many_updates_a_run_makes():
    for run in (Run(**BN), Run(**BN, batch_size=48, n_minority=40), Run(**BN, updates=77), Run(**BN, epochs=3)):
        labels = np.repeat([0, 1], law.training_counts(run))
        assert len(law.predicted(run).shifts) == sum(map(len, loop.batches(run, labels)))


def test_two_majorities_and_two_minorities_are_counted():
    assert law.training_counts(Run(setting="digits/2v1")) == (1000, 1000, 10)
    assert law.training_counts(Run(setting="cifar10/1v2", n_majority=500)) == (500, 10, 10)


def test_confidence_is_the_sigmoid_of_the_shift():
    assert [round(law.confidence(s), 3) for s in (-0.145, -0.42, -1.21, -2.48)] == [0.536, 0.603, 0.770, 0.923]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (Run(), "final norm 'none'"),
        (Run(final_norm="bn_fixed_shift"), "bn_fixed_shift"),
        (Run(**BN, loss="focal"), "focal"),
        (Run(**BN, sampling="oversample"), "oversample"),
        (Run(**BN, output="sigmoids"), "sigmoids"),
        (Run(**BN, optimizer="lion"), "adam, adamw, sgd"),
        (Run(**BN, schedule="steps"), "one_cycle, constant"),
        (Run(**BN, setting="digits/1v2", output="sigmoid"), "found 3"),
    ],
)
def test_what_the_law_is_not_about_is_refused(run, words):
    with pytest.raises(ValueError, match=words):
        law.predicted(run)


def test_zero_between_class_means_by_hand():
    x = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 3.0], [3.0, 0.0]])  # the last is minority: deviations (1.5, -2.25)
    assert law.predicted_zero(x, np.array([False, False, False, True])) == pytest.approx(-(1 - 3) / (3 - (1 - 3)))


def test_features_that_tell_nothing_predict_no_zero():
    assert np.isnan(law.predicted_zero(np.ones((6, 3)), np.arange(6) > 4))
