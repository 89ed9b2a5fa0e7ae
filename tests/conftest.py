"""Settings that all tests share."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: on two shared cores the same example takes 20 or 300 ms. Derandomised: a run of CI is repeatable.
settings.register_profile("addnorm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("addnorm")


def pytest_collection_finish() -> None:
    """Leave what is imported by now to the end: to look through all of it again and again is a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def untimed_guards() -> Iterator[None]:
    """What torch compiles is the same; after each graph it would empty the caches to time its guards, 0.03 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *_: 0.0)
        yield
