"""``python -m ark`` is the command ``ark``."""

import sys

from ark.cli import main

sys.exit(main())
