"""The checks of ./dev lint that need more than a line of shell: lint.py floors | notes | sizes | docker | links | syntax FILES."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Which folders the files of a folder may include: the table of docs/architecture.md, spelled out.
BELOW = {
    "base": set(),
    "config": {"base"},
    "net": {"base"},
    "wire": {"base"},
    "parser": {"base"},
    "router": {"base", "config", "parser"},
    "pool": {"base", "config", "wire", "net"},
    "executor": {"base", "config", "wire", "net", "parser", "router", "pool"},
    "reshard": {"base", "config", "wire", "net", "parser", "router", "pool"},
    "proxy": {"base", "config", "wire", "net", "parser", "router", "pool", "executor"},
    "admin": {"base", "config", "wire", "net", "parser", "router", "pool", "executor", "reshard", "proxy"},
}
# main.cpp puts the whole house together.
MAY_INCLUDE_ALL = {"proxy/main.cpp"}

# Third-party types stay in the room that owns them.
ROOMS = {
    "pg_query": ("parser/postgres/",),
    "yaml-cpp/": ("config/",),
    "libpq-fe": ("pool/", "router/", "reshard/", "admin/"),
    "boost/beast": ("admin/",),
    "prometheus/": ("admin/", "proxy/"),
}
MOST_LINES = 600
LONG_FILES = {"tests/integration/test_admin.py", "tests/integration/test_wire_security.py"}  # one table of attacks each  # path: listed here only with a reason beside it


def tracked(*patterns):
    """Files that git knows or would add."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\n")
    return sorted(name for name in set(listed) if name and (ROOT / name).is_file())


def lines_of(name):
    return (ROOT / name).read_text(errors="replace").splitlines()


def floors():
    for name in tracked("*.cpp", "*.hpp"):
        folder = name.split("/")[0]
        for number, line in enumerate(lines_of(name), 1):
            match = re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', line)
            if not match:
                continue
            yield from _foreign(name, number, match[1] or match[2])
            if match[1] and folder in BELOW and name not in MAY_INCLUDE_ALL:
                yield from _upward(name, number, folder, match[1])


def _upward(name, number, folder, included):
    other = included.split("/")[0]
    if "/" not in included:
        yield f"{name}:{number}: write the path from the root: \"{folder}/{included}\""
    elif other != folder and other not in BELOW[folder] and other in BELOW:
        allowed = ", ".join(sorted(BELOW[folder])) or "nothing"
        yield f"{name}:{number}: {folder} must not include {other} (it may include: {allowed})"


def _foreign(name, number, included):
    for prefix, rooms in ROOMS.items():
        if included.startswith(prefix) and not name.startswith((*rooms, "tests/")):
            yield f"{name}:{number}: <{included}> belongs to {' '.join(rooms)}"


def notes():
    # Split, so that this file does not find itself.
    forgotten = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    places = re.compile(r"(?<![\w.])/(work|home|root)/")
    for name in tracked():
        if name == "LICENSE" or name.endswith((".lock", ".json", ".png", ".svg")):
            continue
        for number, line in enumerate(lines_of(name), 1):
            if forgotten.search(line):
                yield f"{name}:{number}: {line.strip()[:100]}"
            if places.search(line):
                yield f"{name}:{number}: a path of one machine: {line.strip()[:100]}"


def sizes():
    for name in tracked("*.cpp", "*.hpp", "*.py", "*.sh", "*.mjs", "*.java", "*.go"):
        count = len(lines_of(name))
        if count > MOST_LINES and name not in LONG_FILES:
            yield f"{name}: {count} lines; split it"


def links():
    for name in tracked("*.md"):
        text = re.sub(r"```.*?```", "", (ROOT / name).read_text(errors="replace"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not re.match(r"[a-z]+:", target) and not (ROOT / name).parent.joinpath(target).exists():
                yield f"{name}: the link to {target} leads nowhere"


def docker():
    import yaml  # python3-yaml
    for name in tracked("docker/*.yaml", "docker/*.yml", "*.yaml"):
        if name.startswith("config/testdata/bad/"):  # wrong on purpose
            continue
        try:
            yaml.safe_load((ROOT / name).read_text())
        except yaml.YAMLError as error:
            yield f"{name}: {error}"
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    yield from _compose(compose)
    yield from _dockerfile(lines_of("docker/Dockerfile"))


def _compose(compose):
    services = compose.get("services") or {}
    for name, service in services.items():
        if not ("image" in service or "build" in service):
            yield f"docker/compose.yaml: service {name} has neither image nor build"
        for wanted in service.get("depends_on", {}):
            if wanted not in services:
                yield f"docker/compose.yaml: service {name} depends on {wanted}, which is not there"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (ROOT / "docker" / source).exists():
                    yield f"docker/compose.yaml: service {name} mounts {source}, which is not there"
            elif source not in (compose.get("volumes") or {}):
                yield f"docker/compose.yaml: volume {source} is not declared"


KEYWORDS = {"FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD", "LABEL", "HEALTHCHECK",
            "VOLUME", "STOPSIGNAL", "SHELL"}


def _dockerfile(lines):
    """Every instruction is one, stages exist before they are named, copied files exist, the end is not root."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in lines if not line.lstrip().startswith("#")))
    stages, user = set(), None
    for instruction in filter(None, (line.strip() for line in text.split("\n"))):
        keyword, _, rest = instruction.partition(" ")
        if keyword not in KEYWORDS:
            yield f"docker/Dockerfile: '{keyword}' is not an instruction"
        elif keyword == "FROM":
            user = None
            if match := re.search(r"\bAS (\S+)", rest):
                stages.add(match[1])
        elif keyword == "USER":
            user = rest
        elif keyword == "COPY":
            yield from _copied(rest.split(), stages)
    if user in (None, "root", "0"):
        yield "docker/Dockerfile: the last stage runs as root"


def _copied(words, stages):
    stage = next((word.split("=")[1] for word in words if word.startswith("--from=")), None)
    if stage and stage not in stages:
        yield f"docker/Dockerfile: no stage {stage} before it is copied from"
    for source in [word for word in words if not word.startswith("--")][:-1]:
        if not stage and not (ROOT / source).exists():
            yield f"docker/Dockerfile: {source} is not there"


def syntax():
    for name in sys.argv[2:]:
        try:
            ast.parse(Path(name).read_text(), name)
        except SyntaxError as error:
            yield f"{name}:{error.lineno}: {error.msg}"


CHECKS = {check.__name__: check for check in (floors, notes, sizes, docker, links, syntax)}

if __name__ == "__main__":
    findings = list(CHECKS[sys.argv[1]]())
    print("\n".join(f"       {finding}" for finding in findings), end="\n" if findings else "")
    sys.exit(1 if findings else 0)
