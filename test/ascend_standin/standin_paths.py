"""The checks of paths that ais_bench has had since 2023-09, in one module or another."""

import os
import re
import stat

from standin_model import say

ILLEGAL = re.compile("[^_A-Za-z0-9/.-]")
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_READ = stat.S_IROTH | stat.S_IXOTH


class OpenException(Exception):
    """A path of letters that are not allowed."""


class FileStat:
    """A path, refused when it is made if its letters are not allowed."""

    def __init__(self, file: str):
        self.file = os.path.abspath(file)
        if ILLEGAL.search(self.file):
            letters = "legal chars include A-Z a-z 0-9 _ - / ."
            say("ERROR", f"path:{self.file} contains illegal char, {letters}")
            raise OpenException("create FileStat failed")

    def is_basically_legal(self, perm: str = "none") -> bool:
        """Tell whether the path may be read or written; says on stdout why not."""
        if not os.path.exists(self.file):
            return perm == "write"
        if os.path.islink(self.file):
            say("ERROR", f"path :{self.file} is a soft link, not supported")
            return False
        status = os.stat(self.file)
        groups = {os.getegid(), *os.getgroups()}
        if status.st_uid != os.geteuid() and status.st_gid not in groups:  # root is no exception
            say("ERROR", f"current user isn't path:{self.file}'s owner and ownergroup")
            return False
        refused = {"read": OTHERS_WRITE, "write": OTHERS_WRITE | OTHERS_READ}.get(perm, 0)
        if status.st_mode & refused:
            most = {"read": "0o755(rwxr-xr-x)", "write": "0o750(rwxr-x---)"}[perm]
            text = f"The file {self.file} is group writable, or is others writable"
            say("ERROR", f"{text}, permission should not be over {most}")
            return False
        return True
