"""What stands beside the code: workflows, issue forms, the changelog, what the package says of
itself.
"""

import re
import tomllib

import pytest
import yaml
from paths import ROOT, SCRIPTS

import wsl

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Of changes, as https://keepachangelog.com names them."""


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_there_are_workflows_for_tests_pages_and_releases():
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "test"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_is_there(workflow):
    makefile = (ROOT / "Makefile").read_text()
    for command in [step["run"] for step in steps(workflow) if "run" in step]:
        words = command.split()
        if words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            assert targets
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        for script in re.findall(r"scripts/\w+\.py", command):
            assert (ROOT / script).exists()


def test_the_pages_that_are_published_are_those_that_are_built():
    docs = ROOT / ".github" / "workflows" / "docs.yml"
    (published,) = [
        step["with"]["path"]
        for step in steps(docs)
        if step.get("uses", "").startswith("actions/upload-pages-artifact@")
    ]
    assert re.search(rf"^site_dir: {published}$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)


def test_the_pythons_that_are_tested_are_those_that_are_promised():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    promised = [
        found[1]
        for line in project()["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert tested == promised
    assert project()["requires-python"] == f">={tested[0]}"
    versions = re.search(r"^VERSIONS = \((.*)\)$", (SCRIPTS / "matrix.py").read_text(), re.M)[1]
    assert [word.strip('" ') for word in versions.split(",")] == tested


def test_who_reports_a_problem_is_asked_for_wsl_env():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml").read_text())
    (asked,) = [part for part in form["body"] if "wsl env" in part["attributes"]["label"]]
    assert asked["validations"] == {"required": True}


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project()["version"] == wsl.__version__ == str(citation["version"])


def test_the_changelog_has_the_form_that_tools_read():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]" or f"[{wsl.__version__}]" in releases[0]
    form = r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
    assert all(re.fullmatch(form, line) for line in releases if line != "## [Unreleased]")
    kinds = [line for line in lines if line.startswith("### ")]
    assert kinds
    assert {line.removeprefix("### ") for line in kinds} <= {*KINDS}
    first = next(i for i, line in enumerate(lines) if line.startswith("- "))
    assert lines.index(kinds[0]) < first
