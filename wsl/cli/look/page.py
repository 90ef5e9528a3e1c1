"""The page as one file: style, plotting library, data and program, each inlined once.

The data are JSON in a script element that is not run. Nothing is fetched, from anywhere.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
<noscript><p>This page draws its pictures with a script, which is switched off.</p></noscript>
<main id="page"></main>
<script>{plotly}</script>
<script type="application/json" id="data">{data}</script>
<script>
{program}
</script>
</body>
</html>
"""


def page(content: Mapping[str, Any]) -> str:
    """The page that shows ``content``, as `document` gives it."""
    from plotly.offline import get_plotlyjs  # a second, and only this page needs it

    return _PAGE.format(
        title=html.escape(f"{content['title']}: a population"),
        style=_own("look.css"),
        plotly=get_plotlyjs(),
        data=as_script(content),
        program=_own("look.js"),
    )


def as_script(content: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever the names in it are."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _own(name: str) -> str:
    return resources.files("wsl.cli.look").joinpath(name).read_text(encoding="utf-8")
