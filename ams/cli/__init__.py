"""The `ams` command. Each command imports what it needs when it runs, so that `ams --help` is quick anywhere."""

from __future__ import annotations

import sys

import typer

from ams.cli import demo, devices, models, processes, run
from ams.errors import AmsError

app = typer.Typer(
    name="ams",
    help="Adaptive Model Streaming: a small network on a camera, kept nearly as good as a huge one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models.app, name="models")
app.add_typer(devices.app, name="devices")
app.command("demo")(demo.demo)
app.command("run")(run.run)
for name, text in processes.SERVICES.items():
    app.command(name, help=text, context_settings=processes.PASS_ON)(processes.command(name))


@app.command()
def version() -> None:
    """Print the version."""
    import ams

    typer.echo(ams.__version__)


def main() -> None:
    """Entry point of the console script: our own errors become one line and exit code 2."""
    try:
        app()
    except AmsError as error:
        print(f"ams: {error}", file=sys.stderr)
        sys.exit(2)


__all__ = ["app", "main"]
