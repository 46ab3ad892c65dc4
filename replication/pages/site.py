"""The built site, as a Sphinx extension: how to cite each page, published files beside the pages, icons, buttons, modules."""

import html
import re
import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from urllib.parse import quote

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from replication.pages.repository import address
from replication.results import published
from replication.version import __version__

YEAR = 2026
PAPER = "kocaman2021unreasonable"
"""the replicated paper in `references.bib`"""
BESIDE = ("manifest.json", "claims.json", "rates.json", "verdicts-v1.json")
"""files of `results/` that the site carries with the Parquet files"""
NEEDS_REPOSITORY = ("use_repository_button", "use_issues_button", "use_edit_page_button")


def without_repository(options: dict, repository: str) -> None:
    """Leave out the buttons that lead to the repository where it has no address."""
    if not repository:
        options |= {name: False for name in NEEDS_REPOSITORY} | {"launch_buttons": {}, "repository_url": ""}


def bibtex(page: str, title: str, paper: str) -> str:
    """How to cite a page of the book, and the paper that it replicates."""
    where = f",\n  url = {{{address()}}}" if address() else ""
    own = (
        f"@misc{{finalbnreplication_{page.replace('/', '_')},\n"
        f"  title = {{{title}. In: The Unreasonable Effectiveness of the Final Batch Normalization Layer: a replication}},\n"
        "  author = {{The contributors of the replication}},\n"
        f"  year = {{{YEAR}}},\n  note = {{Version {__version__}, page {page}}}{where}\n}}"
    )
    return f"{own}\n\n{paper}"


def paper_entry(bibliography: str) -> str:
    """The replicated paper's entry of a BibTeX file."""
    found = re.search(rf"@\w+\{{{PAPER},.*?\n\}}", bibliography, re.DOTALL)
    return found[0] if found else ""


def add_citation(app, pagename, templatename, context, doctree) -> None:
    """Put the page's BibTeX into its footer, folded."""
    if doctree is None:
        return
    entry = paper_entry((Path(app.srcdir) / "references.bib").read_text(encoding="utf-8"))
    title = re.sub(r"<[^>]+>", "", context.get("title", pagename))
    text = html.escape(bibtex(pagename, html.unescape(title), entry), quote=False)
    cite = f"<details class='cite'><summary>Cite this page (BibTeX)</summary><pre tabindex='0'>{text}</pre></details>"
    context["theme_extra_footer"] = cite + (context.get("theme_extra_footer") or "")


def icons_css(pages: str, library: str) -> str:
    """A style sheet for the icons that some HTML uses, from the paths in Font Awesome's script."""
    rules = []
    for name in sorted(set(re.findall(r"\bfa-([a-z0-9-]+)", pages))):
        # the library has solid, regular and brand icons of one name: the last is the solid one, which the theme uses
        found = re.findall(rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"', library)
        if found:
            width, height, path = found[-1]
            drawn = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'><path d='{path}'/></svg>"
            rules.append(f'.fa-{name}{{--icon:url("data:image/svg+xml,{quote(drawn, safe=" /:=")}")}}')
    shape = (
        ".fa-solid,.fa-regular,.fas,.far,.fab{display:inline-block;width:1.25em;height:1em;vertical-align:-.125em;"
        "background:currentColor;-webkit-mask:var(--icon) no-repeat center/contain;mask:var(--icon) no-repeat center/contain}"
        ".fa-solid::before,.fa-regular::before,.fas::before,.far::before,.fab::before{content:none!important}"
        ".fa-lg{font-size:1.25em}"
    )
    return "\n".join([shape, *rules]) + "\n"


def without_unused(page: str) -> str:
    """A page's HTML without scripts that it has no use for: the search's index, and MathJax where there is no formula."""
    unused = ["searchindex", "searchtools", "language_data"]
    unused += [] if 'class="math' in page else ["startup"]
    return re.sub(rf'\s*<script[^>]*src="[^"]*(?:{"|".join(unused)})\.js[^"]*"[^>]*></script>', "", page)


def without_wrong_roles(page: str) -> str:
    """A page's HTML in which the bibliography claims no role of a list, whose items its entries are not."""
    return page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def lighten(out: Path) -> None:
    """Take out what pages load and do not use: first the scripts, then Font Awesome's 1.5 MB of icons.

    The icons that the pages use are drawn by a style sheet instead.
    """
    for path in out.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        less = without_wrong_roles(text if path.name == "search.html" else without_unused(text))
        if less != text:
            path.write_text(less, encoding="utf-8")
    script = out / "_static" / "scripts" / "fontawesome.js"
    library = script.read_text(encoding="utf-8")
    if len(library) < 10_000:  # an earlier build's
        return
    used = "".join(path.read_text(encoding="utf-8") for path in out.glob("*.html"))
    used += "".join(path.read_text(encoding="utf-8") for path in (out / "_static" / "scripts").glob("*theme.js"))
    (out / "_static" / "icons.css").write_text(icons_css(used, library), encoding="utf-8")
    script.write_text("// The icons that this book uses are drawn by _static/icons.css.\n", encoding="utf-8")


def carry_results(out: Path) -> None:
    """Copy the published files beside the pages, so that every verdict is two clicks from its raw numbers."""
    where = published.folder()
    for name in (*published.manifest()["files"], *BESIDE):
        if (where / name).is_file():
            (out / "results" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(where / name, out / "results" / name)


def finish(app, error) -> None:
    """What is done once all pages are written."""
    if error is None and app.builder.format == "html":
        carry_results(Path(app.outdir))
        lighten(Path(app.outdir))


def without_second_captions(app, doctree) -> None:
    """Keep a caption with its image: every output of a cell with a figure is wrapped as one, the links below it too."""
    for figure in list(doctree.findall(nodes.figure)):
        if not any(figure.findall(nodes.image)):
            figure.replace_self([n for n in figure.children if not isinstance(n, (nodes.caption, nodes.legend))])


class Room(SphinxDirective):
    """`room`: every module of a folder of the package, documented."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The documentation of the modules in alphabetical order."""
        folder = import_module(self.arguments[0])
        found = [m.name for m in walk_packages(folder.__path__, f"{folder.__name__}.") if not m.ispkg]
        lines = [
            "```{eval-rst}",
            *(line for name in found for line in (f".. automodule:: {name}", "   :members:", "")),
            "```",
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect(
        "config-inited", lambda app, config: without_repository(config.html_theme_options, address()), priority=900
    )
    app.connect("html-page-context", add_citation, priority=900)
    app.connect("doctree-read", without_second_captions)
    app.connect("build-finished", finish)
    app.add_css_file("icons.css")
    app.add_directive("room", Room)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
