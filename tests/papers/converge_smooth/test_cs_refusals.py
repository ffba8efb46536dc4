"""Options that would train something else than they say, refused before anything is launched."""

from __future__ import annotations

import pytest

from retable.util.errors import UserError
from support.training import config

SMOKE = "converge_smooth/smoke"


def test_replays_begin_without_noise():
    with pytest.raises(
        UserError, match=r"model\.attack\.noise: 1, but a perturbation that goes on"
    ):
        config("model.replays=2", experiment=SMOKE)
    config("model.replays=2", "model.attack.noise=0", experiment=SMOKE)
    config("model.replays=1", experiment=SMOKE)


@pytest.mark.parametrize("preprocess", ["center_train", "center_each_set", "gcn_zca"])
def test_images_stay_where_attacks_clip(preprocess):
    with pytest.raises(UserError, match=rf"data\.preprocess: {preprocess} leaves \[0, 1\]"):
        config(f"data.preprocess={preprocess}", experiment=SMOKE)


@pytest.mark.parametrize(("budget", "said"), [("0.3", r" \(0.3 of it is 76.5\)"), ("300", "")])
def test_a_budget_is_in_255ths(budget, said):
    with pytest.raises(UserError, match=rf"model\.budget: {budget}; is in 255ths.*{said}"):
        config(f"model.budget={budget}", experiment=SMOKE)
