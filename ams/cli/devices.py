"""`ams devices`: who may connect."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Annotated

import typer

app = typer.Typer(help="Enrol and revoke devices.", no_args_is_help=True)

Broker = Annotated[str, typer.Option(envvar="AMS_BROKER_URL", help="Broker, for example redis://127.0.0.1:6379/0.")]


def hash_of(token: str) -> str:
    """What the broker keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@app.command()
def enrol(name: Annotated[str, typer.Argument(help="Name of the device.")], broker: Broker) -> None:
    """Let a device connect; prints its token, once. Enrolling it again replaces the token."""
    from pydantic import TypeAdapter, ValidationError

    from ams.broker import connect
    from ams.core.messages import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise typer.BadParameter("a name has 1 to 64 letters, digits, '.', '_' or '-', and starts with one") from error
    token = secrets.token_urlsafe(32)

    async def work() -> None:
        connected = connect(broker)
        try:
            await connected.devices.enrol(name, hash_of(token))
        finally:
            await connected.connection.close()

    asyncio.run(work())
    typer.echo(token)
    typer.echo(f"Device {name} may connect. Keep the token: it is not stored and cannot be shown again.", err=True)


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the device.")], broker: Broker) -> None:
    """Let a device connect no more."""
    from ams.broker import connect

    async def work() -> None:
        connected = connect(broker)
        try:
            await connected.devices.revoke(name)
        finally:
            await connected.connection.close()

    asyncio.run(work())
    typer.echo(f"Device {name} may no longer connect; a connection that is open stays until it ends.")
