"""A Chromium without a window and its driver, and the accessibility checker that runs in it: programs only, which the tests start and end."""

import hashlib
import shutil
import tarfile

from .common import Fault, capture, installed, say
from .debian import unpack

PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")

# What the checker finds changes with its version, so that is pinned, with the hash of what npm packs.
AXE = "4.14.0"
AXE_SHA256 = "2277b0a3ef47af9b52497faa3e71598e86e0a0e5e6eb295207a5657ede4709af"

# Fontconfig's own settings may be missing along with the fonts, and then every text would have serifs.
FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>{unpacked}/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <match target="pattern"><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
</fontconfig>
"""


class Chromium:
    """The pair of the PATH, or Debian's, unpacked."""

    what = "chromium"

    def __init__(self, folder):
        self.services = folder
        self.unpacked = folder / "programs/chromium"
        self.given = {name: shutil.which(name) for name in ("chromium", "chromedriver")}

    def fetch(self):
        if all(self.given.values()):
            return
        if shutil.which("apt-get") is None:
            raise Fault("Chromium comes from Debian's packages `chromium` and `chromium-driver`, and there is no apt here; "
                        "a `chromium` and a `chromedriver` in the PATH are used as they are")
        with installed(self.services, "chromium") as target:
            if target is not None:
                say("fetching Chromium (Debian's packages chromium and chromium-driver)")
                unpack(target, *PACKAGES)
                (target / "fonts.conf").write_text(FONTS.format(unpacked=target), encoding="utf-8")

    def variables(self):
        """The two programs, and what the driver needs in its environment."""
        if all(self.given.values()):
            return {"CHROMIUM": self.given["chromium"], "CHROMEDRIVER": self.given["chromedriver"]}
        ours = {"chromium": self.unpacked / "usr/lib/chromium/chromium", "chromedriver": self.unpacked / "usr/bin/chromedriver"}
        # One of the two may be installed already: then it is not unpacked.
        found = {name: str(path) if path.exists() else self.given[name] for name, path in ours.items()}
        # Some libraries lie in folders below the usual one, and find each other by this alone.
        libraries = sorted({str(library.parent) for library in self.unpacked.glob("usr/lib/**/*.so*")})
        return {"CHROMIUM": found["chromium"], "CHROMEDRIVER": found["chromedriver"],
                "LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(self.unpacked / "fonts.conf")}


class Axe:
    """The script that a page is checked with."""

    what = "axe"

    def __init__(self, folder):
        self.services = folder
        self.program = f"axe-core-{AXE}"

    def fetch(self):
        with installed(self.services, self.program) as target:
            if target is None:
                return
            say(f"fetching axe-core {AXE} (npm)")
            if shutil.which("npm") is None:
                raise Fault("axe-core comes from npm, which is missing here")
            try:
                capture(["npm", "pack", "--silent", f"axe-core@{AXE}"], cwd=target)
            except Fault as fault:
                raise Fault(f"axe-core is missing, and npm cannot fetch it: {fault}") from None
            [packed] = target.glob("*.tgz")
            if hashlib.sha256(packed.read_bytes()).hexdigest() != AXE_SHA256:
                raise Fault(f"axe-core {AXE} of npm is not what it was when its hash was written down in {__file__}")
            with tarfile.open(packed) as archive:
                (target / "axe.min.js").write_bytes(archive.extractfile("package/axe.min.js").read())
            packed.unlink()

    def variables(self):
        return {"AXE": str(self.services / "programs" / self.program / "axe.min.js")}
