"""MNLI (Williams et al. 2018) from the user's files, and all pairs of Bias-NLI."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from retable.data import fetch
from retable.data.base import DataPaths
from retable.papers.peft_debias.batches import InOrder, Rows
from retable.papers.peft_debias.bias_nli import BiasNli
from retable.papers.peft_debias.data import Split
from retable.papers.peft_debias.data_real import RealText
from retable.papers.peft_debias.own_files import OwnFiles
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

RELATIONS = ("entailment", "neutral", "contradiction")
NEUTRAL = RELATIONS.index("neutral")
FILES: dict[Split, str] = {
    "train": "multinli_1.0_train.jsonl",
    "validation": "multinli_1.0_dev_mismatched.jsonl",
    "test": "multinli_1.0_dev_matched.jsonl",
}
"""Labels of the benchmark's own test are not public: one half of what is stands for it."""
_WHAT = "MultiNLI 1.0, whose lines are JSON with sentence1, sentence2 and gold_label"
_LISTS = (
    "https://raw.githubusercontent.com/sunipa/On-Measuring-and-Mitigating-Biased-Inferences-of-"
    "Word-Embeddings/e39da896baad32157ba238176a79c4f628a58e4e/word_lists"
)
WORD_LISTS: dict[str, str] = {
    "nouns/objects/clothes": "aa98735ee588213a22bb6f1fcc221e5444acfc3e487ca2132e7747f4f32a2e97",
    "nouns/objects/farm_animals": (
        "523bd8fd6f230d22efd2d5724ee13e6bfa97e0f3516c454b8bb0a3c27140764e"
    ),
    "nouns/objects/food": "1e9f23e8c22fb4023cf3c74f12b26c4dbbf2a0078de297801091967dd2a6bb12",
    "nouns/objects/furniture": "9ce6233904dfbfb1ebf91b71882c2ed8b287da4f91220d4211e7e182df885344",
    "nouns/objects/household": "395c1891290031d1dbeddefc08f0a3b112bed1797dd1d209ff6118725759cb07",
    "nouns/objects/vehicles": "10a9f0e2948d89389b585d4a74ef164a74257429905397f47afa138509c0958b",
    "nouns/people/occupations": "ee2d12e38219b797bdec5ebbe06f20c790e3cf6745630ab3dab20a3dd8a9b1f5",
    "nouns/people/person_hyponyms": (
        "8a4b0cdeea618776fcb0a32deb75117163f05ffad9d8cf59ae4143d2c7af7e77"
    ),
    "nouns/people/rulers": "214edfd888a1c6cea2077d0c49e1b0a69ad0c0676e27e565c820827061722b13",
    "verbs/commerce_verbs": "a21aa9b2830594fd7c49c5373d04f2b03a5906d2c03a7e57e036187398082a04",
    "verbs/driving_verbs": "b8d7c28ba4d079de6746a2e909bb5583d218932a8240ef19136f5381aa22037a",
    "verbs/eating_verbs": "ca6c22b364b6ec16c6ac32f4b6ff01a1c8644718db95f593ea989d4ccdd47ee0",
    "verbs/interaction_verbs": "97a2d7b64f0c92221811228aa537eee655c98217124049c1593b037169298e34",
}
"""SHA-256 of each list of words, one a line."""


def word_list(name: str, paths: DataPaths) -> list[str]:
    """A list of :data:`WORD_LISTS`, fetched where needed."""
    file, sha256 = f"bias_nli/{name}", WORD_LISTS[name]
    path = fetch.fetch(file, f"{_LISTS}/{name}", sha256, cache=paths.cache, mirror=paths.mirror)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def bias_nli(paths: DataPaths) -> list[BiasNli]:
    """Sets of verbs and what they go with: 1,936,512 pairs together."""
    words = {name.rpartition("/")[2]: word_list(name, paths) for name in WORD_LISTS}
    things = [one for n in WORD_LISTS if "/objects/" in n for one in words[n.rpartition("/")[2]]]
    people = sorted({*words["person_hyponyms"], *words["rulers"]})
    goes_with = {
        "commerce_verbs": things,
        "interaction_verbs": people,
        "driving_verbs": words["vehicles"],
        "eating_verbs": words["food"],
    }
    return [BiasNli(words["occupations"], words[v], with_) for v, with_ in goes_with.items()]


class Mnli(RealText):
    """Pairs of sentences, joined by [SEP], and whether the second follows from the first.

    ``label`` is 0 for entailment, 1 for neutral and 2 for contradiction. Pairs without a label are
    left out. The test is the matched part of the development set, validation the mismatched one.

    Args:
        folder: below the mirror, with the files of MultiNLI 1.0.
        checksums: of these.
        bias_pairs: pairs of Bias-NLI at most, chosen at random, the same for every seed.
        **options: of :class:`~retable.papers.peft_debias.data_real.RealText`.
    """

    classes = len(RELATIONS)
    class_names = RELATIONS

    def __init__(
        self,
        *,
        folder: str = "multinli_1.0",
        checksums: Annotated[
            list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None],
            Field(min_length=3, max_length=3),
        ],
        bias_pairs: Annotated[int, Field(ge=1)] = 20_000,
        **options: Any,
    ) -> None:
        super().__init__(task="classification", **options)
        self.bias_pairs = bias_pairs
        self.files = OwnFiles(FILES, folder, checksums, _WHAT, self.paths)

    def prepare_data(self) -> None:
        """Look whether the files are those of the checksums; have the lists of Bias-NLI."""
        super().prepare_data()
        self.files.check()
        for name in WORD_LISTS:
            word_list(name, self.paths)

    def counted(self) -> Iterable[str]:
        """Training pairs."""
        return self.rows("train").texts

    def rows(self, split: Split) -> Rows:
        """Pairs of a split."""
        rows = mnli(self.files[split])
        return self.limited(rows) if split == "train" else rows

    def neutral_pairs(self) -> InOrder:
        """Batches of pairs of Bias-NLI, as those of the test; every pair is neutral."""
        sets = bias_nli(self.paths)
        rng = torch.Generator().manual_seed(derive_seed(0, "Bias-NLI pairs"))
        numbers = torch.randperm(sum(map(len, sets)), generator=rng)[: self.bias_pairs]
        texts: list[str] = []
        for number in numbers.tolist():
            for one in sets:
                if number < len(one):
                    texts.append(joined(*one[number]))
                    break
                number -= len(one)
        label = torch.full((len(texts),), NEUTRAL)
        return self.in_fixed_order(self.encoded(Rows(texts, {"label": label})))


def joined(premise: str, hypothesis: str) -> str:
    """A pair as one text."""
    return f"{premise} [SEP] {hypothesis}"


def mnli(path: Path) -> Rows:
    """Pairs of a file with their labels; those of which the annotators gave none are left out.

    Raises:
        UserError: naming the line that has another structure.
    """
    texts: list[str] = []
    labels: list[int] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                relation, text = entry["gold_label"], joined(entry["sentence1"], entry["sentence2"])
                if relation != "-":
                    labels.append(RELATIONS.index(relation))
                    texts.append(text)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path}, line {number}: is no pair of {_WHAT}") from None
    return Rows(texts, {"label": torch.tensor(labels, dtype=torch.int64)})
