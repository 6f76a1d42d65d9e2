"""Files brought to a node: each once, whole, and under the names that they have on the driver."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from medi_build.errors import InputError
from medi_build.files import file_digest
from medi_build.pipeline.executor.bring import Wanted, blocks_of, seen_here
from medi_build.pipeline.executor.ray import _streaming


def wanted(path: Path, text: str, url: str = "") -> Wanted:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return Wanted(path, path.stat().st_size, file_digest(path), url)


class Driver:
    """Hands over files that were moved away from where they were."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, list[str]()

    def __call__(self, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        return blocks_of(str(self.root / path.lstrip("/")))


def moved(one: Wanted, root: Path) -> None:
    target = root / str(one.path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    one.path.rename(target)


def test_what_is_there_is_taken_where_it_is(tmp_path: Path) -> None:
    driver, one = Driver(tmp_path), wanted(tmp_path / "raw" / "a.jsonl", "[]")
    assert seen_here([one], tmp_path / "cache", driver) == (tmp_path / "raw", tmp_path / "raw")
    assert driver.asked == []


def test_what_is_not_there_is_brought_once(tmp_path: Path) -> None:
    driver, raw = Driver(tmp_path / "driver"), tmp_path / "raw"
    files = [wanted(raw / "x" / "a.jsonl", "a"), wanted(raw / "y" / "a.jsonl", "b"), wanted(raw / "z.json", "c")]
    moved(files[0], driver.root)
    moved(files[1], driver.root)
    for _ in range(2):
        top, seen = seen_here(files, tmp_path / "cache", driver)
        assert top == raw
        assert [(seen / one.path.relative_to(top)).read_text() for one in files] == ["a", "b", "c"]
    assert driver.asked == [str(files[0].path), str(files[1].path)]


def test_another_file_of_that_name_and_size_is_not_taken(tmp_path: Path) -> None:
    driver, one = Driver(tmp_path / "driver"), wanted(tmp_path / "raw" / "a.jsonl", "right")
    moved(one, driver.root)
    one.path.write_text("wrong")
    _, seen = seen_here([one], tmp_path / "cache", driver)
    assert (seen / "a.jsonl").read_text() == "right"


def test_damage_in_the_cache_is_brought_anew(tmp_path: Path) -> None:
    driver, one = Driver(tmp_path / "driver"), wanted(tmp_path / "raw" / "a.jsonl", "right")
    moved(one, driver.root)
    seen_here([one], tmp_path / "cache", driver)
    (tmp_path / "cache" / "files" / one.sha256).write_text("wrong")
    _, seen = seen_here([one], tmp_path / "cache", driver)
    assert (seen / "a.jsonl").read_text() == "right"


@pytest.mark.parametrize("content", ["right", "wrong"])
def test_the_url_comes_first_if_it_gives_what_was_to_come(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.jsonl").write_text(content)
    one = wanted(tmp_path / "raw" / "a.jsonl", "right", f"file://{tmp_path / 'store.jsonl'}")
    driver = Driver(tmp_path / "driver")
    moved(one, driver.root)
    _, seen = seen_here([one], tmp_path / "cache", driver)
    assert (seen / "a.jsonl").read_text() == "right"
    assert driver.asked == ([] if content == "right" else [str(one.path)])


def test_a_silent_store_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would keep silent for minutes; the files come from the driver."""
    monkeypatch.setattr("medi_build.pipeline.executor.bring.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("medi_build.pipeline.executor.bring._silent", set())
    driver = Driver(tmp_path / "driver")
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = f"http://127.0.0.1:{server.getsockname()[1]}"
        files = [wanted(tmp_path / "raw" / name, name, f"{store}/{name}") for name in ("a.jsonl", "b.jsonl")]
        for one in files:
            moved(one, driver.root)
        _, seen = seen_here(files, tmp_path / "cache", driver)
        server.settimeout(0.5)
        with server.accept()[0], pytest.raises(TimeoutError):
            server.accept()
    assert [(seen / one.path.name).read_text() for one in files] == ["a.jsonl", "b.jsonl"]
    assert driver.asked == [str(one.path) for one in files]


def test_what_changed_meanwhile_is_no_input(tmp_path: Path) -> None:
    driver, one = Driver(tmp_path / "driver"), wanted(tmp_path / "raw" / "a.jsonl", "right")
    moved(one, driver.root)
    (driver.root / str(one.path).lstrip("/")).write_text("wrong")
    with pytest.raises(InputError, match=r"raw/a.jsonl: was changed while the build runs"):
        seen_here([one], tmp_path / "cache", driver)
    assert [path for path in (tmp_path / "cache" / "files").iterdir() if path.suffix != ".lock"] == []


def test_a_ray_without_its_private_option_streams_all_the_same() -> None:
    class Task:
        """As Ray answers an option that it does not know."""

        def options(self, **options: object) -> dict[str, object]:
            if unknown := [name for name in options if name.startswith("_")]:
                raise ValueError(f"Invalid option keyword {unknown[0]}")
            return options

    assert _streaming(Task(), num_cpus=1) == {"num_cpus": 1, "num_returns": "streaming", "max_retries": 0}
