# SPDX-License-Identifier: Apache-2.0
"""Folders of a run that do not outlive it: each has a lock file, held while its run lives (the kernel lets go of it
however the run ends), and the next run removes what nobody holds. Who makes one or looks for what is left holds the
lock of the place meanwhile, so that none is seen before it is held."""
import contextlib
import fcntl
import os
import pathlib
import shutil
import stat
import tempfile
import time

PREFIX = "k3c-vmtest-"
LOCK, KEEP = "lock", "keep"
PLACE_LOCK = ".k3c-vmtest-{uid}.lock"  # of each user: only who made it may open it, and removes nobody else's folders
LOCKLESS_AGE_S = 24 * 3600  # a run that was ended before it could lock; younger ones may be of an older program


@contextlib.contextmanager
def held(path):
    """The place's lock; nobody else's file is followed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_left(folder):
    """Of this user, of no living run, and nobody asked to keep it."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or (folder / KEEP).exists():
        return False
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - found.st_mtime > LOCKLESS_AGE_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def sweep(place, say=lambda line: None):
    """Removes what earlier runs left; with the place's lock held."""
    for folder in sorted(pathlib.Path(place).glob(PREFIX + "*")):
        try:
            if is_left(folder):
                shutil.rmtree(folder)
                say(f"removed {folder}, which an earlier run left")
        except OSError as e:
            say(f"{folder} of an earlier run stays: {e}")


@contextlib.contextmanager
def make(place=None, keep=False, say=lambda line: None):
    """A folder of this run's own, gone with it unless `keep`."""
    place = pathlib.Path(place or tempfile.gettempdir())
    with held(place / PLACE_LOCK.format(uid=os.geteuid())):
        sweep(place, say)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if keep:
            (folder / KEEP).touch()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)
