"""Which targets a callback may have, and when it is tried again."""

from datetime import timedelta
from ipaddress import ip_network

import pytest

from jobs.callback import SCHEDULE, check_target, next_wait
from jobs.errors import CallbackForbidden

LAN = (ip_network("10.1.0.0/16"),)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",  # not https
        "https://127.0.0.1/",
        "https://localhost/",
        "https://sub.localhost/",
        "https://10.0.0.7/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://user:password@example.com/",
        "ftp://example.com/",
        "https:///nowhere",
        "https://example.com:port/",
        "not a url",
    ],
)
def test_a_target_that_may_not_be_called_is_refused_with_its_field(url: str) -> None:
    with pytest.raises(CallbackForbidden) as refused:
        check_target(url, ())
    assert refused.value.field == "callback.url"


@pytest.mark.parametrize("url", ["https://example.com/hook", "https://93.184.216.34:8443/x?y=1"])
def test_a_public_https_target_is_accepted(url: str) -> None:
    check_target(url, ())


def test_a_private_address_is_accepted_where_a_setting_names_it_and_then_also_by_http() -> None:
    check_target("http://10.1.2.3:9000/hook", LAN)
    with pytest.raises(CallbackForbidden):
        check_target("http://10.2.0.1/hook", LAN)


def test_retries_run_for_about_three_days_and_then_end() -> None:
    assert next_wait(1) == timedelta(seconds=5)
    assert timedelta(days=2) < sum(SCHEDULE, timedelta()) < timedelta(days=4)
    assert next_wait(len(SCHEDULE)) is not None
    assert next_wait(len(SCHEDULE) + 1) is None
