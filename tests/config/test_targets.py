"""What a config may build, and with which arguments."""

from __future__ import annotations

import textwrap

import pytest

from retable.config import targets
from retable.config.targets import check, unchecked
from retable.util.errors import UserError

MODULE = "retable.papers.base.PaperModule"
DATA = "retable.data.base.PaperDataModule"


def node(target: str, **arguments: object) -> dict[str, object]:
    return {"_target_": target, **arguments}


def sgd(**arguments: object) -> dict[str, object]:
    return node("torch.optim.SGD", _partial_=True, **arguments)


@pytest.mark.parametrize(
    "accepted",
    [
        node("torch.nn.Linear", in_features=2, out_features=3),  # a re-export
        node("torchvision.models.resnet18", num_classes=10),  # through **kwargs
        node("torchmetrics.classification.MulticlassAccuracy", num_classes=10, average="micro"),
        node("pytorch_lightning.callbacks.EarlyStopping", monitor="val/loss", patience=2),
        node("torch.optim.lr_scheduler.StepLR", _partial_=True, step_size=3),
        sgd(lr=0.1, momentum=0.9),
        node("retable.papers.digits.module.Perceptron", seed=0, optimizer=sgd(lr=0.1)),
    ],
)
def test_accepted(accepted):
    assert check(accepted, "x") == accepted


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.load", "may not be built; allowed: retable.papers"),
        ("os.system", "may not be built"),
        ("builtins.eval", "may not be built"),
        ("", "may not be built"),
        ("torch.optim", "may not be built"),
        ("torch.optimx.SGD", "may not be built"),
        ("torch.optim.", "no '' in torch.optim"),
        (f"torch.optim.{'x' * 300}.SGD", "no module 'torch.optim.xxx"),
        (f"retable.papers.{'é' * 150}.SGD", "no module 'retable.papers.ééé"),
        (f"torch.optim.{'x.' * 2000}SGD", "no module 'torch.optim.x.x"),
        ("torch.nn.parameter", "no 'parameter' in torch.nn; did you mean 'Parameter'?"),
        ("torch.optim.SDG", "did you mean 'SGD'?"),
        ("torch.optim.sdg.SGD", "no module 'torch.optim.sdg'; did you mean 'sgd'?"),
        ("torch.nn.modules.module.sys", "no 'sys'"),
        ("torch.nn.init.normal_", "is a function"),
        ("torch.nn.functional.F", "no 'F'"),
        ("torch.nn.utils.parametrize.ParametrizationList", "may not be built"),
        ("torch.nn.DataParallel", "may not be built"),
        ("pytorch_lightning.callbacks.LambdaCallback", "may not be built"),
        ("pytorch_lightning.callbacks.ModelCheckpoint", "may not be built"),
        ("retable.papers.digits.module.__import__", "no '__import__'"),
        ("retable.papers.digits.module.os", "no 'os'"),
        ("retable.papers.digits.module.os.system", "no module"),
        ("retable.papers.digits.module.Perceptron.__init__", "no module"),
        ("retable.papers.digits.data.derive_seed", "may not be built"),
        ("retable.papers.digits.data.load_digits", "may not be built"),
        ("retable.papers.risk_parity.data.fetch", "is a function"),
        ("retable.papers.risk_parity.data.Path", "may not be built"),
        ("retable.papers.risk_parity.data.csv", "no 'csv'"),
        ("retable.data.fetch.fetch", "is a function"),
        ("retable.data.fetch.write_atomic", "no 'write_atomic'"),
        ("retable.nets.nothing.Net", "no module 'retable.nets.nothing'"),
        ("retable.papers.digit.module.Perceptron", "no module"),
        ("retable.papers.digits.../../x.Y", "no module"),
    ],
)
def test_refused_targets(target, message):
    with pytest.raises(UserError) as caught:
        check(node(target), "model")
    assert str(caught.value).startswith("model._target_: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (sgd(lrr=0.1), "x.lrr: torch.optim.SGD has no argument 'lrr'; did you mean 'lr'?"),
        (sgd(lr="fast"), "x.lr: 'fast' is not valid"),
        (sgd(lr=True), "x.lr: True is not valid"),
        (sgd(lr="0.1"), "x.lr: '0.1' is not valid"),
        (sgd(lr=float("nan")), "x.lr: nan is not a finite number"),
        (sgd(nesterov="\ud800"), "'\\ud800' has characters that cannot be written"),
        (sgd(nesterov=1), "x.nesterov: 1 is not valid"),
        (node("torch.optim.SGD", lr=0.1), "x.params: torch.optim.SGD needs this argument"),
        (node("torch.nn.Linear", in_features=2), "x.out_features: torch.nn.Linear needs"),
        (node("torch.nn.Linear", in_features=2.5, out_features=1), "x.in_features: 2.5 is not"),
        (node("torchvision.models.resnet18", num_clases=1), "did you mean 'num_classes'?"),
        (node("torch.nn.Conv2d", in_channels=1, out_channels=1, kernel_size=1,
              padding_mode="zeroes"), "did you mean 'zeros'?"),
        (node("torch.optim.AdamW", _partial_=True, betas=[0.9]), "x.betas: [0.9] is not valid"),
        ({}, "x: has no _target_"), ({"_target_": 3}, "x: has no _target_"),
        (sgd(_convert_="all"), "x._convert_: only"), (sgd(_args_=[1]), "x._args_: only"),
        (sgd(_recursive_=False), "x._recursive_: only"),
        ({**sgd(), "_partial_": "yes"}, "x._partial_: must be true or false"),
        (node("retable.papers.digits.module.Perceptron", seed=0, fail="maybe"), "valid: diverge"),
        (node("retable.papers.digits.module.Perceptron", seed=0, optimizer=sgd(lrr=1)),
         "x.optimizer.lrr: "),
        (node("retable.papers.digits.module.Perceptron", seed=0,
              optimizer=[node("os.system", command="true")]),
         "x.optimizer[0]._target_: 'os.system'"),
        (node("retable.papers.digits.module.Perceptron", seed=0, optimizer={"a": {1: 2}}),
         "x.optimizer.a: key 1 has to be text"),
        (node("retable.papers.digits.module.Perceptron", seed=0, optimizer=b"x"), "a bytes is not"),
        (node("retable.papers.risk_parity.data.RandomCorrelation", seed=0, paths=1, n_assets=1),
         "x.n_assets: 1 is not valid: should be greater than or equal to 2"),
        (node("retable.papers.risk_parity.data.RandomCorrelation", seed=0, paths=1, test=3),
         "x.test: 3 is not valid"),
        (node("retable.papers.risk_parity.data.RandomCorrelation", seed=0, paths=1, test=True),
         "x.test: True is not valid"),
        (node("retable.papers.risk_parity.module.RiskParity", seed=0, solvers=["newton"],
              signs=[1, True]), "x.signs"),
        (node("retable.papers.risk_parity.module.RiskParity", seed=0, solvers="newton"),
         "x.solvers: 'newton' is not valid"),
        (node("retable.papers.risk_parity.module.RiskParity", seed=0, solvers=["newton"], tol=1),
         "x.tol: 1 is not valid: should be less than 1"),
    ],
)  # fmt: skip
def test_refused_arguments(wrong, message):
    with pytest.raises(UserError) as caught:
        check(wrong, "x")
    assert message in str(caught.value)


def test_a_module_has_to_be_one_and_is_given_its_seed():
    with pytest.raises(UserError, match=r"torch\.nn\.Linear is no PaperModule"):
        check(node("torch.nn.Linear", in_features=1, out_features=1), "model", frozenset(), MODULE)
    with pytest.raises(UserError, match="is no PaperDataModule"):
        check(node("retable.papers.digits.module.Perceptron"), "data", frozenset({"seed"}), DATA)
    perceptron = node("retable.papers.digits.module.Perceptron")
    assert check(perceptron, "model", frozenset({"seed"}), MODULE) == perceptron
    with pytest.raises(UserError, match="given by retable itself"):
        check({**perceptron, "seed": 1}, "model", frozenset({"seed"}), MODULE)
    with pytest.raises(UserError, match="_partial_"):
        check({**perceptron, "_partial_": True}, "model", frozenset({"seed"}), MODULE)
    with pytest.raises(UserError, match="does not take 'paths', as it has to"):
        check(perceptron, "model", frozenset({"seed", "paths"}), MODULE)


def test_numbers_are_as_the_annotation_says():
    same = [check(sgd(lr=x, weight_decay=x), "x") for x in (1, 1.0)]
    assert [type(v) for v in same[0].values()] == [type(v) for v in same[1].values()]
    assert isinstance(same[0]["lr"], float)
    betas = check(node("torch.optim.AdamW", _partial_=True, betas=[0, 1]), "x")["betas"]
    assert all(isinstance(beta, float) for beta in betas)
    risk = node("retable.papers.risk_parity.module.RiskParity", seed=0, solvers=[], budgets=[1, 0])
    assert [type(b) for b in check(risk, "x")["budgets"]] == [float, float]
    # Where an integer is meant it stays one, and false is what leaving it out says.
    linear = node("torch.nn.Linear", in_features=2, out_features=1, _partial_=False)
    assert check(linear, "x") == node("torch.nn.Linear", in_features=2, out_features=1)


def test_what_can_only_be_an_object_has_to_be_one():
    """A network is no text: ``model.net=resnet34`` is refused before anything runs."""
    first = "retable.papers.weight_balancing.module.OneStage"
    net = node("retable.nets.convnet.StridedConvNet")
    assert check(node(first, seed=0, net=net), "x")["net"] == net
    said = r"x.net: 'resnet34' is not valid: should be an object, \{_target_: ...\}$"
    with pytest.raises(UserError, match=said):
        check(node(first, seed=0, net="resnet34"), "x")
    assert "net" not in unchecked(node(first), {"seed"})


def test_a_bound_holds_under_another_name_and_an_unknown_one_is_said(tmp_path, monkeypatch):
    """A module may import ``Field`` as it likes; an option with another marker is not checked."""
    net = node("retable.papers.equilibrium_prop.dense.MLP")
    assert check({**net, "angle": 90}, "x")["angle"] == 90.0
    with pytest.raises(UserError, match=r"x\.angle: 500 is not valid: should be less"):
        check({**net, "angle": 500}, "x")
    source = """
        from typing import Annotated
        from pydantic import Field as Bound
        from somewhere import Even

        class One:
            def __init__(self, a: Annotated[int, Bound(ge=1)], b: Annotated[int, Even()]) -> None:
                ...
    """
    (tmp_path / "boundlib.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "ALLOWED", ("boundlib.",))
    with pytest.raises(UserError, match=r"x\.a: 0 is not valid"):
        check(node("boundlib.One", a=0, b=1), "x")
    assert unchecked(node("boundlib.One"), set()) == ["b"]
