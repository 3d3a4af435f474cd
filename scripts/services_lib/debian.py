"""Programs that come as a package of Debian, without installing it."""

import contextlib
import shutil

from .common import Fault, capture


def unpack(target, *packages):
    """Puts packages of Debian into a folder of ours, with the libraries that are missing here: no need of root, and no service that starts by itself."""
    lists, archives = target / "lists", target / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    # Lists of our own too: those of the machine are often deleted, and only root may write them.
    apt = ["apt-get", "-q", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache::Archives={archives}",
           "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
           "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "APT::Update::Post-Invoke="]
    try:
        capture([*apt, "update"])
        capture([*apt, "install", "-y", "--no-install-recommends", "--download-only", *packages])
    except Fault as fault:
        raise Fault(f"`{packages[0]}` is missing, and Debian's package cannot be fetched: {fault}") from None
    for archive in archives.glob("*.deb"):
        capture(["dpkg-deb", "--extract", archive, target])
    for folder in (lists, archives):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
