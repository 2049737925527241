"""`fusionkit serve`: the live page."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from ..errors import NoEffect, OptionError
from ..extras import install

MEGABYTES, MEGAPIXELS = 200, 40  # largest file, and picture, by default
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen on an address others can reach.")
    ] = False,
    token: Annotated[
        str, typer.Option(metavar="TEXT", help="Secret part of the page's address.", show_default="a new random one")
    ] = "",
    max_megabytes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Largest file, in megabytes.", show_default=str(MEGABYTES))
    ] = None,
    max_megapixels: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Largest picture, in megapixels.", show_default=str(MEGAPIXELS)),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", show_default="auto")] = None,
    study: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Show this study of `judge make` to those who vote, and nothing else."),
    ] = None,
) -> None:
    """Open a page in the browser on which images are fused, compared and inspected.

    fusionkit serve

    Drop two or more files; up to four methods stand side by side, with what was lost and invented, which source
    shows where, metrics, and the command that makes the same. Everything stays on this machine: the page loads nothing
    from elsewhere, files are forgotten when it is left. Needs the extra `serve`: docs/serve.md.
    """
    if host not in LOCAL and not allow_remote:
        raise OptionError(f"{host} exposes the page to the network; add `allow_remote` if you want that")
    if token and (len(token) < 16 or not token.replace("-", "").replace("_", "").isalnum()):
        raise OptionError("`token` must have 16 or more letters, digits, - or _")
    given = {"max_megabytes": max_megabytes, "max_megapixels": max_megapixels, "device": device}
    if study is not None and (unread := [name for name, value in given.items() if value is not None]):
        raise NoEffect(f"`{unread[0]}` has no effect with `study`, which fuses nothing")
    try:
        from ..server.app import make_app
        from ..server.listening import listen, serve_until_stopped
        from ..server.study import make_study_app
    except ModuleNotFoundError as error:
        raise OptionError(f"the page needs {error.name}: {install('serve')}") from None
    from ..method.device import find_device
    from ..server.sessions import Limits

    device = device or "auto"
    find_device(device)
    token = token or secrets.token_urlsafe(18)
    most = max_megabytes or MEGABYTES, max_megapixels or MEGAPIXELS
    limits = Limits(bytes=most[0] * 1_000_000, pixels=most[1] * 1_000_000)
    hosts = LOCAL if host in LOCAL else None
    app = make_study_app(study, token, hosts) if study else make_app(token, hosts, limits, device)
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"http://{shown}:{listening.getsockname()[1]}/{token}/")
    typer.echo("Ctrl-C ends it; whoever knows this address can use it", err=True)
    serve_until_stopped(app, listening)
