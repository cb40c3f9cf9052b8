"""What `podium up` settles for its parts."""

from pathlib import Path

import pytest

from cli.up import Options, _our_settings


@pytest.mark.parametrize("flower", [True, False])
def test_nobody_is_told_of_tasks_where_no_flower_listens(tmp_path: Path, flower: bool) -> None:
    options = Options("127.0.0.1", 8000, 5555, None, tmp_path, flower=flower)
    assert _our_settings(options, tmp_path, {}).get("PODIUM_WORKER__EVENTS") == (None if flower else "false")
    chosen = _our_settings(options, tmp_path, {"PODIUM_WORKER__EVENTS": "true"})
    assert "PODIUM_WORKER__EVENTS" not in chosen, "the environment's own stays"
