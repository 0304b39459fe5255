"""``python -m ark`` is the command ``ark``."""

import sys

from ark.cli import main

# A child process that multiprocessing spawns reads this file again.
if __name__ == "__main__":
    sys.exit(main())
