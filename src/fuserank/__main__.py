"""``python -m fuserank``."""

import sys

from fuserank.cli import main

sys.exit(main())
