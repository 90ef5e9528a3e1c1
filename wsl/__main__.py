"""``python -m wsl`` is ``wsl``."""

import sys

from wsl.cli import main

sys.exit(main())
