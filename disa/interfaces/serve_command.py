"""`disa serve`: the page and the API of a model, for one machine or behind a token."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from disa.errors import DisaError
from disa.inference.labels import check_templates
from disa.inference.protocol import Protocol
from disa.running.extras import require
from disa.running.terminal import say
from disa.serving.limits import Limits

if TYPE_CHECKING:  # it imports FastAPI, an extra
    from disa.serving.guard import Access

SHORTEST_TOKEN = 16
TOKEN = "DISA_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a web page and an HTTP API: pictures and labels in, masks out.

    Open the printed address in a browser, drop a picture and type labels; /docs describes the API.
    Only this machine can reach it, unless `--host` says otherwise; then everybody needs the token.
    A picture is uploaded and encoded once, and asked as often as one likes; it is kept in memory
    until it is dropped. Nothing is written to disk. Logs are JSON lines on stderr. Ctrl-C,
    SIGTERM and SIGHUP end the server when the requests under way are done.

    Examples:

      disa serve

      disa serve --model cat-seg-b --protocol cat-seg --port 8080

      DISA_TOKEN=$(openssl rand -hex 16) disa serve --host 0.0.0.0 --model cat-seg-b
    """

    # A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub.
    model: Annotated[str, arg(aliases=["-m"])] = "mini"
    # Address to listen at; 0.0.0.0 is all of this machine's, and needs a token.
    host: str = "127.0.0.1"
    # 0: any that is free.
    port: int = 8017
    # What clients must send: Authorization: Bearer TOKEN, or TOKEN as a browser's password. Rather
    # set the variable DISA_TOKEN, since others on this machine see the options of a command.
    token: str | None = None
    # Another name of the server, such as a proxy's: disa.example.org. Requests for other names are
    # refused on 127.0.0.1.
    host_name: UseAppendAction[tuple[str, ...]] = ()
    # A site whose pages may use the API from a browser, such as https://example.org.
    allow_origin: UseAppendAction[tuple[str, ...]] = ()
    # How much the server takes from its clients.
    limits: OmitArgPrefixes[Limits] = field(default_factory=Limits)
    # How pictures are shown to the model: `whole`, `windows` or `cat-seg` (`disa segment --help`).
    protocol: str = "whole"
    # Pixels of the picture's short side; more is finer and slower. Default: the protocol's own.
    size: int | None = None
    # Share of a window that the next one shows, too, with `--protocol windows`.
    overlap: float = 1 / 3
    # Prompts in place of the model's own, as in `disa segment`.
    templates: Annotated[UseAppendAction[tuple[str, ...]], arg(aliases=["--template"])] = ()
    # Numbers inside the model.
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    def run(self) -> int:
        """Serve until a signal. Raises `DisaError` for what cannot be served."""
        require("disa serve", "serve", "fastapi", "uvicorn", "prometheus_client")
        if not 0 <= self.port < 2**16:
            raise DisaError(f"--port {self.port}: choose 0 to 65535; 0 is any that is free")
        protocol = Protocol(self.protocol, self.size, self.overlap)
        templates = check_templates(self.templates) if self.templates else None
        access = self._access()

        from disa.inference.segmenter import load
        from disa.running.devices import DTYPES
        from disa.serving.app import serve_app
        from disa.serving.server import address_of, bound, run
        from disa.serving.service import Service, Settings
        from disa.weights.names import BUNDLED, knowledge

        with bound(self.host, self.port) as listening:
            segmenter = load(self.model, self.device, DTYPES[self.dtype])
            side = segmenter.model.config.backbone_image_size
            # A size that this model cannot do is no client's fault.
            protocol.layout(side, side, side, segmenter.model.patch_size)
            # Clients need not know where the model lies.
            settings = Settings(
                Path(self.model).name,
                knowledge(self.model),
                self.model in BUNDLED,
                protocol,
                templates,
            )
            service = Service(segmenter, settings, self.limits)
            say(f"{settings.model} is served at {address_of(listening)} (end with Ctrl-C)")
            run(serve_app(service, access), listening, self.limits.timeout)
        return 0

    def _access(self) -> "Access":
        """Return who may ask. Raises `DisaError` for a server that others reach without a token."""
        from disa.serving.guard import LOOPBACK, Access

        token = os.environ.get(TOKEN) if self.token is None else self.token
        if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii()):
            raise DisaError(
                f"the token must have at least {SHORTEST_TOKEN} letters and digits; make one with "
                "openssl rand -hex 16"
            )
        is_local = _is_loopback(self.host)
        if not is_local and token is None:
            raise DisaError(
                f"--host {self.host}: other machines could ask without a token; set {TOKEN}, or "
                "serve at 127.0.0.1"
            )
        # The token keeps others away, whatever the server is called.
        hosts = None
        if is_local or self.host_name:
            hosts = LOOPBACK | {name.lower() for name in (self.host, *self.host_name)}
        return Access(token, hosts, self.allow_origin)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
