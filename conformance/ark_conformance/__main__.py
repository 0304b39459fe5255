"""``python -m ark_conformance``."""

import sys

from ark_conformance.cli import main

sys.exit(main())
