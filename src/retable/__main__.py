"""``python -m retable`` is the command ``retable``."""

from retable.cli import main

if __name__ == "__main__":
    main()
