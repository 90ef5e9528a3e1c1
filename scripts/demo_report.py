"""The demo's page: figures embedded, numbers in tables, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #222 }
body { padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top }
td + td { font-variant-numeric: tabular-nums }
img { max-width: 100%; max-height: 26rem } figure { margin: 1rem 0; display: inline-block }
figcaption, small { color: #666 }
"""

PATHS = (
    "Straight line between two independently trained networks, before and after weight matching."
)
SECTIONS = [
    (
        "Populations",
        "Checkpoints of many small networks, trained as stacked members on scikit-learn's 8x8 "
        "digits.",
        "zoos",
        [],
    ),
    (
        "Neural functionals",
        "Networks that read weights. Test members were never seen in training or selection: the "
        "accuracy of unseen CNNs is "
        "predicted (Kendall's tau, R2), the digit of unseen implicit representations recognised "
        "(accuracy). One seed each.",
        "functionals",
        [
            (
                "cnn-unf/predictions.png",
                "UNF: predicted against true test accuracy of unseen CNN checkpoints",
            ),
            ("cnn-statnet/predictions.png", "StatNet on the same checkpoints"),
        ],
    ),
    (
        "Alignment: MLPs",
        PATHS,
        "paths.mlp",
        [("mlp-path/path.png", "MLPs: test loss and accuracy along the line")],
    ),
    (
        "Alignment: CNNs with batch norm",
        PATHS + " Batch-norm statistics are recomputed on training data at every point.",
        "paths.cnn_bn",
        [("cnn_bn-path/path.png", "CNNs with batch norm: test loss and accuracy along the line")],
    ),
    (
        "Merged networks",
        "The midpoint after matching, scored on the test images beside its parents A and B.",
        "merged",
        [],
    ),
    (
        "Generated weights",
        "Networks drawn by flow matching of aligned perceptrons, with a term through the task's "
        "loss; scores are means over all draws, none selected. Distances are to the nearest "
        "training member after alignment. Good and new: the share of draws that are as good as "
        "members and further from every member than members are from each other.",
        "generated",
        [
            (
                "generated/generated.png",
                "Accuracy of drawn and fine-tuned networks, and of the baselines",
            )
        ],
    ),
    (
        "Weights for a task told by examples",
        "A hyper-network trained through the loss of fresh tasks is told 20 labelled images of "
        "each of five digits and answers with weights. Tasks are held out: sets of digits, angles, "
        "a digit never seen. Accuracy before any step of training, beside starts that look up or "
        "average members, the same generator told of another task, and floors that generate "
        "nothing. The page told/report.html has every arm.",
        "told",
        [],
    ),
]


def write_report(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``report.html`` from the summary and the figures in ``folder``."""
    body = "".join(_section(folder, summary, *section) for section in SECTIONS)
    cost = f"{summary['wall_seconds']} s of wall time, "
    cost += f"peak memory of one process {summary['peak_memory_gb']} GB."
    page = "<!doctype html><html lang='en'><meta charset='utf-8'>"
    page += f"<title>wsl: demo</title><style>{STYLE}</style>"
    page += (
        f"<h1>wsl: weight-space learning on real digits</h1>{body}<small>{cost}</small></html>\n"
    )
    (folder / "report.html").write_text(page)


def _section(
    folder: Path,
    summary: dict[str, Any],
    title: str,
    text: str,
    key: str,
    figures: list[tuple[str, str]],
) -> str:
    value: Any = summary
    for part in key.split("."):
        value = value[part]
    return f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{_table(value)}" + "".join(
        _figure(folder, *f) for f in figures
    )


def _table(value: dict[str, Any]) -> str:
    if not any(isinstance(row, dict) for row in value.values()):
        return (
            "<table>"
            + "".join(
                f"<tr><td>{_words(k)}</td><td>{_number(v)}</td></tr>" for k, v in value.items()
            )
            + "</table>"
        )
    columns = list(dict.fromkeys(column for row in value.values() for column in row))
    head = "<tr><th></th>" + "".join(f"<th>{_words(column)}</th>" for column in columns) + "</tr>"
    lines = "".join(
        f"<tr><td>{_words(name)}</td>"
        + "".join(f"<td>{_number(row.get(column, ''))}</td>" for column in columns)
        + "</tr>"
        for name, row in value.items()
    )
    return f"<table>{head}{lines}</table>"


def _figure(folder: Path, name: str, caption: str) -> str:
    data = base64.b64encode((folder / name).read_bytes()).decode()
    caption = html.escape(caption)
    image = f"<img alt='{caption}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _words(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
