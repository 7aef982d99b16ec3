"""What can be known of the image without a Docker engine: its configuration is valid, its libraries are those that the binary needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import places
from harness.tessera import binary, run_command

DOCKER = places.ROOT / "docker"
# In every Debian image, or pulled in by whatever is written in C++.
ALWAYS_THERE = {"libc6", "libgcc-s1", "libstdc++6"}
NO_LIBRARIES = {"ca-certificates"}


def test_the_configuration_of_the_image_is_valid():
    done = run_command("check", DOCKER / "tessera.yaml", env={**os.environ, "APP_PASSWORD": "secret", "ADMIN_TOKEN": "token"})
    assert done.returncode == 0 and done.stderr == "", done.stderr


def runtime_packages():
    """The packages that the last stage of the Dockerfile installs."""
    last = (DOCKER / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1].replace("\\\n", " ")
    return set(re.search(r"apt-get install -y --no-install-recommends ([^&]+)", last)[1].split())


def package_of(library):
    # dpkg knows files by the name that they had when /lib was not yet a link to /usr/lib.
    for path in (library, library.removeprefix("/usr"), str(Path(library).resolve())):
        done = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    raise AssertionError(f"no package has {library}")


@pytest.mark.skipif(not (shutil.which("dpkg") and shutil.which("readelf")), reason="needs Debian's dpkg, and readelf")
def test_the_image_has_the_libraries_that_the_binary_names():
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", subprocess.run(["readelf", "-d", str(binary())], capture_output=True, text=True, check=True).stdout))
    if any("asan" in name or "tsan" in name for name in needed):
        pytest.skip("a sanitizer's build is not what the image holds")
    found = dict(re.findall(r"^\s*(\S+) => (\S+)", subprocess.run(["ldd", str(binary())], capture_output=True, text=True, check=True).stdout, re.M))
    packages = {package_of(found[name]) for name in needed if name in found}
    assert len(needed - set(found)) <= 1, "all but the loader itself"
    installed = runtime_packages() - NO_LIBRARIES
    assert packages - ALWAYS_THERE == installed
