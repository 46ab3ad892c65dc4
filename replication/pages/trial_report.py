"""The files of a trial's page: its notebook executed, and one HTML file that needs no network."""

import html
import json
from pathlib import Path

from replication.files import write
from replication.running.trial_files import ABOUT

TEMPLATE = Path(__file__).with_name("templates") / "try.ipynb"
STYLE = TEMPLATE.with_suffix(".css")
NOTEBOOK, PAGE = "report.ipynb", "report.html"


def make(folder: Path) -> Path:
    """Execute the notebook on a trial's files, write it and the page that it gives beside them, and return the page.

    RuntimeError where the notebook fails.
    """
    import nbformat
    import papermill
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    try:
        notebook = papermill.execute_notebook(
            str(TEMPLATE),
            None,
            {"folder": str(folder.resolve())},
            kernel_name="python3",
            progress_bar=False,
            cwd=str(folder),
            extra_arguments=[
                "--log-level=CRITICAL"
            ],  # else the kernel tells of its transport, and of its own end as of an error
        )
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"the page could not be made: {error.ename}: {error.evalue}") from error
    write(folder / NOTEBOOK, nbformat.writes(notebook))
    exporter = HTMLExporter(
        template_name="basic",
        config=Config(
            {
                "HTMLExporter": dict.fromkeys(
                    ("exclude_input", "exclude_input_prompt", "exclude_output_prompt", "exclude_anchor_links"), True
                ),
            }
        ),
    )
    content, _ = exporter.from_notebook_node(notebook)
    name = html.escape(Path(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["path"]).name)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Does it help on {name}?</title><style>{STYLE.read_text()}</style></head>"
        f"<body><main>{content}</main></body></html>\n"
    )
    write(folder / PAGE, page)
    return folder / PAGE
