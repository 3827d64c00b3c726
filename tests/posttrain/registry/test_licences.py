import pytest

from posttrain.registry.licences import hub_licence


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("ODbL-1.0", {"license": "odbl"}),
        ("gemma", {"license": "gemma"}),
        ("unknown", {"license": "unknown"}),
        ("MIT-0", {"license": "other", "license_name": "mit-0"}),
        ("The Museum Licence", {"license": "other", "license_name": "the-museum-licence"}),
    ],
)
def test_a_licence_becomes_the_hubs(licence: str, fields: dict[str, str]) -> None:
    assert hub_licence(licence) == fields
