"""Prints the largest deviation of each group at the end of a run."""

from collections.abc import Callable

import pytest

Record = Callable[[str, float, float], None]
LARGEST: dict[str, tuple[float, float, str]] = {}


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Record:
    """check(group, deviation, bound): fails above the bound, and remembers the largest deviation of the group."""

    def record(group: str, value: float, bound: float) -> None:
        if value >= LARGEST.get(group, (-1.0, 0.0, ""))[0]:
            LARGEST[group] = (value, bound, request.node.name)
        assert value <= bound, f"{group}: {value:.3g} above {bound:g}"

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not LARGEST:
        return
    terminalreporter.section("largest deviation from the reference arrays")
    for group, (value, bound, name) in sorted(LARGEST.items()):
        terminalreporter.write_line(f"{group:<44} {value:8.1e}  (bound {bound:.0e})  {name}")
