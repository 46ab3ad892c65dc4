"""The papers' own networks start from torchvision's files: the whole path, with a local server for torchvision's."""

import functools
import hashlib
import http.server
import os
import threading

import pytest
import torch
from torchvision import models

from replication.cli import main
from replication.run import Run
from replication.running.local import carry_out
from replication.training import weights

needs_images = pytest.mark.skipif(not os.environ.get("REPLICATION_DATA"), reason="REPLICATION_DATA is not set")
ENUMS = {"resnet34": models.ResNet34_Weights, "vgg19": models.VGG19_Weights}
MADE = {"resnet34": models.resnet34, "vgg19": functools.partial(models.vgg19, init_weights=False)}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """name -> state dict: puts a file of it where torchvision's would be, named by its sum as theirs are."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    monkeypatch.delenv("REPLICATION_WEIGHTS", raising=False)
    monkeypatch.setenv("REPLICATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    there = tmp_path / "server"
    there.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(there)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    weights._read.cache_clear()

    def serve(name: str, changed: bool = False) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        state = MADE[name]().state_dict()
        torch.save(state, there / "new.pth")
        raw = (there / "new.pth").read_bytes()
        file = there / f"{name}-{hashlib.sha256(raw).hexdigest()[:8]}.pth"
        (there / "new.pth").rename(file)
        if changed:
            file.write_bytes(raw[:-1] + b"!")
        address = f"http://127.0.0.1:{server.server_port}/{file.name}"
        monkeypatch.setattr(ENUMS[name].IMAGENET1K_V1.value, "url", address)
        return state

    yield serve, asked
    server.shutdown()
    server.server_close()
    weights._read.cache_clear()


@needs_images
def test_a_run_of_the_papers_networks_trains_from_a_downloaded_file(served):
    serve, asked = served
    state = serve("resnet34")
    run = Run(
        setting="plantvillage/apple",
        network="resnet34",
        init="imagenet",
        final_norm="bn",
        n_majority=90,
        updates=2,
        batch_size=50,
    )
    main(["weights", "resnet34"])  # it notes their digest, by which keys are known before anything is read
    result = carry_out(run, "cpu", "here")  # in this process: another would ask torchvision's own server
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert len(asked) == 1 and result.run == run
    assert result.facts["checkpoint"] == weights.digest(body) and result.scores["as_trained"]["f1_minority"] >= 0
    weights._read.cache_clear()
    weights.imagenet("resnet34")
    assert len(asked) == 1, "it lies in torch's cache"


@pytest.mark.parametrize("name", ["resnet34", "vgg19"])
def test_the_body_of_a_served_file_is_the_one_that_trains(served, name):
    serve, asked = served
    state = serve(name)
    found = weights.imagenet(name)
    assert len(asked) == 1 and found
    assert all(torch.equal(value, state[key]) for key, value in found.items())


def test_a_file_that_is_not_the_one_named_is_refused_in_one_sentence(served):
    serve, _ = served
    serve("resnet34", changed=True)
    with pytest.raises(ValueError, match="no ImageNet weights for network 'resnet34'.*hash") as error:
        weights.imagenet("resnet34")
    assert "\n" not in str(error.value)
