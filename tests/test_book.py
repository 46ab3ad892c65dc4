"""The book builds without a warning, and a browser finds its pages, links, figures and search in order."""

import base64
import functools
import gzip
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import urlopen

import pandas as pd
import pytest
import yaml

from replication.pages import opening, repository, site
from replication.run import CONFIRMATORY

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "book").iterdir() if path.suffix in {".md", ".ipynb"})
NOTEBOOKS = [path for path in PAGES if path.suffix == ".ipynb"]
PHONE_WIDTH = 390  # CSS pixels


class Page(HTMLParser):
    """Links, images, element ids and resources of one HTML page."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.images, self.ids, self.resources = set(), [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("href"):
            self.links.add(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        if tag in {"img", "script", "iframe", "source"} and attrs.get("src"):
            self.resources.add(attrs["src"])
        if tag == "link" and attrs.get("href") and attrs.get("rel") != "canonical":
            self.resources.add(attrs["href"])


def contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *(part["file"] for c in chapters for part in (c, *c.get("sections", ())))]


def test_contents_and_pages_agree():
    assert sorted(contents()) == sorted(path.stem for path in PAGES)


@pytest.mark.parametrize("name", ["_toc.yml", "_config.yml"])
def test_book_config_is_the_top_level_one(name):
    assert (ROOT / "book" / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook(path):
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert path.stat().st_size < 500_000
    assert code and all(cell["execution_count"] for cell in code)


def tables_in(path: Path) -> list[pd.DataFrame]:
    """Every table that the outputs of a notebook hand out as CSV."""
    found = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", ()):
            for packed, data in re.findall(
                r"data:(text/csv|application/gzip);base64,([\w+/=]+)",
                "".join(output.get("data", {}).get("text/html", "")),
            ):
                content = base64.b64decode(data)
                found.append(pd.read_csv(io.BytesIO(content if packed == "text/csv" else gzip.decompress(content))))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_csvs_can_be_joined_with_the_published_files(path):
    """A seed is the number of a run's seed, and no name has markup."""
    for table in tables_in(path):
        assert not [c for c in table if re.search(r"<|&\w+;|nth", str(c))] and len(table)
        if "seed" in table:
            seeds = table["seed"]
            pilots = "learning rate" in table or "validation" in " ".join(table)
            assert seeds.ge(CONFIRMATORY).all() or (pilots and seeds.between(0, 9).all()), list(table)


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    """The book, built bare from a copy, so that no cached page can hide a warning."""
    copy = tmp_path_factory.mktemp("clone")
    for name in ["_config.yml", "_toc.yml"]:
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("_build", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "book", copy / "book", symlinks=True, ignore=ignore)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book/", "-W", "--keep-going", "-n"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert done.returncode == 0, "\n".join(warnings) or done.stdout[-3000:] + done.stderr[-3000:]
    return copy / "book" / "_build" / "html"


@pytest.fixture(scope="module")
def pages(html) -> dict[str, Page]:
    """Every page by its address below the book's root."""
    return {path.relative_to(html).as_posix(): Page(path.read_text()) for path in html.rglob("*.html")}


def test_internal_links_and_anchors(html, pages):
    broken = []
    for name, page in pages.items():
        for link in page.links:
            target, fragment = urldefrag(unquote(link))
            if urlsplit(target).scheme or not (target or fragment):
                continue
            file = Path(html, name).parent / target.split("?")[0] if target else Path(html, name)
            known = pages.get(os.path.relpath(file, html))
            if not file.exists() or (fragment and known and fragment not in known.ids):
                broken.append(f"{name}: {link}")
    assert not broken


def test_api_pages_document_every_module_on_its_rooms_page(pages):
    paths = (ROOT / "replication").rglob("[!_]*.py")
    for name in (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths):
        room = f"_{name.split('.')[1]}" if name.count(".") > 1 else ""
        assert f"module-{name}" in pages[f"api{room}.html"].ids


def test_a_caption_stands_under_its_image_alone(html):
    for path in html.glob("*.html"):
        figures = re.findall(r"<figure.*?</figure>", path.read_text(), re.DOTALL)
        assert all("<img" in figure for figure in figures), path.name


def test_every_image_has_alt_text(pages):
    mute = [(name, image) for name, page in pages.items() for image in page.images if not image.get("alt")]
    assert not mute


def test_no_page_refers_to_a_remote_resource(pages):
    remote = [(name, url) for name, page in pages.items() for url in page.resources if urlsplit(url).netloc]
    assert not remote


def test_pages_are_light_and_have_one_title(html, pages):
    heavy = {name: Path(html, name).stat().st_size for name in pages if not name.startswith("_modules")}
    assert not {name: size for name, size in heavy.items() if size >= 1_000_000}


def test_key_results_come_first(html):
    """Claim, verdict, number and data stand before anything else on every claim's page, and the figure next to them."""
    from replication.claims.registry import CLAIMS

    for name in CLAIMS:
        text = (html / f"{name}.html").read_text()
        at = [
            text.index(mark)
            for mark in ("class='key-result'", 'class="verdict', "class='number'", "download=", "<h2>What was found")
        ]
        assert at == sorted(at), name
        assert text.find("<figure") == -1 or text.index("<figure") > at[0], name


def test_every_notebook_can_be_downloaded_and_launched_where_there_is_a_repository(pages):
    there = bool(repository.address())
    for path in NOTEBOOKS:
        links = pages[path.with_suffix(".html").name].links
        assert f"_sources/{path.name}" in links
        for host in ("mybinder.org", "colab.research.google.com"):
            assert any(host in link and path.name in link for link in links) == there


def test_without_a_repository_nothing_leads_to_one(monkeypatch):
    options = {
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": "x"},
        "repository_url": "",
        "other": 1,
    }
    site.without_repository(options, "https://git.example.net/a/b")
    assert options["launch_buttons"] and options["use_repository_button"]
    site.without_repository(options, "")
    assert not options["launch_buttons"] and not options["use_repository_button"] and options["other"] == 1
    monkeypatch.setattr(repository, "address", lambda: "https://git.example.net/a/b")
    assert repository.commit_html("abc+") == '<a href="https://git.example.net/a/b/commit/abc"><code>abc+</code></a>'
    monkeypatch.setattr(repository, "address", lambda: "")
    assert repository.commit_html("abc") == "<code>abc</code>"


def test_pages_load_only_the_scripts_that_they_use():
    index, mathjax = (
        '<script src="../searchindex.js"></script>',
        '\n<script defer="x" src="mathjax/startup.js?v=1"></script>',
    )
    rest = '\n<script src="pages.js"></script>'
    assert site.without_unused(index + mathjax + rest) == rest
    formula = '<span class="math notranslate">x</span>'
    assert site.without_unused(index + mathjax + rest + formula) == mathjax + rest + formula


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("repository:\n  # one\n  url: https://example.org/to-be-set\n", ""),
        ("repository:\n  url: https://git.example.net/a/b/  # here\n", "https://git.example.net/a/b"),
        ('repository:\n  path: x\n  url: "https://git.example.net/a"\n', "https://git.example.net/a"),
        ("html:\n  url: https://git.example.net\n", ""),
    ],
)
def test_the_repositorys_address_is_read_from_the_config(tmp_path, monkeypatch, config, found):
    (tmp_path / "_config.yml").write_text(config)
    monkeypatch.setattr(repository, "root", lambda: tmp_path)
    assert repository.address() == found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_cell_that_gets_the_code(path):
    first = next(c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
    assert "".join(first["source"]) == "".join(opening.cell()["source"]) and not first["outputs"]


def test_every_page_says_how_to_cite_it(html):
    for name in contents():
        text = (html / f"{name}.html").read_text()
        assert f"@misc{{finalbnreplication_{name}," in text and "@inproceedings{kocaman2021unreasonable," in text, name


def test_published_files_lie_beside_the_pages(html, pages):
    """From a verdict to the raw numbers: the box of a claim links the Parquet files and the code, and they are there."""
    from replication.claims.registry import CLAIMS

    for name in CLAIMS:
        links = pages[f"{name}.html"].links
        assert any(link.startswith("results/") and link.endswith(".parquet") for link in links), name
        assert f"_modules/replication/claims/papers/{name}.html" in links, name


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without printing each request."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(html):
    """Where the built book is served on this machine."""
    handler = functools.partial(QuietHandler, directory=html)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that can reach nothing but this machine, and logs what it asks for."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium with chromedriver on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        chrome.set_page_load_timeout(60)
        yield chrome


def wait_for(browser, script: str, seconds: float = 20):
    """The script's value once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds).until(lambda chrome: chrome.execute_script(script), script)


def requested(browser) -> list[str]:
    """Addresses asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def errors(browser) -> list[str]:
    """Console errors since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.browser
def test_index_answers_first(browser, address):
    """At most 200 words before the figure, then every claim with its verdict; the scoreboard's tables sort."""
    browser.get(address)
    before = "[...document.querySelectorAll('.bd-article h1, .bd-article p')].filter(e => e.compareDocumentPosition(figure) & 4)"
    words = wait_for(
        browser,
        f"const figure = document.querySelector('.bd-article figure');return {before}.map(e => e.innerText).join(' ')",
    )
    assert 50 <= len(words.split()) <= 200
    badges = wait_for(
        browser, "return [...document.querySelectorAll('.bd-article table .verdict')].map(badge => badge.innerText)"
    )
    assert len(badges) >= 9 and all(badges)
    browser.get(address + "scoreboard.html")
    sort = "const head = document.querySelectorAll('table.sortable th')[1]; head.click(); return head.getAttribute('aria-sort')"
    assert wait_for(browser, sort) == "ascending"
    assert browser.execute_script(sort) == "descending"
    assert not errors(browser)


@pytest.mark.browser
def test_one_switch_shows_all_code(browser, address):
    browser.get(address + "base.html")
    shown = (
        "return [...document.querySelectorAll('div.cell details.above-input')].filter(d => d.checkVisibility()).length"
    )
    assert browser.execute_script(shown) == 0
    wait_for(browser, "return document.querySelector('.code-switch')")
    browser.find_element("css selector", ".code-switch").click()
    assert browser.execute_script(shown) > 3
    assert len(browser.find_elements("css selector", ".code-switch")) == 1


@pytest.mark.browser
def test_first_screen_of_a_claim_holds_its_result(browser, address):
    from replication.claims.registry import CLAIMS

    size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in CLAIMS:
            browser.get(f"{address}{name}.html")
            low = "return ['.verdict', '.number', '.key-result a[download]'].map(s => document.querySelector(s)?.getBoundingClientRect().bottom)"  # noqa: E501
            assert all(at and at <= 900 for at in browser.execute_script(low)), name
            top = browser.execute_script(
                "return document.querySelector('.bd-article figure')?.getBoundingClientRect().top"
            )
            assert top is None or top <= 800, name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_every_page_reads_offline(browser, address):
    """Every link inside the book: status 200, images and formulas shown, no console error, nothing remote."""
    requested(browser), errors(browser)
    waiting, seen = [address + "index.html"], set()
    while waiting:
        url = waiting.pop()
        seen.add(url)
        with urlopen(url) as answer:
            assert answer.status == 200
        if not urlsplit(url).path.endswith(".html"):
            continue
        browser.get(url)
        wait_for(browser, "return [...document.images].every(i => i.complete)")
        broken = browser.execute_script(
            "return [...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.outerHTML)"
        )
        assert not broken, url
        if browser.execute_script("return document.querySelector('.math') !== null"):
            wait_for(browser, "return document.querySelector('.math mjx-container') !== null")
            assert not browser.execute_script("return document.querySelector('mjx-merror')?.outerHTML"), url
        assert not errors(browser), url
        links = browser.execute_script("return [...document.querySelectorAll('a[href]')].map(a => a.href)")
        inside = {urldefrag(link).url.split("?")[0] for link in links if link.startswith(address)}
        waiting += [link for link in inside if link not in seen and link not in waiting and link != address]
    assert {urljoin(address, f"{name}.html") for name in contents()} <= seen
    assert not [url for url in requested(browser) if not url.startswith((address, "data:", "blob:"))]


@pytest.mark.browser
def test_search_finds_a_page(browser, address):
    browser.get(address + "search.html?q=normalization")
    hit = wait_for(browser, "return document.querySelector('#search-results li a')?.href")
    browser.get(hit)
    assert "normalization" in browser.find_element("css selector", ".bd-article").text.lower()
    assert not errors(browser)


@pytest.mark.browser
def test_pages_fit_a_phone(browser, address):
    size = {"width": PHONE_WIDTH, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in contents():
            browser.get(f"{address}{name}.html")
            width = browser.execute_script("return document.scrollingElement.scrollWidth")
            assert width <= PHONE_WIDTH, name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


WEIGHT = """
const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
return entries.reduce((sum, entry) => sum + entry.decodedBodySize, 0);
"""
"""bytes of a page with everything that it loads"""


@pytest.mark.browser
def test_first_load_is_light(browser, address):
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        for name in ("index", "base"):
            browser.get(f"{address}{name}.html")
            wait_for(browser, "return document.readyState === 'complete'")
            assert 200_000 < browser.execute_script(WEIGHT) < 1_200_000, name
    finally:
        browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})


@pytest.mark.browser
def test_every_icon_is_drawn(browser, address):
    browser.get(address)
    undrawn = """return [...document.querySelectorAll('.fa-solid, .fas, .fab')]
        .filter(icon => !getComputedStyle(icon).getPropertyValue('--icon')).map(icon => icon.className)"""
    assert browser.execute_script(undrawn) == []
    assert browser.execute_script("return document.querySelectorAll('.fa-solid, .fas, .fab').length") > 5


AXE = Path(importlib.util.find_spec("axe_playwright_python").origin).with_name("axe.min.js")
THEIRS = {"definition-list"}
"""rules that the pages of the API break by what Sphinx makes of a docstring's fields"""
AUDIT = """
const done = arguments[0];
axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes[0].html.slice(0, 150)} (${v.nodes.length})`)));
"""
FORMS = [(1400, "light"), (PHONE_WIDTH, "dark"), (1400, "dark"), (PHONE_WIDTH, "light")]
WEEKLY = bool(os.environ.get("REPLICATION_WEEKLY"))
"""whether to look at every page in every form, which takes half an hour"""


@pytest.mark.browser
@pytest.mark.parametrize(("width", "mode"), FORMS if WEEKLY else FORMS[:2])
def test_no_serious_barrier(browser, address, width, mode):
    """axe finds nothing serious or critical: a sample of pages, or all of them weekly."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE_WIDTH}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    # a colour that is still changing has no contrast of its own
    calm = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", calm)
    browser.set_script_timeout(300)
    barriers = {}
    try:
        for name in contents() if WEEKLY else ("index", "removal", "glossary", "references"):
            browser.get(f"{address}{name}.html")
            browser.execute_script(f"document.documentElement.dataset.theme = '{mode}'")
            browser.execute_script(AXE.read_text())
            found = browser.execute_async_script(AUDIT)
            barriers[name] = [text for text in found if text.partition(":")[0] not in THEIRS]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert {name: found for name, found in barriers.items() if found} == {}


@pytest.mark.browser
def test_print_loses_no_column(browser, address):
    """On paper every table is as wide as the page or narrower: nothing of it is cut off."""
    cut = """
    const wide = document.querySelector('.bd-article').getBoundingClientRect().right + 2;
    document.querySelectorAll('details').forEach(d => { d.open = true; });
    return [...document.querySelectorAll('.bd-article table')].filter(t => t.getBoundingClientRect().right > wide)
        .map(t => t.caption?.innerText || t.innerText.slice(0, 60));
    """
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size = {"width": 720, "height": 1040, "deviceScaleFactor": 1, "mobile": False}  # A4 with margins at 96 dots an inch
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in contents() if WEEKLY else ("index", "base", "scoreboard", "law"):
            browser.get(f"{address}{name}.html")
            assert browser.execute_script(cut) == [], name
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_the_keyboards_place_is_seen(browser, address):
    """Tab walks from control to control, each of them with an outline."""
    from selenium.webdriver.common.keys import Keys

    browser.get(address + "base.html")
    browser.execute_script("document.body.tabIndex = -1; document.body.focus()")
    bare = []
    for _ in range(30):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        style = browser.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.outerHTML.slice(0, 120), s.outlineStyle, s.boxShadow]"
        )
        if style[1] == "none" and style[2] == "none":
            bare.append(style[0])
    assert not bare


@pytest.mark.browser
def test_search_finds_the_glossary(browser, address):
    browser.get(address + "search.html?q=glossary")
    hits = "[...document.querySelectorAll('#search-results li a')]"
    assert wait_for(browser, f"return {hits}.some(a => a.href.includes('glossary.html'))")


CONTRAST = """
document.documentElement.dataset.theme = arguments[0];
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
const bad = [];
for (const e of document.querySelectorAll('.output.text_html *, .output.text_markdown *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 30)}`);
}
return bad;
"""
"""text of computed outputs whose contrast with the ground behind it is below 4.5:1, in the mode given"""


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_computed_text_is_legible_in_both_modes(browser, address, mode):
    for path in NOTEBOOKS:
        browser.get(f"{address}{path.stem}.html")
        assert browser.execute_script(CONTRAST, mode) == [], path.stem


@pytest.mark.browser
def test_dark_mode(browser, address):
    browser.get(address)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light, dark = [
        browser.execute_script(f"document.documentElement.dataset.theme = '{mode}'; {ground}")
        for mode in ["light", "dark"]
    ]
    assert light != dark
