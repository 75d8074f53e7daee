"""The faults of `python -m tests.mutations` are put where the program goes through them."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.mutations.faults import FAULTS


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stands_where_its_module_calls_what_it_changes(name):
    fault = FAULTS[name]
    owner, called = fault.place()
    assert callable(fault.change(getattr(owner, called)))
    if "." not in fault.path:  # a name of the module: others that import it keep the original
        source = inspect.getsource(importlib.import_module(f"sa3_core.{fault.module}"))
        assert re.search(rf"(?<!def )(?<![.\w]){called}\(", source)


def test_there_are_twelve():
    assert len(FAULTS) == 12
