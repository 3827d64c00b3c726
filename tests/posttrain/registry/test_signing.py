"""What is not signed by the recipe's key, or changed after it, is no champion."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.artifacts import BaseModel
from posttrain.decisions import Promotion, RegisteredVersion
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.by_hand import judge_again
from posttrain.registry.promote import promote
from posttrain.registry.register import register
from posttrain.registry.signing import PASSWORD, SIGNATURE, public_key_of
from posttrain.reports import Evaluation
from tests import samples
from tests.faults import Injected, times

RECIPE = RegistrationRecipe(model_name="museum")


def private_key(
    file: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b""
) -> Path:
    sealed = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    file.write_bytes(pem)
    return file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return private_key(tmp_path / "signing.pem", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def base(registry: MlflowClient, tmp_path: Path) -> BaseModel:
    return samples.base_model(tmp_path / "base")


def signed(base: BaseModel, key: Path | None) -> tuple[RegisteredVersion, Evaluation]:
    folder = base.path.parent / "policy"
    policy = samples.Policy(folder) if folder.exists() else samples.policy(folder, base)
    evaluation = samples.evaluation(policy.content_hash())
    return register(base, policy, evaluation, RECIPE, {}, key), evaluation


def gate(key: Path) -> PromotionRecipe:
    limit = Limit(figure="fact_accuracy.A", at_least=0.5)
    return PromotionRecipe(limits=(limit,), signed_by=public_key_of(key).decode())


def stored(registry: MlflowClient) -> ModelVersion:
    return registry.get_model_version("museum", "1")


def refusal(promotion: Promotion) -> str:
    assert not promotion.promoted
    (reason,) = promotion.reasons
    return reason


def test_a_good_signature_lets_it_pass(registry: MlflowClient, base: BaseModel, key: Path) -> None:
    promotion = promote(*signed(base, key), gate(key))
    assert promotion.promoted
    assert promotion.reasons[-1].startswith("signature of the version is good, by key ")
    assert len(stored(registry).tags["signed_by"]) == 64
    assert all(outcome.passed for outcome in judge_again(registry, "museum", "1").outcomes)


@pytest.mark.fault("Servers", "a version that nobody signed", "registered without a key")
def test_a_missing_signature_is_refused(base: BaseModel, key: Path, injected: Injected) -> None:
    assert "signature of the version is missing" in refusal(promote(*signed(base, None), gate(key)))
    injected.add()


@pytest.mark.fault("Servers", "a version that another key signed", "its own key at registration")
def test_another_key_is_refused(
    base: BaseModel, key: Path, tmp_path: Path, injected: Injected
) -> None:
    other = private_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP384R1()))
    assert "does not match" in refusal(promote(*signed(base, other), gate(key)))
    injected.add()


@pytest.mark.fault("Servers", "a version that another key signed", "and the right key's name in it")
def test_another_key_under_the_right_name_is_refused(
    registry: MlflowClient, base: BaseModel, key: Path, tmp_path: Path, injected: Injected
) -> None:
    """The forger writes the key's fingerprint beside a signature of their own."""
    version, evaluation = signed(base, key)
    file = Path(stored(registry).source, SIGNATURE)
    good = file.read_text("utf-8")
    other = private_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1()))
    signed(base, other)
    forged = file.read_text("utf-8")
    file.write_text(forged.replace(hint(forged), hint(good)), "utf-8")
    told = refusal(promote(version, evaluation, gate(key)))
    assert "was not made by the key" in told
    injected.add()


def hint(bundle: str) -> str:
    return bundle.partition('"hint":')[2].partition('"')[2].partition('"')[0]


@pytest.mark.fault("Servers", "a signed version changed in the store", "a byte flipped in a file")
def test_what_changed_after_signing_is_refused(
    registry: MlflowClient, base: BaseModel, key: Path, injected: Injected
) -> None:
    version, evaluation = signed(base, key)
    folder = Path(stored(registry).source)
    files = [file for file in sorted(folder.rglob("*")) if is_signed(file)]
    assert {"evaluation.json", "sbom.cdx.json", "model.sig", "base.json", "manifest.json"} <= {
        file.name for file in files
    }
    for round_ in range(times(quick=1, few=3, full=25)):
        for file in files:
            good = file.read_bytes()
            at = len(good) * (round_ + 1) // 27
            file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            lost = passes(registry, key)
            injected.add(lost=lost)
            file.write_bytes(good)
            assert not lost, f"{file}: byte {at} flipped, and the signature is good"
    assert promote(version, evaluation, gate(key)).promoted


def passes(registry: MlflowClient, key: Path) -> bool:
    """Whether the gate lets the version pass; without an evaluation it has nothing to judge."""
    try:
        return not judge_again(registry, "museum", "1", gate(key)).failed
    except ValueError as error:
        assert "the registry holds no evaluation of it that can be read" in str(error)
        return False


def is_signed(file: Path) -> bool:
    return file.is_file() and file.name not in ("README.md", "history.jsonl")


@pytest.mark.fault("Servers", "a signed version changed in the store", "a file put beside the rest")
def test_a_file_that_was_added_is_refused(
    registry: MlflowClient, base: BaseModel, key: Path, injected: Injected
) -> None:
    version, evaluation = signed(base, key)
    Path(stored(registry).source, "policy", "adapter", "extra.py").write_text("pass", "utf-8")
    assert "extra.py" in refusal(promote(version, evaluation, gate(key)))
    injected.add()


@pytest.mark.fault("Servers", "a signed version changed in the store", "its base exchanged")
def test_another_base_is_refused(
    registry: MlflowClient, base: BaseModel, key: Path, injected: Injected
) -> None:
    version, evaluation = signed(base, key)
    manifest = Path(registry.get_model_version("museum-base", "1").source, "manifest.json")
    manifest.write_text(manifest.read_text("utf-8").replace("base", "bass"), "utf-8")
    assert "another base than museum-base" in refusal(promote(version, evaluation, gate(key)))
    injected.add()


def test_a_version_is_signed_later(registry: MlflowClient, base: BaseModel, key: Path) -> None:
    signed(base, None)
    version, evaluation = signed(base, key)
    assert not version.is_new
    assert promote(version, evaluation, gate(key)).promoted


def test_a_key_with_a_password(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ec.generate_private_key(ec.SECP256R1())
    key = private_key(tmp_path / "sealed.pem", made, b"a-password")
    with pytest.raises(ValueError, match=r"sealed\.pem, which does not open"):
        signed(base, key)
    monkeypatch.setenv(PASSWORD, "a-password")
    assert promote(*signed(base, key), gate(key)).promoted


def test_a_key_that_is_none_ends_it_before_anything_is_written(
    registry: MlflowClient, base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"POSTTRAIN_SIGNING_KEY names .*absent\.pem"):
        signed(base, tmp_path / "absent.pem")
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(ValueError, match=r"elliptic curves alone"):
        signed(base, private_key(tmp_path / "rsa.pem", made))
    assert not registry.search_model_versions("name='museum'")


def test_a_recipes_key_is_a_public_one(base: BaseModel, key: Path) -> None:
    with pytest.raises(ValueError, match=r"signed_by"):
        PromotionRecipe(limits=gate(key).limits, signed_by=key.read_text("utf-8"))
    broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    recipe = PromotionRecipe(limits=gate(key).limits, signed_by=broken)
    with pytest.raises(ValueError, match=r"promotion\.signed_by is no public key in PEM"):
        promote(*signed(base, key), recipe)


def test_the_signature_survives_another_place(
    registry: MlflowClient, base: BaseModel, key: Path, tmp_path: Path
) -> None:
    """It is of contents: where the store lies is no part of it."""
    signed(base, key)
    entry = stored(registry)
    shutil.copytree(Path(entry.source), tmp_path / "elsewhere")
    shutil.rmtree(Path(entry.source))
    shutil.copytree(tmp_path / "elsewhere", Path(entry.source))
    assert not judge_again(registry, "museum", "1", gate(key)).failed
