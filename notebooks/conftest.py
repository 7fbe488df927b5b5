"""Under nbval the notebooks compute to the bit as `python -m remi notebooks` does, so that they write the same products."""

import os

from remi.paper.notebooks import ENVIRONMENT

os.environ.update(ENVIRONMENT)
