"""The report in a real browser: nothing logged, nothing fetched, the verdict within the frame."""

import html
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from PIL import Image

from posttrain.evaluate.report import render
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.gate import judge
from tests import samples

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
]
FRAME = 384
"""Height of the dashboard's preview, in px."""

pytestmark = pytest.mark.slow
if CHROMIUM is None:
    warnings.warn(
        "NO CHROMIUM: the report is not looked at; apt-get install chromium", stacklevel=1
    )
    pytestmark = [
        pytest.mark.slow,
        pytest.mark.skip(reason="NO CHROMIUM: apt-get install chromium"),
    ]


@pytest.fixture(scope="module")
def page() -> str:
    evaluation = samples.evaluation(last="self_critique")
    gate = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),))
    outcomes = judge(evaluation, None, gate)
    histories = samples.histories("self_critique")
    return render(evaluation, histories, outcomes, samples.DATA, samples.LINEAGE)


def chromium(folder: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page; whatever is asked of the network fails, and says so in the log."""
    file = folder / "page.html"
    file.write_text(content, encoding="utf-8")
    return subprocess.run(
        [
            str(CHROMIUM),
            *QUIET,
            f"--user-data-dir={folder / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--log-net-log={folder / 'net.json'}",
            *options,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def shot(folder: Path, content: str, width: int, height: int, *options: str) -> Image.Image:
    file = folder / "page.png"
    size = f"--window-size={width},{height}"
    chromium(folder, content, size, f"--screenshot={file}", *options)
    return Image.open(file).convert("RGB")


def framed(content: str, width: int, height: int) -> str:
    """As the dashboard shows it: a sandboxed frame; also the way to a phone's width."""
    return (
        f'<body style="margin:0"><iframe sandbox="" style="border:0;display:block;width:{width}px;'
        f'height:{height}px" srcdoc="{html.escape(content, quote=True)}"></iframe>'
    )


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_console_stays_silent_and_nothing_is_fetched(page: str, tmp_path: Path) -> None:
    done = chromium(tmp_path, page, "--dump-dom")
    assert "Meets its limit" in done.stdout
    assert console(done) == []
    assert "URL_REQUEST_START_JOB" in (tmp_path / "net.json").read_text()  # the log is a real one
    assert requests(tmp_path / "net.json") == []


def test_a_page_that_fetches_would_be_seen(tmp_path: Path) -> None:
    noisy = "<script>console.error('loud')</script><img src='http://example.com/x.png'>"
    done = chromium(tmp_path, noisy, "--dump-dom")
    assert len(console(done)) >= 1
    assert requests(tmp_path / "net.json") != []


def requests(net_log: Path) -> list[str]:
    """Addresses that the page asked for, by Chromium's own network log."""
    text = net_log.read_text().rstrip().removesuffix(",")
    log = json.loads(text if text.endswith("}") else text + "]}")
    asked = [event["params"] for event in log["events"] if "initiator" in event.get("params", {})]
    by_page = [one for one in asked if one["initiator"] != "not an origin"]  # Chromium's own
    return sorted(one["url"] for one in by_page if one["url"].startswith(("http", "ws")))


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_light_and_dark(page: str, tmp_path: Path, dark: bool) -> None:
    scheme = "--blink-settings=preferredColorScheme=0" if dark else "--lang=en"
    image = shot(tmp_path, page, 1280, 800, scheme)
    assert image.getpixel((4, 4)) == ((19, 21, 24) if dark else (255, 255, 255))


def test_the_verdict_stands_within_the_dashboards_frame(page: str, tmp_path: Path) -> None:
    image = shot(tmp_path, framed(page, 700, FRAME), 700, FRAME)
    green = (28, 113, 72)
    rows = [
        y for y in range(FRAME) if any(image.getpixel((x, y)) == green for x in range(0, 700, 2))
    ]
    assert rows, "the verdict's colour is not in the frame"
    assert rows[0] < 100


def test_a_phone_does_not_scroll_sideways(page: str, tmp_path: Path) -> None:
    probe = (
        "<style>iframe{border:0}</style>"
        f'<iframe id="f" style="width:390px;height:800px" srcdoc="{html.escape(page, quote=True)}">'
        "</iframe><pre id='o'></pre><script>f.onload=()=>{"
        "const d=f.contentDocument.documentElement;"
        "o.textContent=`width ${d.scrollWidth} of ${d.clientWidth}`}</script>"
    )
    assert "width 390 of 390" in chromium(tmp_path, probe, "--dump-dom").stdout
