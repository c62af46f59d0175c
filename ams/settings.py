"""Settings from the environment and the command line, for every process alike.

Each process has one pydantic-settings model beside it; this file turns the model's fields into command-line options
(`--broker-url`), lets them override the environment, and turns validation errors into one line a person can act on.
Knows no setting by name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from ams.errors import AmsError

S = TypeVar("S", bound=BaseSettings)


def parse(model: type[S], arguments: list[str] | None, *, program: str) -> S:
    """Settings from the environment, overridden by command-line arguments (sys.argv when None).

    Exits with argparse's usage message for an unknown option; raises pydantic's ValidationError for a bad value.
    """
    prefix = str(model.model_config.get("env_prefix", ""))
    parser = argparse.ArgumentParser(
        prog=program,
        description=(model.__doc__ or "").strip(),
        epilog=f"Every option can also be given in the environment: {prefix}NAME, in capitals.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    for name, field in model.model_fields.items():
        options: dict[str, Any] = {"help": (field.description or "").replace("%", "%%")}
        if field.default not in (None, PydanticUndefined, ""):
            options["help"] += f" Default: {field.default}."
        if field.annotation is bool:
            parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, **options)
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.rsplit("_", 1)[-1].upper(), **options)
    given = vars(parser.parse_args(arguments))
    return model(**given)


def exit_code(name: str, start: Callable[[], None]) -> int:
    """Run a process's `start` and return its exit code.

    0 when it returns; 2, with one line on stderr, for what a person has to mend. Anything else is a bug and stays a
    traceback.
    """
    try:
        start()
    except ValidationError as error:
        print(f"{name}: {explain(error)}", file=sys.stderr)
        return 2
    except AmsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def explain(error: ValidationError) -> str:
    """The first problem of a ValidationError in one line: which setting, what is wrong, how to give it."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(step) for step in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{first['msg']}: --{name.replace('_', '-')}{more}; --help lists all settings"
