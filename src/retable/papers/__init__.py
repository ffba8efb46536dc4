"""The papers, one package each; ``$RETABLE_EXTRA/papers`` adds papers kept elsewhere."""

from retable.util.paths import paper_dirs

__path__ = [str(folder) for folder in paper_dirs()]
