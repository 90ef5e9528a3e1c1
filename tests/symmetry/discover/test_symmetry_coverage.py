"""`scripts/symmetry_coverage.py` discovers and proves a handful of networks, and its table tells
what happened.
"""

import importlib
import importlib.util
import json
import subprocess
import sys

import pytest
from paths import SCRIPTS


def run(tmp_path, suite, *names):
    if importlib.util.find_spec(suite) is None:
        pytest.skip(f"{suite} is not installed")
    suite = {"torch_geometric": "geometric"}.get(suite, suite)
    results, table = tmp_path / "rows.jsonl", tmp_path / "table.md"
    command = [
        SCRIPTS / "symmetry_coverage.py",
        suite,
        "--results",
        results,
        "--table",
        table,
        "--only",
        *names,
    ]
    subprocess.run(
        [sys.executable, *map(str, command)],
        check=True,
        env={"PYTHONPATH": str(SCRIPTS.parent), "PATH": ""},
    )
    return {
        row["name"]: row for row in map(json.loads, results.read_text().splitlines())
    }, table.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "network", "groups"),
    [
        ("torchvision", "resnet18", 12),
        ("torchvision", "mobilenet_v3_small", 27),
        ("torchvision", "shufflenet_v2_x0_5", 30),
        ("torchvision", "segmentation/lraspp_mobilenet_v3_large", 30),
        ("timm", "mobilenetv3/lcnet_035", 17),
        ("timm", "coat/coat_tiny", 32),
        ("transformers", "BertForMaskedLM", 13),
        ("transformers", "LlamaForCausalLM", 13),
        ("transformers", "MixtralForCausalLM", 13),
        ("torch_geometric", "GATConv", 4),
    ],
)
def test_a_network_is_discovered_and_proved_and_the_proof_could_have_failed(
    tmp_path, suite, network, groups
):
    rows, table = run(tmp_path, suite, network)
    assert rows[network]["groups"] == groups
    assert rows[network]["movable"] > 0.99
    assert max(rows[network]["differences"]) < 1e-9 < 1e-3 < max(rows[network]["control"].values())
    assert f"| `{network}` |" in table
    assert "### Missed" not in table


def table_of(rows, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("coverage_table").page(rows, tolerance=1e-9)


ROW = {
    "suite": "s",
    "name": "net",
    "parameters": 10**6,
    "groups": 3,
    "log10_order": 12.3,
    "movable": 0.5,
    "differences": [1e-15],
    "control": {"a.weight": 0.1},
    "seconds": 1.0,
    "pinned": {"input": 500_000},
    "packages": {"torch": "2"},
}


def test_the_table_lists_misses_with_their_reasons(monkeypatch):
    broken = {**ROW, "name": "broken", "differences": [0.3, 1e-12]}
    failed = {"suite": "s", "name": "failed", "error": "no result in 3 s"}
    page = table_of([ROW, broken, failed], monkeypatch)
    assert "| s | 3 | 2 | 1 | 50.0% | 50.0% |" in page
    assert "- `broken`: the function changes" in page
    assert "- `failed`: no result in 3 s" in page
    assert "fixed: input (50%)" in page


def test_sections_without_rows_stay_and_others_are_new(monkeypatch):
    first = table_of([ROW, {**ROW, "suite": "other", "name": "old"}], monkeypatch)
    table = importlib.import_module("coverage_table")
    page = table.page([{**ROW, "movable": 0.25, "used": 0.95}], tolerance=1e-9, before=first)
    assert page.count("## other") == page.count("| other | 1 |") == page.count("`old`") == 1
    assert page.count("## s\n") == page.count("| s | 1 |") == 1
    assert "25.0% (95.0%)" in page
    again = table.page([{**ROW, "movable": 0.25, "used": 0.95}], tolerance=1e-9, before=page)
    assert again == page


def test_rounding_that_one_draw_amplifies_is_told_and_no_miss(monkeypatch):
    page = table_of([{**ROW, "differences": [7e-8, 4e-15]}], monkeypatch)
    assert "draws 7e-08, 4e-15" in page
    assert "### Missed" not in page
