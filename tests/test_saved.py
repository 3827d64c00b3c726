"""The look into a saved image, on images made by hand."""

import gzip
import io
import tarfile

import pytest

from tests.saved import CHUNK_BYTES, ZSTD, holds


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_word_in_a_layer_is_found(pack: "type[bytes]") -> None:
    layer = pack(tar({"app/code.py": b"first", "etc/secret": b"planted"}))
    saved = tar({"manifest.json": b"[]", "blobs/sha256/0": layer})
    assert holds(io.BytesIO(saved), ("planted", "elsewhere")) == {"planted"}


def test_a_word_across_two_pieces_is_found() -> None:
    layer = gzip.compress(b"." * (CHUNK_BYTES - 3) + b"planted" + b"." * CHUNK_BYTES)
    assert holds(io.BytesIO(tar({"0": layer})), ("planted",)) == {"planted"}


def test_a_word_in_the_images_description_is_found() -> None:
    assert holds(io.BytesIO(tar({"config.json": b"ENV=planted"})), ("planted",)) == {"planted"}


def test_a_layer_that_cannot_be_read_is_no_clean_one() -> None:
    with pytest.raises(ValueError, match="blobs/0: is compressed by zstd"):
        holds(io.BytesIO(tar({"blobs/0": ZSTD + b"rest"})), ("planted",))
