"""The checks of paths where one edition has them; the others lack this module."""

import standin
from standin_paths import FileStat, OpenException

__all__ = ["FileStat", "OpenException"]
if standin.edition() < "2024-08":
    raise ImportError("the ais_bench that is played has no such module")
