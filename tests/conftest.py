"""Settings that all tests share."""

import gc

from hypothesis import settings

# No deadline: on two shared cores the same example takes 20 or 300 ms. Derandomised: a run of CI is repeatable.
settings.register_profile("addnorm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("addnorm")


def pytest_collection_finish() -> None:
    """Leave what is imported by now to the end: to look through all of it again and again is a tenth of the time."""
    gc.collect()
    gc.freeze()
