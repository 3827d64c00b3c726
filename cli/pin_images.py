"""`posttrain pin-images`: write the digests behind the tags of Dockerfiles, compose.yaml and k8s/.

It asks each registry as Docker does: OCI's distribution API, with the token that a registry gives
to anyone who asks. No credentials are read: an image that takes them is refused by name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from http.client import HTTPMessage

FILES = ("docker/*.Dockerfile", "compose.yaml", "k8s/**/*.yaml", "Makefile")
WRITTEN = re.compile(r"^(?P<key>ARG BASE=|SLIM := |[ \t]*(?:- )?image: )(?P<image>\S+)", re.M)
OURS = re.compile(r"(^|/)posttrain-[a-z]+:")
"""Built here, not pulled."""

HUB, HUBS_API = "docker.io", "registry-1.docker.io"
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""What an image's tag may name: an index of one image a platform comes first."""

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Image:
    """Where a tag is kept."""

    host: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, written: str) -> "Image":
        """Read `[host/]repository[:tag][@digest]` as Docker does."""
        name = written.partition("@")[0]
        host, slash, rest = name.partition("/")
        if not slash or not ({".", ":"} & set(host) or host == "localhost"):
            host, rest = HUB, name
        repository, _, tag = rest.partition(":")
        if host == HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(host, repository, tag or "latest")

    @property
    def url(self) -> str:
        """Of its manifest. As Docker has it, a registry on this machine may do without TLS."""
        host = HUBS_API if self.host == HUB else self.host
        scheme = "http" if re.match(r"(localhost|127\.[\d.]+)(:\d+)?$", host) else "https"
        return f"{scheme}://{host}/v2/{self.repository}/manifests/{self.tag}"


def pin_images(
    root: Annotated[Path, typer.Option(help="The checkout.")] = Path(),
) -> None:
    """Write the digest of each base image's tag beside it; `make pin` does it."""
    found = {file: file.read_text(encoding="utf-8") for file in files(root)}
    if not found:
        raise ValueError(f"{root}: has no file that names images; name a checkout by --root")
    wanted = {image: file for file in reversed(found) for image in images(found[file])}
    # all of them first: a registry that does not answer leaves every file as it was
    pinned = {
        image: f"{image.partition('@')[0]}@{_digest(image, wanted[image])}" for image in wanted
    }
    for image, value in sorted(pinned.items()):
        print(f"{image.partition('@')[0]}: {value.partition('@')[2]}")
    for file, text in found.items():
        new = WRITTEN.sub(lambda one: one["key"] + pinned.get(one["image"], one["image"]), text)
        if new != text:
            file.write_text(new, encoding="utf-8")
            print(f"wrote {file}")


def files(root: Path) -> list[Path]:
    """Files of a checkout that name images."""
    return [file for pattern in FILES for file in sorted(root.glob(pattern))]


def images(text: str) -> Iterator[str]:
    """Images that a file names and does not build."""
    for one in WRITTEN.finditer(text):
        if not OURS.search(one["image"]):
            yield one["image"]


def _digest(written: str, file: Path) -> str:
    """The digest of what a tag names now.

    Raises:
        ValueError: the registry has no such tag, keeps it from strangers, or cannot be reached.
    """
    import hashlib
    from urllib.error import HTTPError, URLError

    image = Image.parse(written)
    try:
        headers, body = _manifest(image)
    except HTTPError as error:
        reasons = {
            401: "is not for everyone; pin it by hand",
            403: "is not for everyone; pin it by hand",
            404: f"has no tag {image.tag!r}; name one that exists",
            429: "was asked for too often; try again later",
        }
        reason = reasons.get(error.code, f"was refused: HTTP {error.code}")
        raise ValueError(f"{file}: {image.host}/{image.repository} {reason}") from error
    except (URLError, TimeoutError) as error:
        raise ValueError(
            f"{file}: {written}: no answer from {image.host} ({error}); run `make pin` where "
            "there is one. No file was changed"
        ) from error
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    told = headers.get("Docker-Content-Digest", digest)
    if told != digest:
        raise ValueError(f"{file}: {written}: {image.host} says {told} and sends {digest}")
    return digest


def _manifest(image: Image) -> "tuple[HTTPMessage, bytes]":
    """A tag's manifest, with a token where the registry asks for one."""
    from urllib.error import HTTPError

    headers = {"Accept": ", ".join(KINDS)}
    try:
        return _get(image.url, headers)
    except HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or not challenge.startswith("Bearer "):
            raise
    return _get(image.url, {**headers, "Authorization": f"Bearer {_token(challenge)}"})


def _token(challenge: str) -> str:
    """What the registry's own service gives to anyone: the challenge says where and for what."""
    import json
    from urllib.parse import urlencode

    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
    _, body = _get(f"{asked['realm']}?{query}", {})
    answer = json.loads(body)
    return str(answer.get("token") or answer["access_token"])


def _get(url: str, headers: dict[str, str]) -> "tuple[HTTPMessage, bytes]":
    from urllib.request import Request, urlopen

    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url}: the registry names no web address to ask for a token")
    request = Request(url, headers=headers)  # noqa: S310 -- looked at above, as is the next
    with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        return answer.headers, answer.read()
