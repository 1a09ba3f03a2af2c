"""One lakehouse of each data set for the session, which one fault after the other befalls."""

from collections.abc import Callable, Iterator

import pytest
from faults.rehearsal import Rehearsal
from faults.subjects import SUBJECTS


@pytest.fixture(scope="session")
def rehearsals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Rehearsal]]:
    made: dict[str, Rehearsal] = {}

    def of(name: str) -> Rehearsal:
        if name not in made:
            made[name] = Rehearsal(SUBJECTS[name], tmp_path_factory.mktemp(f"rehearsal-{name}"))
            made[name].prepare()
        return made[name]

    yield of
    for rehearsal in made.values():
        rehearsal.end()


@pytest.fixture
def rehearsal(
    rehearsals: Callable[[str], Rehearsal], dataset: str, request: pytest.FixtureRequest
) -> Rehearsal:
    """That of the test's parameter `dataset`."""
    found = rehearsals(dataset)
    found.properties = request.node.user_properties
    return found
