"""What is kept and given to the metrics in pieces is what they would have had batch by batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers import meter
from retable.papers.meter import Meter, StepOutput


def metrics() -> MetricCollection:
    return MetricCollection({"accuracy": MulticlassAccuracy(3, average="micro")})


def batch(size: int, generator: torch.Generator, **logs: float) -> StepOutput:
    return StepOutput(
        torch.rand((), generator=generator, requires_grad=True),
        torch.randn(size, 3, generator=generator),
        torch.randint(3, (size,), generator=generator),
        {name: torch.tensor(value) for name, value in logs.items()},
    )


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    max_batches=st.integers(1, 30),
    max_elements=st.integers(1, 200),
)
def test_means_and_metrics_do_not_depend_on_the_pieces(sizes, max_batches, max_elements):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "_MAX_BATCHES", max_batches)
        patch.setattr(meter, "_MAX_ELEMENTS", max_elements)
        generator = torch.Generator().manual_seed(0)
        outputs = [batch(size, generator, extra=float(i)) for i, size in enumerate(sizes)]
        collected, direct, collection = Meter(), metrics(), metrics()
        for output in outputs:
            collected.add(output, {"": collection})
            direct.update(output.predictions, output.targets)
        values = collected.close({"": collection})
    n = sum(sizes)
    mean = sum(o.loss.detach().double() * s for o, s in zip(outputs, sizes, strict=True)) / n
    assert float(values["loss"]) == pytest.approx(float(mean), rel=1e-12)
    extra = sum(i * s for i, s in enumerate(sizes)) / n
    assert float(values["extra"]) == pytest.approx(extra, rel=1e-12)
    assert values["accuracy"] == direct.compute()["accuracy"]


def test_an_epoch_leaves_nothing_to_the_next():
    generator = torch.Generator().manual_seed(0)
    collected, collection = Meter(), metrics()
    collected.add(batch(4, generator), {"": collection})
    collected.close({"": collection})
    only = batch(3, generator)
    collected.add(only, {"": collection})
    values = collected.close({"": collection})
    assert float(values["loss"]) == pytest.approx(float(only.loss.detach()), rel=1e-12)
    assert set(values) == {"loss", "accuracy"}


def test_batches_of_other_shapes_are_not_joined():
    """Padded sequences and images of several sizes: as many classes, another length."""
    seen = []

    class Shapes(MulticlassAccuracy):
        def update(self, preds, target):
            seen.append(tuple(target.shape))
            super().update(preds, target)

    collected, collection = Meter(), MetricCollection({"accuracy": Shapes(3, average="micro")})
    for length in (5, 5, 7):
        predictions = torch.zeros(2, 3, length)
        targets = torch.zeros(2, length, dtype=torch.long)
        collected.add(StepOutput(torch.tensor(0.0), predictions, targets), {"": collection})
    assert collected.close({"": collection})["accuracy"] == 1.0
    assert set(seen) == {(4, 5), (2, 7)}


def test_no_batch_gives_no_value_and_no_graph_is_kept():
    collected, collection = Meter(), metrics()
    assert collected.close({"": collection}) == {}
    collected.add(batch(2, torch.Generator().manual_seed(0)), {"": collection})
    (kept,) = collected._scalars["loss"]
    assert not kept.requires_grad
    assert collected.close({})["loss"] > 0


def tasks(n: int, generator: torch.Generator) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """One task has every item, the other every second one only."""
    scores, classes = torch.randn(n, 3, generator=generator), torch.arange(n) % 3
    return {"all": (scores, classes), "half": (scores[::2].neg(), classes[::2])}


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(2, 9), min_size=1, max_size=12), pieces=st.integers(1, 60))
def test_several_tasks_have_metrics_of_their_own(sizes, pieces):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "_MAX_ELEMENTS", pieces)
        generator = torch.Generator().manual_seed(0)
        collected = Meter()
        collections = {name: metrics().clone(prefix=f"val/{name}/") for name in ("all", "half")}
        direct = {name: metrics() for name in collections}
        for n in sizes:
            pairs = tasks(n, generator)
            collected.add(StepOutput(torch.tensor(float(n)), tasks=pairs, items=n), collections)
            for name, pair in pairs.items():
                direct[name].update(*pair)
        values = collected.close(collections)
    assert set(values) == {"loss", "val/all/accuracy", "val/half/accuracy"}
    for name, one in direct.items():
        assert values[f"val/{name}/accuracy"] == one.compute()["accuracy"]
    assert float(values["loss"]) == pytest.approx(sum(n * n for n in sizes) / sum(sizes))


def test_tasks_of_several_sizes_have_to_say_how_many_items_there_are():
    pairs = tasks(5, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"StepOutput\.items: has to be given"):
        Meter().add(StepOutput(torch.tensor(0.0), tasks=pairs), {})
    with pytest.raises(ValueError, match="has to be given"):
        Meter().add(StepOutput(torch.tensor(0.0)), {})
    assert StepOutput(torch.tensor(0.0), tasks={"all": pairs["all"]}).size() == 5


def test_a_task_without_metrics_is_named():
    pairs = {"depht": (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))}
    with pytest.raises(ValueError, match=r"'depht' has no metrics; .* those of \['depth'\]"):
        Meter().add(StepOutput(torch.tensor(0.0), tasks=pairs), {"depth": metrics()})
    with pytest.raises(ValueError, match="one collection for no task; give self"):
        Meter().add(StepOutput(torch.tensor(0.0), tasks=pairs), {"": metrics()})
    plain = StepOutput(torch.tensor(0.0), *pairs["depht"])
    with pytest.raises(ValueError, match=r"metrics of tasks \(\['depth'\]\) only"):
        Meter().add(plain, {"depth": metrics()})
