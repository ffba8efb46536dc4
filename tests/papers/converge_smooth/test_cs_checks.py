"""What would look like robustness and is none: sizes, images and options that are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.converge_smooth.attacks import several_steps, single_step
from retable.papers.converge_smooth.checks import refuse_budget, refuse_counts, refuse_pixels
from retable.papers.converge_smooth.evaluation import survivors
from retable.papers.converge_smooth.module import AdversarialTraining
from retable.papers.converge_smooth.overfitting import jump
from retable.papers.converge_smooth.recipe import Attack
from retable.papers.converge_smooth.replays import Replays
from retable.papers.converge_smooth.smoothing import Smoothing
from retable.papers.converge_smooth.strong import unbroken
from support.training import attempt, config

IMAGES, LABELS = torch.rand(4, 1, 4, 4), torch.arange(4)
SMOKE = "converge_smooth/smoke"
HALVED = (
    "data.preprocess={_target_: retable.papers.weight_decay.images.Normalise,"
    "mean: [0.5,0.5,0.5],std: [0.5,0.5,0.5]}"
)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).eval()


def attacked(images=IMAGES, **options):
    given = {"budget": 0.1, "step": 0.1, "after": (1,)} | options
    return survivors(net(), images, LABELS, torch.Generator(), **given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "pgd"}, "loss: 'pgd'; valid: ce, margin"),
        ({"loss": "margn"}, "did you mean 'margin'"),
        ({"step": -0.1}, "step: -0.1"),
        ({"budget": 8.0}, "budget: 8; pixels are in .0, 1., so that 8/255 is 0.0314"),
        ({"after": (10, 0)}, r"after: \[10, 0\]"),
        ({"after": ()}, r"after: \[\]"),
        ({"images": 255 * IMAGES}, "clip to .0, 1."),
        ({"images": IMAGES - 0.5}, "clip to .0, 1."),
        ({"images": IMAGES / 0}, "clip to .0, 1."),
        ({"images": (255 * IMAGES).byte()}, "torch.uint8"),
    ],
)
def test_an_evaluation_that_means_nothing_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        attacked(**options)


def test_a_meaningful_one_is_not():
    assert attacked(after=(0, 3), loss="margin").keys() == {0, 3}
    assert attacked(images=(IMAGES > 0.5).float(), budget=0.0)[1].shape == (4,)


@pytest.mark.parametrize("options", [{"budget": 8.0}, {"images": 255 * IMAGES}])
def test_autoattack_of_what_means_nothing_is_refused(options):
    given = {"budget": 0.1, "images": IMAGES} | options
    with pytest.raises(ValueError, match=r"pixels|clip"):
        unbroken(net(), given["images"], LABELS, budget=given["budget"], seed=0)


def test_attacks_of_training_refuse_sizes_of_another_unit_and_integers():
    def loss(logits):
        return F.cross_entropy(logits, LABELS, reduction="none")

    one = {"budget": 0.1, "start": 0.1, "step": 0.1, "project": False}
    for wrong in ({"budget": -0.1}, {"start": 16.0}, {"step": 8.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            single_step(net(), IMAGES, loss, torch.Generator(), **(one | wrong))
    several = {"budget": 0.1, "step": 0.1, "steps": 2}
    for wrong in ({"budget": 8.0}, {"step": -0.1}, {"steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            several_steps(net(), IMAGES, loss, torch.Generator(), **(several | wrong))
    with pytest.raises(ValueError, match=r"images: torch\.uint8"):
        single_step(net(), IMAGES.byte(), loss, torch.Generator(), **one)


def test_images_of_none_and_ends_of_the_range_pass():
    refuse_pixels(torch.zeros(0, 3), read=True)
    refuse_pixels(torch.tensor([0.0, 1.0]), read=True)
    refuse_counts("after", (0,))


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("momentum", "noise", 2.0),
        ("momentum", "starts", 4),
        ("epoch", "decay", 0.5),
        ("batch", "project", True),
        ("pgd", "quantile", 0.5),
        ("pgd", "reset", 3),
        ("single", "steps", 3),
        ("single", "decay", 0.5),
    ],
)
def test_an_option_that_the_attack_does_not_read_is_refused(kind, option, value):
    with pytest.raises(ValueError, match=rf"attack\.{option}: .* no effect with kind={kind}"):
        Attack(kind=kind, **{option: value})
    default = Attack.__dataclass_fields__[option].default
    assert Attack(kind=kind, **{option: default}).kind == kind


def test_words_that_are_none_are_refused_from_python_too():
    for make, said in (
        (lambda: Attack(kind="mep"), r"attack\.kind: 'mep'"),
        (lambda: Attack(labels="softly"), "did you mean 'soft'"),
        (lambda: Smoothing(on="open"), r"smoothing\.on: 'open'"),
        (lambda: Smoothing(level="item"), r"smoothing\.level"),
        (lambda: Smoothing(change="size"), r"smoothing\.change"),
        (lambda: Smoothing(band=-1), r"smoothing\.band: -1; at least 0"),
        (lambda: Smoothing(weight=-1), r"smoothing\.weight: -1; at least 0"),
        (lambda: Smoothing(ratio=0.5), r"smoothing\.ratio: 0.5; at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            make()


@pytest.mark.parametrize("phases", [[], [0], [12, 0], [-4, 3], [5, 20], [0, 3, 3]])
def test_phases_begin_with_the_training_and_rise(phases):
    with pytest.raises(ValueError, match=r"smoothing\.phases"):
        Smoothing(phases=phases)


def test_losses_are_one_of_each_item():
    with pytest.raises(ValueError, match=r"losses: shape \(4, 10\)"):
        Smoothing().term(torch.ones(4, 10), 1.0, 0.1)


def test_there_is_no_jump_at_the_first_epoch():
    assert jump([2.0, 1.0, 0.5], 0) is None


@pytest.mark.parametrize(
    ("budget", "hint"), [(0.3, "0.3 of it is 76.5"), (300, "300; is in 255ths")]
)
def test_a_budget_is_in_255ths(budget, hint):
    refuse_budget("model.budget", 1)
    refuse_budget("model.budget", 255)
    with pytest.raises(ValueError, match=hint):
        refuse_budget("model.budget", budget)
    with pytest.raises(ValueError, match=hint):
        AdversarialTraining(
            seed=0, net=net(), attack=Attack(), smoothing=Smoothing(), budget=budget
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([HALVED], "data: images: from .* attacks clip"),
        (["data.with_ids=false"], r"data\.with_ids"),
        (["model.n_images=30"], r"model\.n_images: is 30"),
        (["model.n_classes=5", "model.net.n_classes=5"], r"model\.n_classes: is 5"),
        (["model.smoothing.weight=1", "trainer.max_epochs=5"], r"phases: \[0, 4\] ends before"),
    ],
)
def test_data_and_phases_that_do_not_go_with_the_options_end_a_run(tmp_path, options, said):
    cfg = config(*options, experiment=SMOKE)
    with pytest.raises(Exception, match=said):
        attempt(cfg, tmp_path / "run")


def test_a_batch_that_is_not_full_has_the_first_perturbations():
    replays = Replays()
    for n, sizes in ((2, [0.1, 0.1]), (4, [0.2, 0.2, 0.1, 0.1]), (3, [0.2, 0.2, 0.2, 0.1])):
        at = replays.begin(torch.full((n, 1), 0.5)).images
        at.sum().backward()
        replays.move(0.1, 0.2)
        assert replays.kept is not None
        assert replays.kept[:, 0].tolist() == pytest.approx(sizes)
    assert replays.begin(torch.full((1, 1), 0.9)).images.item() == 1  # clipped


@pytest.mark.slow
def test_free_training_takes_a_last_batch_that_is_not_full(tmp_path):
    cfg = config("model.replays=2", "model.attack.noise=0", "data.batch_size=30", experiment=SMOKE)
    outcome, _, _ = attempt(cfg, tmp_path / "run")
    assert outcome.results
