"""What `pushway up` is going to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import SettingError, SetupError
from router.settings import Settings
from router.up.folder import Kept
from router.up.plan import EDGES_MAX, MONGO_PORT, PORT_BASE_MAX, Plan, Request, make_plan
from router.up.report import make_report
from tests.certificates import Authority

_DATA = Path("/data")
_REQUEST = Request(data=_DATA)


def _plan(request: Request = _REQUEST, settings: dict[str, object] | None = None) -> Plan:
    return make_plan(request, Settings.model_validate(settings or {}), Kept("generated", shards=4))


def _names(plan: Plan) -> list[str]:
    return [spec.name for spec in plan.children]


def test_by_default_everything_runs_with_two_edges() -> None:
    """Servers first, then what depends on them."""
    assert _names(_plan()) == ["redis", "store", "auth", "dispatch", "collect", "edge-1", "edge-2"]


def test_default_ports_are_the_documented_ones() -> None:
    """API 8000, auth 8001, edges from 8002, Redis 6390, MongoDB 27090."""
    settings = _plan().settings
    assert settings.api_port == 8000
    assert settings.auth_url == "http://127.0.0.1:8001"
    assert settings.edge_urls == ("ws://127.0.0.1:8002/v1/connect", "ws://127.0.0.1:8003/v1/connect")
    assert settings.redis_url == "redis://127.0.0.1:6390/0"
    assert settings.mongo_url == "mongodb://127.0.0.1:27090/?directConnection=true"


def test_given_servers_take_the_place_of_the_embedded_ones() -> None:
    """Nothing is started for them, no port is wanted, and their address is what the services get."""
    request = Request(data=_DATA, redis_url="redis://elsewhere:1/0", mongo_url="mongodb://elsewhere:2")
    plan = _plan(request)
    assert plan.servers == ()
    assert (plan.settings.redis_url, plan.settings.mongo_url) == plan.given_urls
    assert not {"Redis", "MongoDB"} & {port.use for port in plan.ports}


@given(base=st.integers(30_000, PORT_BASE_MAX), edges=st.integers(1, EDGES_MAX))
def test_no_two_uses_share_a_port(base: int, edges: int) -> None:
    """Whatever the base and the number of edges."""
    ports = _plan(Request(data=_DATA, port_base=base, edges=edges)).ports
    assert len({port.number for port in ports}) == len(ports) == 2 + edges + 3 + edges + 2
    assert max(port.number for port in ports) <= 65_535


@pytest.mark.parametrize("redis_port", [8003, 8010, MONGO_PORT])
def test_two_uses_of_one_port_are_refused(redis_port: int) -> None:
    """The error says which port would be both, and names the flag that chooses another."""
    with pytest.raises(SettingError, match=rf"--\w+-port .* port {redis_port} would be both"):
        _plan(Request(data=_DATA, redis_port=redis_port))


def test_what_was_asked_goes_before_what_up_prefers() -> None:
    """A drain timeout, a key file, an API key and a number of shards of one's own are kept."""
    own: dict[str, object] = {"drain_timeout_s": 7.0, "auth_key_file": Path("/keys/a.pem"), "api_key": "mine", "shards": 2}
    assert _plan(settings=own).settings.model_dump(include=set(own)) == own
    assert (_plan().settings.api_key, _plan().settings.shards) == ("generated", 4)
    assert _plan().settings.auth_key_file == _DATA / "auth-key.pem"


def test_api_answers_for_all_other_services() -> None:
    """Its /readyz asks dispatch, auth and every edge."""
    urls = [spec.ready_url for spec in _plan().children if spec.name not in {"redis", "store", "collect"}]
    assert sorted(_plan().settings.api_ready_urls) == sorted(urls)


def test_a_service_is_named_on_its_command_line() -> None:
    """`ps` tells what is what, and an edge is told its node name and port."""
    edge = next(spec for spec in _plan().children if spec.name == "edge-2")
    assert edge.command[3:6] == ("router.commands", "edge", "--config")
    assert {"node=edge-2", "edge_port=8003", "ops_port=8014"} <= set(edge.command)


def test_a_setting_that_up_decides_is_refused() -> None:
    """It would have no effect, so it is named instead of being passed over; what agrees is no trouble."""
    with pytest.raises(SettingError, match=r"auth_port .*--port-base"):
        _plan(settings={"auth_port": 9000})
    with pytest.raises(SettingError, match="node"):
        _plan(settings={"node": "mine"})
    _plan(settings={"auth_port": 8001})


def test_certificates_make_addresses_secure(tmp_path: Path) -> None:
    """With a name of this machine that they are for; each edge says so of itself. Files are found from any folder."""
    authority = Authority(tmp_path)
    edge, http = authority.issue("localhost", file="edge"), authority.issue("push.example.com", "127.0.0.1", file="http")
    files = {"edge_tls_cert_file": str(edge.cert), "edge_tls_key_file": str(edge.key)}
    files |= {"http_tls_cert_file": str(http.cert), "http_tls_key_file": str(http.key), "http_ca_file": "ca.pem"}
    plan = _plan(settings={**files})
    assert plan.settings.auth_url == "https://127.0.0.1:8001"
    assert plan.settings.edge_urls == ("wss://localhost:8002/v1/connect", "wss://localhost:8003/v1/connect")
    assert plan.settings.http_ca_file == str(Path("ca.pem").absolute())
    assert "edge_address=wss://localhost:8003" in plan.edges[1].command
    assert plan.core[0].ready_url == "http://127.0.0.1:8012/readyz"
    assert make_report(plan, "token", {}).api == "https://127.0.0.1:8000"


def test_certificate_for_another_machine_is_refused(tmp_path: Path) -> None:
    """Nothing on this machine could be reached by its name."""
    pair = Authority(tmp_path).issue("push.example.com")
    with pytest.raises(SetupError, match=r"is for push\.example\.com: .* 127\.0\.0\.1 or localhost"):
        _plan(settings={"edge_tls_cert_file": str(pair.cert), "edge_tls_key_file": str(pair.key)})
    with pytest.raises(SetupError, match="http_tls_cert_file and http_tls_key_file cannot be used"):
        _plan(settings={"http_tls_cert_file": "nowhere.pem", "http_tls_key_file": "nowhere.key"})


def test_redis_cli_is_told_whom_to_trust(tmp_path: Path) -> None:
    """As the services are."""
    ca = str(Authority(tmp_path).file)
    plan = _plan(Request(data=_DATA, redis_url="rediss://redis.example.com/0"), {"redis_ca_file": ca})
    assert f"redis-cli -u rediss://redis.example.com/0 --cacert {ca}" in make_report(plan, "token", {}).append
