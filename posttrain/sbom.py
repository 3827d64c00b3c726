"""A bill of materials in CycloneDX's JSON: of an environment, of an image, of a registered version.

A version's names the model, the packages that were installed where it was measured (the image that
trained it), its base, and the files of its data by their hashes.
"""

from collections.abc import Iterable, Mapping

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from posttrain.installed import UNKNOWN
from posttrain.recipe.section import Section
from posttrain.reports import Evaluation, Package

FILE = "sbom.cdx.json"


class Installed(Section):
    """What `posttrain/installed.py` says of an environment or an image."""

    python: dict[str, Package]
    debian: dict[str, str]
    """Name -> version of the system's packages."""


def of_packages(
    name: str,
    version: str,
    packages: Mapping[str, Package],
    debian: Mapping[str, str],
    kind: ComponentType = ComponentType.APPLICATION,
) -> str:
    """The bill of an environment, or of an image with its system's packages."""
    parts = [_package(one, package) for one, package in packages.items()]
    parts += [_debian(one, release) for one, release in debian.items()]
    return _written(Component(name=name, version=version, type=kind, bom_ref=name), parts)


def of_version(name: str, content_hash: str, evaluation: Evaluation) -> str:
    """The bill of a registered version: model, base, data, packages."""
    model = Component(
        name=name,
        version=content_hash,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{name}",
        hashes=[_sha256(content_hash)],
    )
    parts = [_package(one, package) for one, package in evaluation.packages.items()]
    return _written(model, [*parts, *_base(evaluation), *_data(evaluation)])


def _package(name: str, package: Package) -> Component:
    made_for = LicenseFactory().make_from_string
    return Component(
        name=name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"python:{name}",
        purl=PackageURL("pypi", None, name, package.version),
        licenses=[made_for(package.licence)] if package.licence != UNKNOWN else [],
    )


def _debian(name: str, version: str) -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"debian:{name}",
        purl=PackageURL("deb", "debian", name, version),
    )


def _base(evaluation: Evaluation) -> list[Component]:
    if evaluation.base is None:
        return []
    return [
        Component(
            name=evaluation.base.source,
            version=evaluation.base.revision,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref="base",
            properties=[Property(name="posttrain:kind", value=evaluation.base.kind)],
        )
    ]


def _data(evaluation: Evaluation) -> list[Component]:
    """A component a role; the rows by their hash, the source's files within it by theirs."""
    found = []
    for role, rows in evaluation.data_hashes.items():
        data = evaluation.data.get(role)
        files = data.files if data is not None else {}
        found.append(
            Component(
                name=role,
                version=data.revision if data is not None else None,
                type=ComponentType.DATA,
                bom_ref=f"data:{role}",
                description=data.source if data is not None else None,
                hashes=[_sha256(rows)],
                components=[
                    Component(
                        name=file,
                        type=ComponentType.FILE,
                        bom_ref=f"data:{role}:{file}",
                        hashes=[_sha256(digest)],
                    )
                    for file, digest in files.items()
                ],
            )
        )
    return found


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _written(of: Component, parts: Iterable[Component]) -> str:
    bom = Bom(components=parts)
    bom.metadata.component = of
    bom.register_dependency(of, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=1)) + "\n"
