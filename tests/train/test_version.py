"""Training on a version of a warehouse: the same as on its folder, and the card says which one it was."""

from pathlib import Path

import pytest
import yaml

from medi_build.dataset.versions.commit import commit
from medi_build.errors import MediError, VersionError
from medi_build.ingest.triplets import open_source
from tests.dataset.built import write_built
from tests.train.conftest import toy_records
from tests.train.runs import losses, run, settings_for


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{**record, "id": f"toy/{number}"} for number, record in enumerate(toy_records())]
    return write_built(tmp_path_factory.mktemp("built") / "out", rows)


@pytest.fixture(scope="module")
def warehouse(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    commit(root, built, "the first week", tag="v1")
    return root


def test_a_tag_trains_as_its_folder_does_and_is_recorded(
    built: Path, warehouse: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from_folder = run(settings_for(built, tiny_model, tmp_path / "folder"))
    from_tag = run(settings_for(Path("v1"), tiny_model, tmp_path / "tag", warehouse=warehouse))
    assert losses(from_tag) == losses(from_folder)
    version = open_source("v1", warehouse).commit
    assert version is not None
    header = yaml.safe_load((tmp_path / "tag" / "README.md").read_text().split("---")[1])
    assert header["medi_version"] == {"ref": "v1", "commit": str(version.id), "manifest": version.manifest}
    assert f"version: `v1`, commit {version.id}" in (tmp_path / "tag" / "README.md").read_text()
    assert "medi_version" not in (tmp_path / "folder" / "README.md").read_text()


def test_an_unknown_version_is_told_before_the_model_is_looked_for(warehouse: Path, tmp_path: Path) -> None:
    with pytest.raises(MediError, match=r"'v2': no tag, branch or commit; did you mean 'v1'"):
        run(settings_for(Path("v2"), tmp_path / "no-model", tmp_path / "out", warehouse=warehouse))
    assert not (tmp_path / "out").exists()


def test_a_name_of_a_folder_and_of_a_version_is_refused(
    built: Path, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1").symlink_to(built)
    with pytest.raises(VersionError, match=r"v1: is a folder, and a version in .*write \./v1"):
        open_source("v1", warehouse)
    assert open_source("./v1", warehouse).commit is None
    (tmp_path / "v1").unlink()
    assert open_source("v1", warehouse).commit is not None
