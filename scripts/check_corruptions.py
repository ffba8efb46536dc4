r"""The corruptions of ``subtuning`` against the package ``imagecorruptions``, at its constants.

    PYTHONPATH=src uv run --isolated --no-project --python 3.11 --with imagecorruptions \
        --with 'opencv-python-headless<4.12' --with 'scikit-image<0.23' --with 'numpy<2' \
        --with 'setuptools<80' python scripts/check_corruptions.py

The package has ImageNet-C's functions, with OpenCV and scikit-image, and other constants; so ours
are called with its constants here. Where a corruption is random and its draws can be given, both
get the same; else moments of what they add are compared, of 200 images.

Found (imagecorruptions 1.1.2, scikit-image 0.22, OpenCV 4.11; 614,400 values each):

- contrast, gaussian_blur, jpeg_compression, pixelate, and glass_blur with the same draws: all
  values equal. For the last this shows that the benchmark's swap of pixels copies them.
- saturate, zoom_blur, motion_blur, spatter (water and mud): 98.4 to 100 % of the values equal, the
  others off by one (sums in another order, then cut off). The package divides 0 by 0 where an
  image has no drop of water (5 of 200 at its first severity; none of 6,000 at CIFAR-10-C's).
- snow: 96.2 % equal, off by at most 2 (the package blurs the flakes before it rounds them). At its
  first severity 1.2 % of the values are further off: it blurs a layer of 33 x 33.
- gaussian_noise, shot_noise, impulse_noise, speckle_noise: deviations agree to 0.1, means to 0.1,
  of 255.

frost has nothing to be compared with here. With the benchmark's own photographs (3,000 images) the
public ResNet-20 of 91.7 % on clean test images had 86.0, 67.0 and 52.3 % at severities 1, 3 and 5,
with the generated textures 84.4, 62.0 and 47.2 %; the mean distance from the clean images is the
same (30.5, 49.8, 43.6 of 255).
"""

from __future__ import annotations

import numpy as np
from imagecorruptions import corruptions as theirs
from PIL import Image

from retable.papers.subtuning import corruptions as ours
from retable.papers.subtuning.water import drops

N = 200
_gaussian = theirs.gaussian


def _blur(x: np.ndarray, sigma: float, multichannel: bool = False) -> np.ndarray:
    return _gaussian(x, sigma=sigma, channel_axis=-1 if multichannel else None)


theirs.gaussian = _blur  # scikit-image has renamed the argument that the package gives


def pictures() -> np.ndarray:
    """Smooth coloured images, with flat and grey parts, ``(N, 32, 32, 3)``."""
    random = np.random.default_rng(0)
    x = ours.blurred(random.normal(size=(N, 32, 32, 3)), 1.5)
    x = 0.5 + 0.25 * x / x.std((1, 2, 3), keepdims=True) + random.normal(0, 0.15, (N, 1, 1, 3))
    out = ours.to_bytes(x)
    out[:, :4, :4] = out[:, :4, :4, :1]
    return out


def by_them(name: str, images: np.ndarray, severity: int) -> np.ndarray:
    """What the package makes of each image, with image ``i``'s draws from seed ``i``."""
    out = []
    for i, image in enumerate(images):
        np.random.seed(i)
        made = getattr(theirs, name)(Image.fromarray(image), severity)
        out.append(np.uint8(made))
    return np.stack(out)


def say(name: str, ours_: np.ndarray, theirs_: np.ndarray) -> None:
    """Print by how much values differ."""
    far = np.abs(ours_.astype(int) - theirs_)
    print(
        f"{name:24s} equal {100 * (far == 0).mean():6.2f} %, off by more than 1"
        f" {100 * (far > 1).mean():.4f} %, at most {far.max()}"
    )


def moments(name: str, images: np.ndarray, ours_: np.ndarray, theirs_: np.ndarray) -> None:
    """Print mean and deviation of what was added."""
    a, b = ((x.astype(float) - images) for x in (ours_, theirs_))
    print(f"{name:24s} mean {a.mean():.2f} {b.mean():.2f}, deviation {a.std():.2f} {b.std():.2f}")


def main() -> None:
    """Compare all."""
    x = pictures()
    random = np.random.default_rng(1)
    say("contrast .4", ours.contrast(x, 0.4), by_them("contrast", x, 1))
    say("gaussian_blur 2", ours.gaussian_blur(x, 2), by_them("gaussian_blur", x, 2))
    say("saturate .3", ours.saturate(x, 0.3, 0), by_them("saturate", x, 1))
    say("saturate 5 + .1", ours.saturate(x, 5, 0.1), by_them("saturate", x, 4))
    say("jpeg_compression 25", ours.jpeg_compression(x, 25), by_them("jpeg_compression", x, 1))
    say("pixelate .6", ours.pixelate(x, 0.6), by_them("pixelate", x, 1))
    say("zoom_blur 1.11", ours.zoom_blur(x, 1.11), by_them("zoom_blur", x, 1))
    say("zoom_blur 1.16", ours.zoom_blur(x, 1.16), by_them("zoom_blur", x, 2))

    angles = np.empty(N)
    for i in range(N):
        np.random.seed(i)
        angles[i] = np.random.uniform(-45, 45)
    made = ours.motion_blur(x, 10, 3, angles)
    say("motion_blur 10, 3", np.clip(made, 0, 255).astype(np.uint8), by_them("motion_blur", x, 1))

    # The package's loop, image by image: iterations, rows and columns from the end, (dx, dy).
    draws = np.empty((2, 2, N, 30, 30), int)
    for i in range(N):
        np.random.seed(i)
        for t in range(2):
            for row in range(29, -1, -1):
                for column in range(29, -1, -1):
                    dx, dy = np.random.randint(-1, 1, size=(2,))
                    draws[t, :, i, row, column] = dy, dx

    class Given:
        """In the place of a generator: gives the draws in turn."""

        def __init__(self) -> None:
            self.turn = -1

        def integers(self, *_: object) -> np.ndarray:
            """The next ones."""
            self.turn += 1
            return draws[self.turn]

    say("glass_blur .7, 2", ours.glass_blur(x, 0.7, 2, Given()), by_them("glass_blur", x, 1))  # type: ignore[arg-type]

    def drawn(loc: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
        noise, turned = np.empty((N, 32, 32)), np.empty(N)
        for i in range(N):
            np.random.seed(i)
            noise[i] = np.random.normal(size=(32, 32), loc=loc, scale=scale)
            turned[i] = np.random.uniform(-135, -45)
        return noise, turned

    for severity, c in ((1, (0.1, 0.3, 3, 0.5, 10, 4, 0.8)), (2, (0.2, 0.3, 2, 0.5, 12, 4, 0.7))):
        noise, turned = drawn(c[0], c[1])
        layer = ours.flakes(noise, c[2], c[3], int(c[4]), c[5], turned)
        say(f"snow {c}", ours.snow(x, layer, c[6]), by_them("snow", x, severity))
    for severity, c in (
        (1, (0.65, 0.3, 4, 0.69, 0.6)),
        (2, (0.65, 0.3, 3, 0.68, 0.6)),
        (3, (0.65, 0.3, 2, 0.68, 0.5)),
        (4, (0.65, 0.3, 1, 0.65, 1.5)),
        (5, (0.67, 0.4, 1, 0.65, 1.5)),
    ):
        liquid = ours.blurred(drawn(c[0], c[1])[0], c[2])
        made = ours.spatter(x, liquid, c[3], c[4], mud=severity > 3)
        dry = np.zeros(N, bool)
        if severity < 4:  # without any drop the package divides 0 by 0
            dry = drops(np.where(liquid < c[3], 0, liquid)).max((1, 2)) == 0
        wet = f"spatter {c}, {N - dry.sum()} images"
        say(wet, made[~dry], by_them("spatter", x, severity)[~dry])

    noisy = (
        ("gaussian_noise", 0.08, 1),
        ("shot_noise", 60, 1),
        ("impulse_noise", 0.03, 1),
        ("speckle_noise", 0.2, 2),
    )
    for name, constant, severity in noisy:
        made = getattr(ours, name)(x, constant, random)
        moments(f"{name} {constant}", x, made, by_them(name, x, severity))


if __name__ == "__main__":
    main()
