"""Each report of four deployments, word for word. `golden.py` says how they are written anew."""

from __future__ import annotations

import pytest

from tests.unit.core.reports.cases import CASES
from tests.unit.core.reports.golden import FOLDER, KEPT, files
from tests.unit.core.reports.markdown import read

COMMAND = ".venv/bin/python -m tests.unit.core.reports.golden"


@pytest.mark.parametrize("name", KEPT)
def test_reports_are_as_kept(name: str) -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in (FOLDER / name).iterdir()}
    found = files(CASES[name]())

    assert set(found) == set(kept)
    for path, text in found.items():
        assert text == kept[path], f"{name}/{path} is not as kept: if it should not be, run {COMMAND}"


@pytest.mark.parametrize("name", CASES)
def test_all_of_them_are_strict_markdown(name: str) -> None:
    texts = {path: text for path, text in files(CASES[name]()).items() if path.endswith(".md")}

    assert len(texts) >= 2
    assert all(read(text)[0].level == 1 for text in texts.values())
