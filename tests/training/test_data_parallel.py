"""How a batch is split: every item once, and what is added up over the parts."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from retable.papers.meter import Meter, StepOutput
from retable.training import data_parallel
from retable.training.data_parallel import Ranks, WholeBatchNorm, moments, use_whole_batches
from retable.training.seeds import derive_seed

Pair = namedtuple("Pair", ["x", "y"])


@given(n=st.integers(1, 300), size=st.integers(1, 9))
def test_every_item_is_taken_once_in_order_and_parts_differ_by_one_item_at_most(n, size):
    ranks = [Ranks(rank, size) for rank in range(size)]
    parts = [range(n)[r.part(n)] for r in ranks]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(n=st.integers(1, 40), size=st.integers(1, 9), data=st.data())
def test_weighted_means_of_the_parts_are_the_mean_of_the_whole(n, size, data):
    values = torch.tensor(data.draw(st.lists(st.floats(-9, 9), min_size=n, max_size=n)))
    total, items = 0.0, 0
    for rank in range(size):
        ranks = Ranks(rank, size)
        own = ranks.take(values)
        assert len(own) == max(ranks.items, 1), "nobody has no item to compute on"
        total += float(own.mean()) * ranks.weight / size
        items += ranks.items
    assert items == n
    assert total == pytest.approx(float(values.mean()), abs=1e-5)


def test_a_batch_keeps_its_shape_of_tuples_lists_and_mappings():
    x, y = torch.arange(14).view(7, 2), torch.arange(7)
    ranks = Ranks(1, 2)
    for batch in ((x, y), [x, {"y": y}], Pair(x, y), {"x": x, "y": [y]}):
        own = ranks.take(batch)
        assert type(own) is type(batch)
        assert (ranks.items, ranks.of) == (4, 7)
    own = ranks.take(Pair(x, y))
    assert torch.equal(own.y, torch.tensor([3, 4, 5, 6]))
    assert torch.equal(own.x, x[3:])


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(3), torch.zeros(4)),
        torch.tensor(1.0),
        torch.zeros(0, 2),
        (torch.zeros(3), "abc"),
        (torch.zeros(3), 3),
        SimpleNamespace(x=torch.zeros(3)),
        (),
    ],
    ids=["two lengths", "no axis", "no item", "text", "number", "object", "nothing"],
)
def test_what_cannot_be_split_is_refused(batch):
    with pytest.raises(ValueError, match=r"^device\.devices: a batch .* cannot be split$"):
        Ranks(0, 2).take(batch)


@pytest.fixture
def several(monkeypatch):
    """This process as one of several; sums are of what it has alone."""
    monkeypatch.setattr(data_parallel.dist, "all_reduce", lambda tensor: None)

    def be(rank, size=2):
        ranks = Ranks(rank, size)
        monkeypatch.setattr(data_parallel, "_active", ranks)
        return ranks

    return be


def test_seeds_differ_by_process_but_for_the_first_and_what_is_common(several):
    alone = data_parallel.epoch_seed(5, 3)
    assert alone == derive_seed(5, "epoch", 3)
    assert data_parallel.common(torch.device("cpu")) is None
    seeds, draws = [], []
    for rank in range(3):
        several(rank, 3)
        seeds.append(data_parallel.epoch_seed(5, 3))
        generator = data_parallel.common(torch.device("cpu"))
        draws.append(torch.rand(4, generator=generator).tolist())
        more = torch.rand(4, generator=data_parallel.common(torch.device("cpu"))).tolist()
        assert more != draws[-1], "a stream, not one draw"
    assert seeds[0] == alone
    assert len(set(seeds)) == 3
    global_one = torch.rand(4, generator=torch.Generator().manual_seed(alone)).tolist()
    assert draws == [global_one] * 3, "what one process would draw from its global generator"


def test_an_item_that_stands_in_counts_nothing(several):
    ranks, meter = several(0, 3), Meter()
    for batch in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([50.0])):
        own = ranks.take(batch)
        meter.add(StepOutput(own.mean(), own, own), {})
    assert ranks.items == 0
    assert ranks.weight == 0
    assert meter.close({}) == {"loss": torch.tensor(1.0, dtype=torch.float64)}


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}], ids=str)
def test_a_norm_of_whole_batches_is_torchs_own_where_there_is_one_process(shape, options):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    torch.manual_seed(0)
    theirs, ours = kind(3, **options), nn.Sequential(kind(3, **options))
    if options.get("affine", True):
        nn.init.uniform_(theirs.weight)
        nn.init.uniform_(theirs.bias)
    ours[0].load_state_dict(theirs.state_dict())
    use_whole_batches(ours)
    assert isinstance(ours[0], WholeBatchNorm)
    for _ in range(3):
        x = (5 + 3 * torch.randn(shape)).requires_grad_()
        other = x.detach().clone().requires_grad_()
        one, two = theirs(x), ours(other)
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
        weights = torch.randn(shape)
        (one * weights).sum().backward()
        (two * weights).sum().backward()
        torch.testing.assert_close(other.grad, x.grad, rtol=1e-4, atol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours[0].state_dict()[name], value, rtol=1e-5, atol=1e-6)
    ours[0].load_state_dict(theirs.state_dict())
    theirs.eval()
    ours.eval()
    assert torch.equal(theirs(x), ours(x)), "evaluation is as it was"


def test_moments_are_of_all_parts():
    """Of what each adds up: here the sums that three processes would send."""
    torch.manual_seed(0)
    x = torch.randn(7, 2, 3)
    mean, variance, unbiased = moments(x)
    torch.testing.assert_close(mean, x.mean((0, 2)))
    torch.testing.assert_close(variance, x.var((0, 2), correction=0))
    assert float(unbiased) == pytest.approx(21 / 20)


def test_half_precision_is_added_up_in_single():
    x = torch.full((4096, 1), 30.0, dtype=torch.float16)
    mean, variance, _ = moments(x)
    assert (mean.dtype, float(mean), float(variance)) == (torch.float32, 30.0, 0.0)
