"""Rules that every node's schema keeps: API callers and saved graphs rely on them."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.in_process import node_classes
from tests.helpers.support import assert_none

NO_DEFAULT = inspect.Parameter.empty


@pytest.fixture(scope="session")
def nodes(pack: ModuleType) -> list[type[Any]]:
    """Every node class of the pack."""
    return node_classes(pack)


def _default(entry: Any) -> Any:
    """The schema's default; sockets have none, which is None for an optional one."""
    return getattr(entry, "default", None)


def _parameters(node: type[Any]) -> dict[str, inspect.Parameter]:
    """Parameters of `execute` by input; a ** one (numbered inputs) stands for those not named."""
    parameters = dict(inspect.signature(node.execute).parameters)
    rest = [p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    for name in rest:
        del parameters[name]
        for entry in node.define_schema().inputs:
            default = _default(entry) if entry.optional else NO_DEFAULT
            keyword = inspect.Parameter(entry.id, inspect.Parameter.KEYWORD_ONLY, default=default)
            parameters.setdefault(entry.id, keyword)
    return parameters


def test_ids_start_with_sa3_and_are_unique(nodes):
    ids = [node.define_schema().node_id for node in nodes]
    assert len(set(ids)) == len(ids)
    assert all(node_id.startswith("SA3") for node_id in ids), ids


def test_every_node_says_what_it_is(nodes):
    schemas = [node.define_schema() for node in nodes]
    for field in ("display_name", "description", "category", "search_aliases"):
        assert_none([f"{s.node_id} has no {field}" for s in schemas if not getattr(s, field)])


def test_display_names_are_unique(nodes):
    names = [node.define_schema().display_name for node in nodes]
    assert len(set(names)) == len(names), names


def test_every_input_has_a_tooltip(nodes):
    schemas = [node.define_schema() for node in nodes]
    assert_none(
        [f"{s.node_id}.{i.id} has no tooltip" for s in schemas for i in s.inputs if not i.tooltip]
    )


def test_execute_takes_exactly_the_schemas_inputs(nodes):
    problems = []
    for node in nodes:
        schema = node.define_schema()
        ids = {entry.id for entry in schema.inputs}
        taken = set(_parameters(node))
        problems += [f"{schema.node_id}.{name} is not in both" for name in sorted(ids ^ taken)]
    assert_none(problems)


def test_required_inputs_have_no_python_default_and_optional_ones_the_schemas(nodes):
    problems = []
    for node in nodes:
        schema = node.define_schema()
        parameters = _parameters(node)
        for entry in schema.inputs:
            given = parameters[entry.id].default
            if not entry.optional and given is not NO_DEFAULT:
                problems.append(f"{schema.node_id}.{entry.id}: required, yet default {given!r}")
            if entry.optional and (given is NO_DEFAULT or given != _default(entry)):
                problems.append(
                    f"{schema.node_id}.{entry.id}: optional; python default {given!r}, "
                    f"schema default {_default(entry)!r}"
                )
    assert_none(problems)


def test_choices_are_plain_names_and_hold_the_default(nodes):
    problems = []
    for node in nodes:
        schema = node.define_schema()
        for entry in schema.inputs:
            options = getattr(entry, "options", None)
            if options is None:
                continue
            where = f"{schema.node_id}.{entry.id}"
            if any(not isinstance(option, str) or "\\" in option for option in options):
                problems.append(f"{where}: {options}")
            if _default(entry) is not None and _default(entry) not in options:
                problems.append(f"{where}: default {_default(entry)!r} is not among {options}")
    assert_none(problems)


def test_numbers_have_limits_that_hold_the_default(nodes):
    problems = []
    for node in nodes:
        schema = node.define_schema()
        for entry in schema.inputs:
            if entry.io_type not in ("INT", "FLOAT"):
                continue
            low, value, high = entry.min, entry.default, entry.max
            if None in (low, value, high) or not low <= value <= high:
                problems.append(f"{schema.node_id}.{entry.id}: {low} <= {value} <= {high}")
    assert_none(problems)
