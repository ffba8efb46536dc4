"""``python -m retable`` is the command ``retable``."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Python puts the current folder first. The command does without it, and so do its runs: what
    # they import, and with it their fingerprint, does not depend on the folder one works in.
    del sys.path[0]

from retable.cli.main import main

if __name__ == "__main__":
    main()
