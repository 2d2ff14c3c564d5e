"""Folders that only this user can put things into: what lies in them is executed.

In: a path. Out: `exposure`, who else could replace what is there. The path is followed from the root as the kernel follows
it, symbolic links included. Whoever may write to a folder on the way may put another one in place of the next: so every one
must belong to this user or the system and be closed to others, or be sticky, like /tmp, and its next one ours. Nobody else can
change a path that was found closed, so there is no gap between looking and opening. Next: `object_store.py`.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections import deque
from pathlib import Path

from flambeau.compiler.options import default_cache_dir

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40


def exposure(folder: Path, own: int = 1) -> str | None:
    """Why code must not be loaded from `folder`, or None. The last `own` names of the path must be this user's and closed even
    to a group that has no other member. Raises OSError where there is no such folder."""
    system = {0, os.stat("/").st_uid}  # as seen from a container, the system may be another user
    at, names, links = "/", deque(_names(os.path.abspath(folder))), 0
    while names:
        name = names.popleft()
        at = os.path.dirname(at) if name == ".." else os.path.join(at, name)
        status = os.lstat(at)
        where = "" if not names else f"lies in {at}, which "
        if not stat.S_ISLNK(status.st_mode):
            if reason := _exposed(at, status, system, is_own=len(names) < own):
                return where + reason
            continue
        if status.st_uid not in {os.geteuid(), *system}:
            return f"is reached through {at}, a link of another user (uid {status.st_uid})"
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
        target = os.readlink(at)
        names.extendleft(reversed(_names(target)))
        at = "/" if os.path.isabs(target) else os.path.dirname(at)
    return None


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _exposed(path: str, status: os.stat_result, system: set[int], is_own: bool) -> str | None:
    """Why others could change what lies in one folder, or None."""
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder"
    if status.st_uid != os.geteuid() and (is_own or status.st_uid not in system):
        return f"belongs to another user (uid {status.st_uid})"
    if not status.st_mode & _OTHERS or (not is_own and _only_seems_open(path, status)):
        return None
    return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"


def _only_seems_open(path: str, status: os.stat_result) -> bool:
    """Whether others can replace nothing in a folder that is writable for them: it is sticky, or writable just for the group
    that the user alone is in, as some systems have it for every user."""
    if status.st_mode & stat.S_ISVTX:
        return True
    return not status.st_mode & stat.S_IWOTH and _is_private_group(status.st_gid) and not _has_acl(path)


def _is_private_group(number: int) -> bool:
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
    except KeyError:
        return False
    return user.pw_gid == number and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _has_acl(path: str) -> bool:
    """Whether more than the mode says who may write."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except (AttributeError, OSError):
        return False


def is_foreign(status: os.stat_result) -> bool:
    """Whether an open file could be another's, or be changed by others: through its mode, or by another name that it has."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return True
    return status.st_uid != os.geteuid() or bool(status.st_mode & _OTHERS)


def make(folder: Path) -> str | None:
    """Make a folder, and those on the way to it that are missing, with mode 0700. Returns why it cannot be used, or None."""
    missing = []
    try:
        for each in (folder, *folder.parents):
            if os.path.lexists(each):
                break
            missing.append(each)
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
        return exposure(folder, own=2)
    except OSError as error:
        return f"cannot be made ({error.strerror})"


def cache_folder(name: str) -> Path | None:
    """The folder `name` in `FLAMBEAU_CACHE` or the user's cache folder; None, after a warning, where it is not to be used."""
    try:
        folder = default_cache_dir() / name
        reason = make(folder)
    except RuntimeError:  # a user without a home
        folder, reason = Path("~/.cache/flambeau"), "cannot be found: there is no home folder"
    if reason is None:
        return folder
    warn(folder, reason)
    return None


def warn(folder: Path, reason: str) -> None:
    warnings.warn(
        f"[cache] {folder} {reason}. Compiled code is kept in memory only; set FLAMBEAU_CACHE to a private folder.",
        RuntimeWarning,
        stacklevel=3,
    )
