"""Ways of training, for tests that hold a plan against the real thing."""

import pytest
from planning_cases import CASES, Case, make_case


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Every way of training in turn."""
    return make_case(**CASES[request.param])
