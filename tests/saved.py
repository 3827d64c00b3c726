"""What lies in an image as `docker save` writes it: a tar file of tar files, compressed or not."""

import gzip
import tarfile
from collections.abc import Iterator
from typing import IO

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
CHUNK_BYTES = 1 << 20


def holds(saved: IO[bytes], words: tuple[str, ...]) -> set[str]:
    """Those of the words that stand in any file of any layer, or in what describes the image.

    Raises:
        ValueError: a layer is compressed in a way that is not read here.
    """
    wanted, found = {word.encode(): word for word in words}, set()
    with tarfile.open(fileobj=saved, mode="r|") as image:
        for member in image:
            part = image.extractfile(member) if member.isfile() else None
            if part is not None:
                for text in windows(part, member.name, max(map(len, wanted))):
                    found |= {word for key, word in wanted.items() if key in text}
    return found


def windows(part: IO[bytes], name: str, overlap: int) -> Iterator[bytes]:
    """All of a part, piece by piece, each with the end of the one before it."""
    start = part.peek(4)[:4]  # type: ignore[attr-defined]
    if start == ZSTD:
        raise ValueError(f"{name}: is compressed by zstd, which this test cannot look into")
    plain = gzip.GzipFile(fileobj=part) if start[:2] == GZIP else part
    end = b""
    while chunk := plain.read(CHUNK_BYTES):
        yield end + chunk
        end = chunk[-overlap:]
