"""What can go wrong with a download, each with what to do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from ..errors import DownloadError, SA3Error
from ..files.published import CONFIG_FILE, TEXT_ENCODER_FOLDER, WEIGHTS_FILE
from .variants import Variant

_SITE = "https://huggingface.co"


@dataclass(frozen=True)
class Place:
    """Where a variant comes from and goes to; what error messages need.

    Attributes:
        variant: the variant.
        repo: Hugging Face repository.
        subfolder: path of the variant in it, "" or ending in a slash.
        folder: of the finished model.
    """

    variant: Variant
    repo: str
    subfolder: str
    folder: Path

    @property
    def by_hand(self) -> str:
        """How to get the files without this program."""
        parts = [WEIGHTS_FILE, CONFIG_FILE]
        if self.variant.generative:
            parts.append(f"the folder {TEXT_ENCODER_FOLDER}")
        url = f"{_SITE}/{self.repo}/tree/main/{self.subfolder}".rstrip("/")
        return (
            f"By hand: get {', '.join(parts[:-1])} and {parts[-1]} from {url} and put them into "
            f"{self.folder}"
        )


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turn what can go wrong into errors that say what to do."""
    try:
        yield
    except SA3Error:
        raise
    except GatedRepoError as error:
        raise DownloadError(
            f"{place.repo} is gated. Accept its licence at {_SITE}/{place.repo} (once, logged in), "
            "then make your login known here: set HF_TOKEN or run `hf auth login`. Then start the "
            "download again."
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{place.repo} was not found on the Hugging Face Hub, or your login may not see it. "
            f"Choose the other download source. {place.by_hand}."
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise DownloadError(
            f"{place.variant.name} is not on this disk, and downloads are switched off "
            f"(HF_HUB_OFFLINE is set). Switch them on. {place.by_hand}."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise DownloadError(
            f"The Hugging Face Hub refused {place.repo} (status {status}). "
            + (
                f"Check HF_TOKEN or `hf auth login`, and that {_SITE}/{place.repo} is open to you. "
                if status in (401, 403)
                else "Try again later. "
            )
            + f"{place.by_hand}."
        ) from error
    except Exception as error:
        raise _broken_off(place, error) from error


def _broken_off(place: Place, error: Exception) -> DownloadError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"The disk of {place.folder.parent} is full. Free some space and start the download "
            "again: it goes on where it stopped."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DownloadError(
            f"Writing to {place.folder.parent} is not allowed ({error}). Choose another model "
            "folder or change its permissions."
        )
    return DownloadError(
        f"The download of {place.variant.name} from {place.repo} broke off "
        f"({type(error).__name__}: {error}). Check the connection and start it again: it goes on "
        f"where it stopped. {place.by_hand}."
    )
