"""Names of saved files: tokens filled in, valid on every system, numbered in the output folder.

A name made on Linux must not fail where the graph or the files are taken to Windows, so that
system's rules hold everywhere.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.errors import InputError
from ....sa3_core.files.whole_file import FreeName

PREFIX = "filename_prefix"  # the input's name, in every node that saves
_BATCH = "%batch_num%"
_TOKEN = re.compile(r"%([^%]+)%")
_DATE = re.compile("dd?|MM?|hh?|mm?|ss?|yyyy|yy")
_REFUSED = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_IN_VALUES = re.compile(r'[/\\<>:"|?*\x00-\x1f\x7f]')  # a value never opens a folder
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_VALUE_LENGTH = 60  # characters; a prompt is a long name
_PART_BYTES = 200  # of at most 255, which number, suffix and side file share


@dataclass(frozen=True)
class OutputNames:
    """Where a node's files go.

    Attributes:
        folder: inside ComfyUI's output folder; it exists.
        name: before the number, `%batch_num%` still in it.
        first: number that is probably free.
        subfolder: `folder` as ComfyUI's page names it.
    """

    folder: Path
    name: str
    first: int
    subfolder: str

    def item(self, index: int, suffix: str) -> FreeName:
        """The name of a batch item's file."""
        name = self.name.replace(_BATCH, str(index))
        return FreeName(self.folder, name, suffix, self.first + index)


def output_names(prefix: str, hidden: Any = None) -> OutputNames:
    """Names of files with a prefix in the output folder.

    Args:
        prefix: folder and name, with tokens.
        hidden: the node's hidden inputs: `%Node.widget%` is looked up in prompt and workflow.

    Raises:
        InputError: no name, one that some system refuses, or one that leads out of the folder.
    """
    base = folder_paths.get_output_directory()
    checked = filled_prefix(prefix, hidden)
    place_inside(Path(base), checked)
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(checked, base)
    except OSError as error:
        raise InputError(
            f"{_short(prefix)} cannot be used: its folder cannot be made ({error.strerror}). "
            "Write another name such as audio/take.",
            PREFIX,
        ) from error
    return OutputNames(Path(folder), name, counter, subfolder)


def filled_prefix(prefix: str, hidden: Any = None) -> str:
    """A prefix with its tokens filled in, valid on every system.

    Args:
        prefix: folder and name, with tokens.
        hidden: the node's hidden inputs.

    Raises:
        InputError: no name, or one that some system refuses.
    """
    prompt = getattr(hidden, "prompt", None) or {}
    workflow = (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow") or {}
    return check_prefix(fill_tokens(prefix, prompt, workflow, datetime.now()))


def place_inside(base: Path, name: str, field: str = PREFIX) -> Path:
    """A path inside a folder, links not followed.

    Args:
        base: the folder.
        name: folder and name, checked.
        field: the input that holds it.

    Raises:
        InputError: the name leads out of the folder.
    """
    root, path = Path(os.path.abspath(base)), Path(os.path.abspath(base / name))
    if path == root or not path.is_relative_to(root):
        raise InputError(
            f"{name!r} leads out of {root.name}, where the files stay. Write a name without '..' "
            "that does not begin with a slash, such as audio/take.",
            field,
        )
    return path


def prefix_error(prefix: str | None, field: str = PREFIX) -> bool | str:
    """For `validate_inputs`: True, or what is wrong with a prefix whatever its tokens become."""
    if prefix is None:
        return True
    try:
        checked = check_prefix(_TOKEN.sub("0", prefix), field)
        place_inside(Path(folder_paths.get_output_directory()), checked, field)
    except InputError as error:
        return str(error)
    return True


def check_prefix(prefix: str, field: str = PREFIX) -> str:
    """Return a prefix that makes valid names on Windows, macOS and Linux, folders divided by `/`.

    Args:
        prefix: folder and name, tokens filled in.
        field: the input that holds it.

    Raises:
        InputError: saying which part is wrong and what to do.
    """
    parts = [part for part in prefix.replace("\\", "/").split("/") if part != "."]
    if not parts or not parts[-1].strip(" .") or not prefix.strip():
        raise InputError(
            f"{_short(prefix)} holds no name for the files. Write one such as audio/take.", field
        )
    for index, part in enumerate(parts, start=1):
        if part != "..":
            _check_part(part, index < len(parts), field)
    return "/".join(parts)


def _check_part(part: str, folder: bool, field: str) -> None:
    refused = _REFUSED.search(part) or re.search(r"[\ud800-\udfff]", part)
    if refused:
        raise InputError(
            f"{_short(part)} holds {refused.group()!r}, which Windows allows in no file name "
            '(as < > : " | ? * and control characters). Leave it out or write _ instead.',
            field,
        )
    size = len(part.encode())
    if size > _PART_BYTES:
        raise InputError(
            f"{_short(part)} has {size} bytes; a name has at most {_PART_BYTES}. Shorten it.",
            field,
        )
    stem, dot, _ = part.partition(".")
    if _DEVICES.fullmatch(stem.strip()) and (folder or dot):
        raise InputError(
            f"{part!r} is the name of a device on Windows. Write another, such as {stem}_1.", field
        )
    if folder and part != part.rstrip(" ."):
        raise InputError(
            f"{part!r} ends in a dot or a space, which Windows drops from the names of folders. "
            "Leave it out.",
            field,
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def fill_tokens(
    prefix: str, prompt: Mapping[str, Any], workflow: Mapping[str, Any], now: datetime
) -> str:
    """Replace `%date:yyyy-MM-dd%` and `%Node.widget%`, as ComfyUI's page does for its own nodes.

    Args:
        prefix: with tokens; unknown ones are left.
        prompt: the running graph, by node id.
        workflow: the graph as the page saves it, which knows the nodes' names; may be empty.
        now: local time.
    """
    nodes = list(_nodes_of(prompt, workflow))

    def value(match: re.Match[str]) -> str:
        text = match.group(1)
        if text.startswith("date:"):
            return _as_name(_date(text.removeprefix("date:"), now))
        node, dot, widget = text.partition(".")
        if not dot or "." in widget:
            return match.group()
        for names in zip(*(names for names, _ in nodes), strict=True):
            for name, (_, inputs) in zip(names, nodes, strict=True):
                if name == node:
                    found = _input_text(inputs, widget)
                    return match.group() if found is None else found
        return match.group()

    return _TOKEN.sub(value, prefix)


def _nodes_of(
    prompt: Mapping[str, Any], workflow: Mapping[str, Any]
) -> Iterable[tuple[tuple[str | None, str | None, str | None], Mapping[str, Any]]]:
    """Every node's names, the one that counts most first, and its inputs."""
    drawn = {
        str(node.get("id")): node for node in workflow.get("nodes") or () if isinstance(node, dict)
    }
    for node_id, entry in prompt.items():
        shown = drawn.get(str(node_id), {})
        title = shown.get("title") or (entry.get("_meta") or {}).get("title")
        own = (shown.get("properties") or {}).get("Node name for S&R")
        yield (
            (own or entry.get("class_type"), title, entry.get("class_type")),
            entry.get("inputs") or {},
        )


def _input_text(inputs: Mapping[str, Any], widget: str) -> str | None:
    """A widget's value as part of a name; None for a link or no such widget."""
    value = inputs.get(widget)
    if isinstance(value, (list, dict)) or widget not in inputs:
        return None
    if isinstance(value, bool):
        return str(value).lower()  # as the page writes it
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _as_name("" if value is None else str(value))


def _as_name(text: str) -> str:
    return _IN_VALUES.sub("_", text)[:_VALUE_LENGTH].strip(" .")


def _date(pattern: str, now: datetime) -> str:
    values = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        text = match.group()
        if text[0] == "y":
            return str(now.year)[-len(text) :]
        return str(values[text[0]]).zfill(len(text))

    return _DATE.sub(part, pattern)
