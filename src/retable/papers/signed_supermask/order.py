"""Images in the order of the authors' MNIST."""

from __future__ import annotations

from retable.data.modules import ImageData


class OneOrder(ImageData):
    """An image set in one order for all epochs, drawn once from the run's seed.

    The authors' MNIST is not shuffled: each epoch has the batches of the one before.
    """

    def _epoch(self) -> int:
        return 0
