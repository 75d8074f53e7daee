"""Every example has a form for the page's app mode, of inputs and a result that it has."""

from __future__ import annotations

import json

import pytest

from tests.tools.example_inputs import api_workflow, page_form, workflow_names
from tests.tools.workflow_forms import FORMS, RESULT, form_of


@pytest.mark.parametrize("name", workflow_names())
def test_the_example_carries_its_form(name):
    """Else run `python -m tests.tools.make_workflows`."""
    workflow = json.loads(page_form(name).read_text(encoding="utf-8"))
    form, graph = workflow["extra"]["linearData"], api_workflow(name)
    assert form == form_of(name, workflow)
    types = {node["id"]: node["type"] for node in workflow["nodes"]}
    assert {(types[identifier], widget) for identifier, widget in form["inputs"]} == set(
        FORMS[name]
    )
    by_type = {node["class_type"]: node["inputs"] for node in graph.values()}
    for kind, widget in FORMS[name]:
        assert not isinstance(by_type[kind][widget], list), "a link, not a value to ask for"
    assert [types[identifier] for identifier in form["outputs"]] == [RESULT]
