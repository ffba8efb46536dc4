"""Corruptions: closed forms, the benchmark's loops in small, and what holds of all of them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from retable.papers.subtuning import corruptions as c
from retable.papers.subtuning import water
from retable.papers.subtuning.frost import textures
from retable.util.errors import UserError

GREY = np.full((40, 32, 32, 3), 128, np.uint8)


def pictures(n=24, seed=0):
    random = np.random.default_rng(seed)
    x = c.blurred(random.normal(size=(n, 32, 32, 3)), 1.5)
    return c.to_bytes(0.5 + 0.2 * x / x.std((1, 2, 3), keepdims=True))


@pytest.fixture(scope="module")
def x():
    return pictures()


def far(a, b):
    return np.abs(a.astype(float) - b).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", c.NAMES)
def test_a_corruption_keeps_shape_and_type_is_repeatable_and_changes_images(name, x):
    before = x.copy()
    made = c.corrupt(x, name, 5)
    assert made.shape == x.shape
    assert made.dtype == np.uint8
    assert (made == c.corrupt(x, name, 5)).all()
    assert (x == before).all()
    assert far(made, x) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(c.NAMES) - {"saturate", "frost", "glass_blur"}))
def test_a_higher_severity_is_further_from_the_clean_images(name, x):
    # spatter's lower ones are water, its higher ones mud; each kind has an order of its own
    groups = [(1, 2, 3), (4, 5)] if name == "spatter" else [(1, 2, 3, 4, 5)]
    for group in groups:
        distances = [far(c.corrupt(x, name, severity), x) for severity in group]
        assert distances == sorted(distances)
        assert distances[0] > 0


def test_what_is_drawn_depends_on_corruption_severity_and_place_alone(x):
    twice = np.concatenate([GREY[:4], GREY[:4]])
    noisy = c.corrupt(twice, "gaussian_noise", 5)
    assert (noisy[0] != noisy[4]).any()  # equal images, other places
    more = np.concatenate([x] * 30)[:600]
    assert (c.corrupt(more, "shot_noise", 3)[:500] == c.corrupt(more[:500], "shot_noise", 3)).all()
    a, b = (c.corrupt(GREY, "gaussian_noise", s).astype(float) - 128 for s in (4, 5))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_names_are_the_papers_fourteen_and_contrast():
    assert len(set(c.NAMES)) == 15
    assert c.OWN.issubset(c.NAMES)


def test_wrong_arguments_are_named(x):
    with pytest.raises(UserError, match=r"data.corruption: .*'snowy'.*snow"):
        c.corrupt(x, "snowy", 1)
    with pytest.raises(UserError, match=r"data.severity: 6"):
        c.corrupt(x, "snow", 6)
    with pytest.raises(ValueError, match="float64"):
        c.corrupt(x / 255.0, "snow", 1)


@pytest.mark.parametrize(("severity", "scale"), [*enumerate((0.04, 0.06, 0.08, 0.09, 0.1), 1)])
def test_gaussian_noise_has_its_deviation(severity, scale):
    added = c.corrupt(GREY, "gaussian_noise", severity) / 255 - 128 / 255
    # cutting off is half a byte downwards and adds 1/12 of a squared byte of variance
    wanted = math.sqrt(scale**2 + 1 / 12 / 255**2)
    assert added.std() == pytest.approx(wanted, rel=0.01)
    assert added.mean() == pytest.approx(-0.5 / 255, abs=4 * scale / math.sqrt(added.size))


def test_shot_noise_is_poisson_and_speckle_grows_with_the_value():
    value = 128 / 255
    shot = c.corrupt(GREY, "shot_noise", 5) / 255
    assert shot.std() == pytest.approx(math.sqrt(value / 50), rel=0.02)
    counts = np.unique(c.corrupt(GREY, "shot_noise", 5))
    assert set(counts) <= {int(min(k / 50, 1) * 255) for k in range(200)}
    for level in (64, 128):
        speckle = c.corrupt(np.full_like(GREY, level), "speckle_noise", 5) / 255
        assert speckle.std() == pytest.approx(0.2 * level / 255, rel=0.02)


@pytest.mark.parametrize(("severity", "amount"), [*enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)])
def test_impulse_noise_replaces_single_values_by_the_extremes(severity, amount):
    made = c.corrupt(GREY, "impulse_noise", severity)
    assert set(np.unique(made)) == {0, 128, 255}
    error = 4 * math.sqrt(amount / made.size)
    assert (made == 0).mean() == pytest.approx(amount / 2, abs=error)
    assert (made == 255).mean() == pytest.approx(amount / 2, abs=error)
    changed = made != 128
    assert (changed.any(-1) & ~changed.all(-1)).any()  # not whole pixels


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.75, 0.4, 0.15]))
@settings(max_examples=20, deadline=None)
def test_contrast_shrinks_about_the_mean_of_the_channel(seed, factor):
    x = pictures(2, seed)
    made = c.contrast(x, factor)
    mean = x.mean((1, 2), keepdims=True)
    assert np.abs(made - (mean + factor * (x - mean))).max() <= 1 + 1e-9
    assert np.abs(made.mean((1, 2)) - x.mean((1, 2))).max() <= 1 + 1e-9


def test_blurs_keep_a_constant_image_and_the_mean(x):
    for name in ("gaussian_blur", "glass_blur", "motion_blur", "zoom_blur", "pixelate"):
        assert np.abs(c.corrupt(GREY, name, 5).astype(int) - 128).max() <= 1
        # a half of a byte is cut off, and edges count for more than they did
        assert c.corrupt(x, name, 5).mean() == pytest.approx(x.mean(), abs=2.5)
        assert c.corrupt(x, name, 5).std() < x.std()


def test_gaussian_blur_of_a_point_is_the_gaussian():
    x = np.zeros((1, 33, 33, 3))
    x[0, 16, 16] = 1
    made = c.blurred(x, 1.0)[0, :, :, 0]
    tail = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    tail /= tail.sum()
    assert np.abs(made[12:21, 12:21] - np.outer(tail, tail)).max() < 1e-12


def test_glass_blur_is_the_benchmarks_loop(x):
    """Its assignment between views of one array, pixel after pixel from the end."""
    draws = np.random.default_rng(3).integers(-1, 1, (2, 2, 2, 30, 30))

    class Given:
        turn = -1

        def integers(self, low, high, shape):
            self.turn += 1
            assert (low, high, shape) == (-1, 1, draws.shape[1:])
            return draws[self.turn]

    made = c.glass_blur(x[:2], 0.4, 2, Given())
    for i in range(2):
        y = c.to_bytes(c.blurred(x[i : i + 1] / 255.0, 0.4))[0]
        for turn in range(2):
            for h in range(31, 1, -1):
                for w in range(31, 1, -1):
                    down, right = draws[turn, :, i, h - 2, w - 2]
                    a, b = (h, w), (h + down, w + right)
                    y[a], y[b] = y[b], y[a]
        assert (made[i] == c.to_bytes(c.blurred(y[None] / 255.0, 0.4))[0]).all()


def test_motion_blur_is_a_sum_over_shifts_with_edges_repeated():
    x = np.random.default_rng(0).random((3, 32, 32, 2))
    angles = np.array([0.0, 30.0, -90.0])
    made = c.motion_blur(x, 3, 1.5, angles)
    weights = np.exp(-(np.arange(7) ** 2) / 4.5)
    weights /= weights.sum()
    for n, angle in enumerate(np.deg2rad(angles)):
        for i, j in ((0, 0), (5, 9), (31, 31), (30, 2)):
            wanted = 0
            for w, weight in enumerate(weights):
                down = math.ceil(w * math.sin(angle) - 0.5)
                right = math.ceil(w * math.cos(angle) - 0.5)
                at = np.clip([i + down, j + right], 0, 31)
                wanted = wanted + weight * x[n, at[0], at[1]]
            assert made[n, i, j] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.07, 1.25, 1.75, 2.25])
def test_the_zoom_matrix_is_scipys_zoom_of_the_middle(factor):
    x = np.random.default_rng(0).random((32, 32))
    cut = math.ceil(32 / factor)
    top = (32 - cut) // 2
    large = ndimage.zoom(x[top : top + cut, top : top + cut], factor, order=1)
    trim = (len(large) - 32) // 2
    wanted = large[trim : trim + 32, trim : trim + 32]
    a = c.zoom_matrix(factor)
    assert np.abs(a @ x @ a.T - wanted).max() < 1e-12


def test_zoom_blur_is_the_mean_of_magnifications(x):
    one = x[:1, :, :, :1] / 255.0
    zooms = [c.zoom_matrix(f) for f in np.arange(1, 1.06, 0.01)]
    assert len(zooms) == 7  # 1.06 is among them, by the rounding of arange
    wanted = (one[0, :, :, 0] + sum(a @ one[0, :, :, 0] @ a.T for a in zooms)) / 8
    assert np.abs(c.corrupt(x, "zoom_blur", 1)[0, :, :, 0] - 255 * wanted).max() <= 1


def test_saturate_is_that_of_hsv(x):
    import colorsys

    for factor, offset in ((0.3, 0), (2.5, 0.2)):
        made = c.saturate(x, factor, offset)
        for i, j in np.random.default_rng(0).integers(0, 32, (40, 2)):
            h, s, v = colorsys.rgb_to_hsv(*(x[0, i, j] / 255.0))
            wanted = colorsys.hsv_to_rgb(h, min(s * factor + offset, 1), v)
            assert np.abs(made[0, i, j] - 255 * np.array(wanted)).max() <= 1 + 1e-9
    assert (c.saturate(GREY, 2.5, 0.2)[0, 0, 0] == [128, 102, 102]).all()  # reddish
    assert (c.saturate(np.zeros_like(GREY), 2.5, 0.2) == 0).all()


def test_jpeg_and_pixelate_are_pillows(x):
    file = io.BytesIO()
    Image.fromarray(x[3]).save(file, "JPEG", quality=40)
    assert (c.corrupt(x, "jpeg_compression", 5)[3] == np.asarray(Image.open(file))).all()
    blocks = c.pixelate(x, 0.5)
    assert (blocks[:, ::2] == blocks[:, 1::2]).all()
    assert (blocks[:, :, ::2] == blocks[:, :, 1::2]).all()
    mean = x.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(blocks[:, ::2, ::2] - mean).max() <= 1


def test_snow_whitens_and_turns_its_flakes_by_half_a_circle():
    black = np.zeros((1, 32, 32, 3), np.uint8)
    layer = np.zeros((1, 32, 32))
    layer[0, 2, 5] = 0.4
    made = c.snow(black, layer, 0.8)[0, :, :, 0]
    assert (made[2, 5], made[29, 26], made[10, 10]) == (127, 127, 25)


def test_mud_covers_and_water_only_adds_light(x):
    liquid = np.zeros((len(x), 32, 32))
    liquid[:, 8:16, 8:16] = 0.9
    mud = c.spatter(x, liquid, 0.68, 0.6, mud=True)
    assert np.abs(mud[:, 11:13, 11:13].astype(int) - [63, 42, 20]).max() <= 1
    assert np.abs(mud[:, 24:].astype(int) - x[:, 24:]).max() <= 1
    wet = c.spatter(x, liquid, 0.68, 0.5, mud=False).astype(int)
    assert (wet >= x.astype(int) - 1).all()
    assert wet.mean() > x.mean()


def test_edges_of_a_square_are_its_outline_and_weak_ones_need_a_strong_one():
    image = np.zeros((3, 32, 32), np.int64)
    image[0, 8:20, 8:20] = 200
    image[1:, 8:20, 8:20] = 20  # gradients of up to 120: none above the higher threshold
    image[2, 8:20, 16:20] = 200
    found = water.edges(image, 50, 150)
    assert not found[1].any()
    assert found[2, :, 8].any()  # weak, but in touch with a strong one
    assert found[0].sum() > 40
    inside = np.zeros((32, 32), bool)
    inside[7:21, 7:21] = True
    inside[10:18, 10:18] = False
    assert not (found[0] & ~inside).any()


def test_the_distance_is_the_shortest_way_over_the_masks_steps():
    edge = np.zeros((2, 12, 12), bool)
    edge[0, 3, 4] = edge[1, 0, 0] = edge[1, 11, 6] = True
    found = water.distance(edge)

    def way(a, b):
        most, least = max(a, b), min(a, b)
        if 2 * least <= most:
            return (most - 2 * least) + 2.1969 * least
        return (most - least) * 2.1969 + (2 * least - most) * 1.4

    for n in range(2):
        for i in range(12):
            for j in range(12):
                wanted = min(way(abs(i - a), abs(j - b)) for a, b in np.argwhere(edge[n]))
                assert found[n, i, j] == pytest.approx(wanted, abs=1e-4)


def test_an_equalised_histogram_reaches_from_0_to_255_and_keeps_the_order():
    image = np.random.default_rng(0).integers(40, 90, (3, 32, 32))
    image[2] = 7
    made = water.equalised(image)
    assert (made[2] == 7).all()
    assert (made[:2].min((1, 2)) == 0).all()
    assert (made[:2].max((1, 2)) == 255).all()
    order = np.argsort(image[0].ravel(), kind="stable")
    assert (np.diff(made[0].ravel()[order]) >= 0).all()


def test_drops_add_at_most_1_and_nothing_where_there_is_no_liquid():
    liquid = np.zeros((2, 32, 32))
    liquid[0, 6:18, 9:25] = 0.8
    light = water.drops(liquid)
    assert light[0].max() == pytest.approx(1)
    assert (light[liquid == 0] == 0).all()


def test_frost_is_a_weighted_sum_with_a_texture():
    black = np.zeros((400, 32, 32, 3), np.uint8)
    made = c.corrupt(black, "frost", 5)
    wanted = 0.45 * textures().mean()
    assert made.mean() + 0.5 == pytest.approx(wanted, rel=0.05)
    assert len(np.unique(made.reshape(400, -1).sum(1))) > 390  # pieces differ
    assert textures().shape == (5, 128, 128, 3)
    assert textures()[0].mean((0, 1)) == pytest.approx([78, 148, 165], abs=0.6)
