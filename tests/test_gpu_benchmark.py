"""benchmarks/gpu.py in its small form, on the CPU: so that it runs where a GPU is at hand."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="benchmarks/ is not part of the source distribution")


def run(*options: str, python: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(SCRIPT), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["lines"])


@pytest.mark.slow
def test_every_part_runs_in_its_small_form(tmp_path: Path) -> None:
    done = run("--small", "--json", str(tmp_path / "gpu.json"))
    lines = lines_of(tmp_path / "gpu.json")
    assert [line for line in lines if "error" in line] == [], done.stderr[-2000:]
    assert done.returncode == 0
    parts = {line["part"] for line in lines}
    assert parts == {"peak", "checks", "encode", "memory", "search", "training"}
    for part in parts - {"checks"}:
        assert any(line["part"] == part and not isinstance(line.get("value", ""), str) for line in lines)
    printed = [text for text in done.stdout.splitlines() if text.partition(" ")[0] in parts]
    assert len(printed) == len(lines)


def needed_by(*names: str) -> set[str]:
    """Distributions that these need, themselves among them, no extras."""
    found: set[str] = set()
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        try:
            wanted = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            plain = (line for line in wanted if "extra ==" not in line)
            ahead += [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in plain]
    return found


@pytest.fixture
def bare_image(tmp_path: Path) -> Path:
    """A folder with links to torch, transformers and what they need, and to nothing else."""
    folder = tmp_path / "image"
    folder.mkdir()
    for name in needed_by("torch", "transformers", "numpy"):
        one = distribution(name)
        for top in {file.parts[0] for file in one.files or [] if not file.parts[0].startswith(("..", "__pycache__"))}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(one.locate_file(top))))
    return folder


@pytest.mark.long
def test_it_runs_with_torch_and_transformers_alone(bare_image: Path, tmp_path: Path) -> None:
    done = run("--small", "--json", str(tmp_path / "gpu.json"), python=("-S",), PYTHONPATH=str(bare_image))
    lines = lines_of(tmp_path / "gpu.json")
    assert [line for line in lines if "error" in line] == [], done.stderr[-2000:]
    assert done.returncode == 0
    for part in ("peak", "checks", "encode", "memory", "search"):
        assert any(line["part"] == part and "value" in line and line["what"] != "the whole part" for line in lines)
    absent = [line["skipped"] for line in lines if line["part"] == "training" and "skipped" in line]
    assert any("sentence_transformers" in why for why in absent)


def test_what_it_cannot_is_told_at_once() -> None:
    for options, said in (
        (["--parts", "peak,speed"], "'speed' is none; there are peak, checks, encode"),
        (["--parts", "peak"], "no GPU is visible here; --small runs on the CPU"),
    ):
        done = run(*options, CUDA_VISIBLE_DEVICES="")
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_part_that_fails_dies_or_hangs_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    parts = tmp_path / "benchmarks" / "gpu_parts"
    parts.mkdir(parents=True)
    (parts / "__init__.py").touch()
    first = "import os, time\ndef run(device, small):\n    yield {'what': 'first', 'value': 1.0, 'unit': ''}\n"
    bodies = {
        "peak": "    raise ValueError('a fault')",
        "checks": "    os._exit(3)",
        "encode": "    import no_such_package",
        "memory": "    time.sleep(1000)",
        "search": "    import benchmarks.nowhere",
        "training": "    yield {'what': 'last', 'skipped': 'for now'}",
    }
    for name, body in bodies.items():
        (parts / f"{name}.py").write_text(first + body + "\n")
    script = SCRIPT.read_text().replace('Part("memory", 30)', 'Part("memory", 15 / PATIENCE)')
    (tmp_path / "benchmarks" / "gpu.py").write_text(script)
    command = [sys.executable, str(tmp_path / "benchmarks" / "gpu.py"), "--small", "--json", str(tmp_path / "gpu.json")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    lines = lines_of(tmp_path / "gpu.json")
    assert [line["part"] for line in lines if line["what"] == "first"] == list(bodies)
    told = {line["part"]: line.get("error") or f"skipped: {line['skipped']}" for line in lines if "value" not in line}
    assert told.pop("memory").startswith("stopped after 1")
    assert told == {
        "peak": "ValueError: a fault",
        "checks": "its process died with exit code 3",
        "encode": "skipped: no_such_package is not installed",
        "search": "no module benchmarks.nowhere",
        "training": "skipped: for now",
    }
