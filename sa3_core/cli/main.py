"""`sa3`, the command line: `sa3 generate|encode|decode|pre-encode|train|...`, thin over the core.

Paths of what was written go to stdout, all else to stderr. See `sa3 COMMAND --help`.
"""

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tqdm import tqdm

from ..errors import InputError, SA3Error
from ..files.names import system_failure
from ..jobs.faults import ManifestError
from ..jobs.fields import DECODE, GENERATE
from ..jobs.memory import is_out_of_memory
from ..registry import AUTO
from .arguments import OLD_PACKAGE, build_parser, flag_for, installed_version
from .generate_arguments import check_usage
from .job_arguments import PRE_ENCODE

log = logging.getLogger(__name__)

OK, FAILED, INTERRUPTED = 0, 1, 130

_COMMANDS = {
    "generate": ("generate", "run_generate"),
    "encode": ("generate", "run_encode"),
    "decode": ("generate", "run_decode"),
    "models": ("models", "run_models"),
    "download": ("models", "run_download"),
    PRE_ENCODE: ("pre_encode", "run_pre_encode"),
    "train": ("train", "run_train"),
    "measure": ("measure", "run_measure"),
    "evaluate": ("evaluate", "run_evaluate"),
    "merge": ("models", "run_merge"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None = the process's.

    Returns:
        Exit code: 0 done, 1 error, 130 interrupted.

    Raises:
        SystemExit: after --help (0) and for wrong usage (2), as argparse does.
    """
    parser = build_parser()
    typed = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(typed)
    if args.command in (GENERATE, DECODE, PRE_ENCODE):
        check_usage(parser, args)
    if args.command == "merge" and not args.lora and (not args.model or args.precision == AUTO):
        parser.error("merge needs --lora, or a --precision to write a --model in")
    module, function = _COMMANDS[args.command]
    with _warnings_on_stderr():
        _warn_of_old_package()
        try:
            # imported late: `sa3 models` need not wait for the nets
            run = getattr(importlib.import_module(f".{module}", __package__), function)
            for line in run(args):
                print(line)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return _say("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has gone: nobody to tell, also not when Python flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except ManifestError as error:
            return _say_faults(error)
        except InputError as error:
            return _say(f"error: {error.named(partial(flag_for, args, typed))}", FAILED)
        except SA3Error as error:
            return _say(f"error: {error}", FAILED)
        except OSError as error:
            return _say(f"error: {system_failure(error)}", FAILED)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return _say(
                "error: out of memory. Make the piece shorter or the batch smaller, use --chunk "
                "128, or --precision bf16.",
                FAILED,
            )
    return OK


def _say(text: str, code: int) -> int:
    """One line on stderr."""
    print(f"sa3: {' '.join(text.split())}", file=sys.stderr)
    return code


def _say_faults(error: ManifestError) -> int:
    """A line for each, so that none is lost among the others."""
    for line in str(error).splitlines():
        _say(line, FAILED)
    return FAILED


def _warn_of_old_package() -> None:
    """Both packages put their files into one `sa3_core`: removing the old one would take ours."""
    if installed_version(OLD_PACKAGE):
        log.warning(
            f"this program was once installed as {OLD_PACKAGE}, into the same folder. Run `pip "
            f"uninstall {OLD_PACKAGE}`, then `pip install .` again."
        )


class _WarningLines(logging.Handler):
    """Writes warnings between progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        tqdm.write(f"sa3: warning: {text}", file=sys.stderr)


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    logger = logging.getLogger(__name__.removesuffix(".cli.main"))
    handler, propagate = _WarningLines(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
