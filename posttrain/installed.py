"""What is installed where this runs: Python's packages, and Debian's in an image.

Imports the standard library alone: an image without posttrain is asked by this file's text,
`docker run --interactive --entrypoint python3 IMAGE - < posttrain/installed.py`.
"""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions

UNKNOWN = "unknown"
SHORT = 60
"""Characters; some packages give their licence's whole text for its name."""

OURS = "posttrain"


def python_packages() -> dict[str, dict[str, str]]:
    """Name, as the index spells it -> `version` and `licence` of each package but ours."""
    found: dict[str, dict[str, str]] = {}
    for one in distributions():
        name = re.sub(r"[-_.]+", "-", str(one.metadata["Name"])).lower()
        bundled = "_vendor" in str(one.locate_file(""))  # a copy within another package
        if name != OURS and not bundled:
            # the first in the path is the one that is imported
            found.setdefault(name, {"version": one.version, "licence": licence_of(one)})
    return dict(sorted(found.items()))


def licence_of(package: Distribution) -> str:
    """Its SPDX expression; else its classifiers, or what it wrote down as licence."""
    told = package.metadata
    if "License-Expression" in told:
        return str(told["License-Expression"])
    classified = [
        text.rpartition("::")[2].strip()
        for text in told.get_all("Classifier") or []
        if text.startswith("License ::") and text != "License :: OSI Approved"
    ]
    if classified:
        return "; ".join(classified)
    lines = str(told["License"]).strip().splitlines() if "License" in told else []
    return lines[0].strip()[:SHORT] if lines else UNKNOWN


def debian_packages() -> dict[str, str]:
    """Name -> version of the system's packages; empty where Debian's tool is not."""
    if shutil.which("dpkg-query") is None:
        return {}
    asked = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"python": python_packages(), "debian": debian_packages()}))
