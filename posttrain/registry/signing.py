"""Sign what a version holds, and check it: OpenSSF's model-signing with an elliptic-curve key.

Signed are the files by which a version is loaded and judged: its policy, tokenizer, evaluation and
bill of materials, and its base's manifest, which names the base's files by their SHA-256. The card
is text for people, made of these, and is not signed.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.artifacts import MANIFEST, BaseModel, Policy
from posttrain.decisions import RuleOutcome
from posttrain.registry.versions import base_name, resolve

PASSWORD = "POSTTRAIN_SIGNING_PASSWORD"  # the environment's name for it
SIGNATURE, BASE = "model.sig", "base.json"
"""Beside the version's files: the signature, and the base's manifest as it was signed."""

SIGNED_BY = "signed_by"
"""Tag: SHA-256 of the public key."""

PEM = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def public_key_of(key: Path) -> bytes:
    """The PEM that goes with a private key; `promotion.signed_by` takes it.

    Raises:
        ValueError: the file is missing, is no private key, or its password is wrong.
    """
    password = os.environ.get(PASSWORD)
    try:
        private = serialization.load_pem_private_key(
            key.read_bytes(), password.encode() if password else None
        )
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"POSTTRAIN_SIGNING_KEY names {key}, which does not open ({type(error).__name__}); it "
            f"must be a PEM file of a private key, and {PASSWORD} its password where it has one"
        ) from None
    return private.public_key().public_bytes(*PEM)


def fingerprint(public_key: bytes) -> str:
    """How a tag names a key."""
    return hashlib.sha256(public_key).hexdigest()


def sign(key: Path, domain: BaseModel, policy: Policy, texts: dict[str, str], out: Path) -> None:
    """Write a version's signature and its base's manifest into `out`.

    `texts`: name -> content of the files that are made at registration.

    Raises:
        ValueError: the key does not open, is not of an elliptic curve, or model-signing is missing.
    """
    public_key_of(key)
    hashing, signing, _ = _library()
    shutil.copyfile(domain.path / MANIFEST, out / BASE)
    with tempfile.TemporaryDirectory() as staging:
        folder = Path(staging)
        # what a manifest lists, and it: histories and timings of the moment are not signed
        for name in (MANIFEST, *policy.manifest.files):
            _link(policy.path / name, folder / "policy" / name)
        for file in (domain.path / "tokenizer").rglob("*"):
            if file.is_file():
                _link(file, folder / "tokenizer" / file.relative_to(domain.path / "tokenizer"))
        _link(out / BASE, folder / BASE)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        password = os.environ.get(PASSWORD)
        try:
            config = signing.Config().use_elliptic_key_signer(
                private_key=key, password=password.encode() if password else None
            )
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"{key}: model-signing signs by elliptic curves alone ({error}); make one with "
                "`openssl ecparam -name prime256v1 -genkey -noout`"
            ) from None
        linked = hashing.Config().set_allow_symlinks(True)
        config.set_hashing_config(linked).sign(folder, out / SIGNATURE)


def check_signature(client: MlflowClient, version: ModelVersion, public_key: str) -> RuleOutcome:
    """The gate's rule: the version, as the registry's store holds it now, is signed by this key."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            problem = _problem(client, version, public_key, Path(folder))
    except OSError as error:
        problem = f"can't be read ({error.strerror or type(error).__name__})"
    seen = problem or f"is good, by key {fingerprint(_normal(public_key))[:12]}"
    return RuleOutcome(
        rule="signed by the key in promotion.signed_by",
        figure="signature",
        value=None,
        passed=problem is None,
        reason=f"signature of the version {seen}",
    )


def _problem(
    client: MlflowClient, version: ModelVersion, public_key: str, folder: Path
) -> str | None:
    """What is wrong with a version's signature; None where it holds."""
    uri = client.get_model_version_download_uri(version.name, str(version.version))
    listed = {Path(item.path).name for item in mlflow.artifacts.list_artifacts(artifact_uri=uri)}
    if not {SIGNATURE, BASE} <= listed:
        return (
            "is missing: it was registered without POSTTRAIN_SIGNING_KEY; set it and run the "
            "step register again"
        )
    found = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    if problem := _does_not_hold(found, public_key):
        return problem
    base = resolve(client, base_name(version.name), version.tags["base_version"])
    base_uri = client.get_model_version_download_uri(base.name, str(base.version))
    manifest = mlflow.artifacts.download_artifacts(
        artifact_uri=f"{base_uri}/{MANIFEST}", dst_path=str(folder / "base")
    )
    if Path(manifest).read_bytes() != (found / BASE).read_bytes():
        return f"is of another base than {base.name} version {base.version}"
    return None


def _does_not_hold(folder: Path, public_key: str) -> str | None:
    hashing, _, verifying = _library()
    signature = folder / SIGNATURE
    with tempfile.NamedTemporaryFile(suffix=".pub") as pem:
        pem.write(_normal(public_key))
        pem.flush()
        config = (
            verifying.Config().set_hashing_config(hashing.Config()).set_ignore_unsigned_files(True)
        )
        try:
            config.use_elliptic_key_verifier(public_key=Path(pem.name)).verify(folder, signature)
        except InvalidSignature:
            return "was not made by the key in promotion.signed_by"
        except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
            return f"does not hold: {error}"
    try:
        Policy(folder / "policy").verify()  # nothing lies there that was not signed
    except ValueError as error:
        return f"does not hold: {error}"
    return None


def _normal(public_key: str) -> bytes:
    """A key in the one spelling of which the fingerprint is taken."""
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"promotion.signed_by is no public key in PEM: {error}") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError(
            f"promotion.signed_by is a {type(key).__name__}; signatures are by elliptic curves"
        )
    return key.public_bytes(*PEM)


def _link(file: Path, at: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(file.resolve())


def _library() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ValueError(
            "versions are to be signed or their signatures checked, but model-signing is not "
            "installed here; pip install -c constraints.txt 'posttrain[signing]'"
        ) from error
    return hashing, signing, verifying
