"""``python -m ark_conformance``."""

import sys

from ark_conformance.cli import main

# A child process that multiprocessing spawns imports this file again.
if __name__ == "__main__":
    sys.exit(main())
