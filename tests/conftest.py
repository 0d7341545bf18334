"""What every test stands on: one thread, its own cache folder, registries without other tests' plug-ins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read when torch is first imported. Tests are small: a second thread costs more than it gives, in each xdist worker.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import pytest

from dlcli import registry


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this session for fetched data, never the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("DLCLI_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    """Plug-ins that a test adds, and the classes that they register, end with the test."""
    files = list(registry._plugin_files)
    modules = set(sys.modules)
    yield
    registry._plugin_files[:] = files
    new = {name for name in sys.modules if name not in modules and not name.startswith("dlcli.")}
    for group in registry.REGISTRIES.values():
        own = f"{group.package}."
        for name, cls in list(group._classes.items()):
            if cls.__module__ in new and not cls.__module__.startswith(own):
                del group._classes[name]
    for name in new:
        if name.startswith("dlcli_plugin_"):
            del sys.modules[name]


@pytest.fixture
def mirror() -> Path:
    """The folder of real data files; the test is skipped where there is none."""
    folder = os.environ.get("DLCLI_DATA_MIRROR")
    if not folder:
        pytest.skip("DLCLI_DATA_MIRROR is not set: no folder with the real data files")
    if not Path(folder).is_dir():
        pytest.skip(f"DLCLI_DATA_MIRROR={folder} is not a folder")
    return Path(folder)


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """An empty folder for a person's own YAML files, as given to ``--config-dir``."""
    folder = tmp_path / "configs"
    folder.mkdir()
    return folder
