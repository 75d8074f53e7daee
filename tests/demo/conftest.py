"""The demo model, unpacked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa3_core.checkpoints.library import Library

from .studio import CheckedStudio, Studio


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Library:
    return Library.from_models_dir(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def demo_folder(library) -> Path:
    return library.resolve("demo", "model")


@pytest.fixture(scope="session")
def studio(demo_folder) -> Studio:
    return CheckedStudio(demo_folder)


@pytest.fixture(scope="session")
def base(library) -> Studio:
    """The twin that is declared a base model, for cfg and training."""
    return CheckedStudio(library.resolve("demo-base", "model"))


@pytest.fixture(params=[5, pytest.param(20, marks=pytest.mark.soak)], ids="{} seeds".format)
def seeds(request) -> int:
    """How many takes of each prompt."""
    return request.param
