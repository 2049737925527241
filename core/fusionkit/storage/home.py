"""The folder for weights and caches: $FUSIONKIT_HOME, else the platform's folder for caches."""

import os
from pathlib import Path


def home_folder() -> Path:
    """The folder, which may not exist yet."""
    home = os.environ.get("FUSIONKIT_HOME")
    if home:
        return Path(home)
    from platformdirs import user_cache_path

    return user_cache_path("fusionkit", appauthor=False)
