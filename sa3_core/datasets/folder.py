"""A folder of recordings: what is in it, and what each of them is called."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from ..checks import shown
from ..errors import InputError
from ..files.json_text import parse_json
from ..files.names import is_file

SUFFIXES = frozenset(
    (".wav", ".mp3", ".flac", ".ogg", ".opus", ".aif", ".aiff", ".m4a", ".aac", ".wma", ".mka")
)
FILE_LIST = "filelist.txt"  # at the root, one path per line: replaces the walk
_TAGS = ("title", "artist", "album", "genre", "comment", "description")
# What Underfit keeps of a recording beside its prompt, in the order and words of its prompts.
TAG_WORDS = {
    "artist": "Artist",
    "title": "Title",
    "date": "Year",
    "bpm": "BPM",
    "genre": "Genre",
    "label": "Label",
    "album": "Album",
    "composer": "Composer",
}


@dataclass(frozen=True)
class CaptionRule:
    """Where captions come from, where neither JSON, text file nor tags give one.

    Attributes:
        pattern: a prompt with {stem}, {folder} or {path} in it, or one fixed sentence; '' = none.
        trigger: a word put in front of every caption.
        tags: take the file's embedded tags.
    """

    pattern: str = ""
    trigger: str = ""
    tags: bool = True


@dataclass(frozen=True)
class Recording:
    """A sound file of a folder.

    Attributes:
        path: the file.
        relative: its path from the folder, with forward slashes.
        caption: '' where nothing gives one.
    """

    path: Path
    relative: str
    caption: str


def list_recordings(folder: Path, rule: CaptionRule = CaptionRule()) -> list[Recording]:
    """Every sound file below a folder, sorted by its path there; hidden ones are left out.

    Args:
        folder: what to look through; a `filelist.txt` in it names the files instead.
        rule: of captions.

    Raises:
        InputError: no such folder, no sound in it, or a listed file that is not there.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}. Check the path.")
    paths = sorted(_paths(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise InputError(
            f"{folder.resolve().name} holds no sound files ({', '.join(sorted(SUFFIXES))}). "
            "Choose the folder that the recordings are in."
        )
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [
        Recording(path, name, caption_of(path, name, rule))
        for path, name in zip(paths, names, strict=True)
    ]


def _paths(folder: Path) -> Iterator[Path]:
    listing = folder / FILE_LIST
    if listing.is_file():
        for line in _read(listing).splitlines():
            if line.strip():
                path = folder / line.strip()
                if not is_file(path) or not path.resolve().is_relative_to(folder.resolve()):
                    raise InputError(
                        f"{listing} names {shown(line.strip())}, which is not below it."
                    )
                yield path
        return
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield path


def caption_of(path: Path, relative: str, rule: CaptionRule) -> str:
    """A file's caption: JSON beside it, text beside it, its tags, the rule's pattern; '' = none.

    JSON and text may also lie in folders `json` and `txt`, below the file's or beside it.

    Args:
        path: the sound file.
        relative: its path in the dataset.
        rule: what else may give a caption.

    Raises:
        InputError: a caption file that cannot be read.
    """
    places = [path.parent, *_folders_beside(path, relative)]
    jsons = [place / f"{path.stem}.json" for place in places if place.name != "txt"]
    texts = [place / f"{path.stem}.txt" for place in places if place.name != "json"]
    found = next(filter(None, map(_from_json, jsons)), "")
    found = found or next(filter(None, map(_from_text, texts)), "")
    if not found and rule.tags:
        found = _from_tags(path)
    if not found and rule.pattern:
        place = {"{stem}": path.stem, "{folder}": path.parent.name, "{path}": relative}
        found = rule.pattern
        for name, value in place.items():
            found = found.replace(name, value)
    if not found:
        return ""
    return f"{rule.trigger}, {found}" if rule.trigger else found


def _folders_beside(path: Path, relative: str) -> list[Path]:
    """Folders that may hold captions, none of them out of the dataset. Source: Underfit."""
    above = [path.parent] if "/" not in relative else [path.parent, path.parent.parent]
    return [place / name for place in above for name in ("json", "txt")]


def tags_caption(values: Mapping[str, object]) -> str:
    """A caption of a recording's tags, as Underfit words them; '' where there is none."""
    found = {word: str(values.get(tag) or "").strip() for tag, word in TAG_WORDS.items()}
    return ", ".join(f"{word}: {value}" for word, value in found.items() if value)


def _from_text(path: Path) -> str:
    return _read(path).strip() if path.is_file() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no readable text ({error}). Save it as UTF-8.") from error


def _from_json(path: Path) -> str:
    """`prompt` or `caption`, else every text and number as `Name: value`."""
    text = _from_text(path)
    if not text:
        return ""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is no readable JSON ({error}).") from error
    if not isinstance(values, dict):
        raise InputError(f'{path} must hold a JSON object, such as {{"prompt": "warm pad"}}.')
    for name in ("prompt", "caption"):
        if isinstance(values.get(name), str) and values[name].strip():
            return _sound(path, values[name].strip())
    plain = {k: v for k, v in values.items() if isinstance(v, str | int | float) and str(v).strip()}
    return _sound(path, ", ".join(f"{name}: {value}" for name, value in plain.items()).strip())


def _sound(path: Path, caption: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in caption):
        raise InputError(f"{path} holds half a character (a lone surrogate). Write it again.")
    return caption


def _from_tags(path: Path) -> str:
    try:
        with av.open(str(path)) as container:
            tags = {key.lower(): value.strip() for key, value in container.metadata.items()}
    except (FFmpegError, OSError):
        return ""  # the file itself is reported as unreadable when it is decoded
    found = {name: tags[name] for name in _TAGS if tags.get(name)}
    return ", ".join(f"{name.capitalize()}: {value}" for name, value in found.items())
