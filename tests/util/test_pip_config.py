"""pip's configuration in uv's terms."""

import os
from pathlib import Path

import pytest

from pipelines.util import pip_config

LISTED = r"""
:env:.timeout='30'
global.cert='/etc/ssl/one.pem'
global.index-url='https://user:secret@pypi.example/simple'
global.extra-index-url='\nhttps://one.example/simple\nhttps://two.example/simple'
global.timeout='60'
global.trusted-host='pypi.example'
install.cert='/etc/ssl/two.pem'
download.cert='/etc/ssl/three.pem'
"""


@pytest.fixture(autouse=True)
def _none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("UV_", "SSL_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


def test_a_variable_wins_over_the_section_of_install_and_that_over_the_global_one() -> None:
    settings = pip_config.settings(LISTED)
    assert (settings["timeout"], settings["cert"]) == ("30", "/etc/ssl/two.pem")


def test_uv_is_handed_pips_indexes_certificate_and_hosts() -> None:
    environment = pip_config.uv_environment(pip_config.settings(LISTED), "")
    assert environment == {
        "UV_DEFAULT_INDEX": "https://user:secret@pypi.example/simple",
        "UV_EXTRA_INDEX_URL": "https://one.example/simple https://two.example/simple",
        "UV_INSECURE_HOST": "pypi.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_HTTP_TIMEOUT": "30",
        "SSL_CERT_FILE": "/etc/ssl/two.pem",
        "UV_NO_CACHE": "1",
    }


def test_an_empty_variable_hides_no_setting() -> None:
    assert pip_config.settings(f"{LISTED}:env:.index-url=''\n")["index-url"].endswith("@pypi.example/simple")


def test_values_are_written_as_uv_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/operator")
    settings = {"trusted-host": "one.example\ntwo.example", "timeout": "7.5", "cert": "~/ca.pem", "client-cert": "/c"}
    environment = pip_config.uv_environment(settings, "")
    assert environment["UV_INSECURE_HOST"] == "one.example two.example"
    assert environment["UV_HTTP_TIMEOUT"] == "8"
    assert environment["SSL_CERT_FILE"] == "/home/operator/ca.pem"
    assert environment["SSL_CLIENT_CERT"] == "/c"


def test_a_setting_that_several_files_have_is_ambiguous_and_the_last_line_decides() -> None:
    listed = "global.index-url='https://a.example'\nglobal.timeout='1'\nglobal.index-url='https://b.example'\n"
    assert pip_config.ambiguous(listed) == ["global.index-url"]
    decided = pip_config.settings(f"{listed}global.index-url='https://a.example'\n")
    assert decided["index-url"] == "https://a.example"


def test_a_proxy_and_no_index_are_handed_over_too() -> None:
    environment = pip_config.uv_environment({"proxy": "http://proxy.example:3128", "no-index": "true"}, "")
    assert environment["HTTPS_PROXY"] == environment["HTTP_PROXY"] == "http://proxy.example:3128"
    assert environment["UV_NO_INDEX"] == "1"
    assert "UV_NO_INDEX" not in pip_config.uv_environment({"no-index": "false"}, "")


def test_folders_that_do_not_exist_are_passed_over_as_pip_does(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    places = f"{wheels} {tmp_path}/missing file://{wheels} file://{tmp_path}/missing https://pypi.example/files"
    environment = pip_config.uv_environment({"find-links": places, "extra-index-url": places}, "")
    assert environment["UV_FIND_LINKS"] == f"{wheels},file://{wheels},https://pypi.example/files"
    assert environment["UV_EXTRA_INDEX_URL"] == f"{wheels} file://{wheels} https://pypi.example/files"


def test_a_variable_of_uvs_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert "UV_DEFAULT_INDEX" not in pip_config.uv_environment({"index-url": "https://pypi.example/simple"}, "")


def test_downloads_are_cached_where_pip_caches_its_own_unless_that_is_another_users(tmp_path: Path) -> None:
    assert pip_config.uv_environment({}, str(tmp_path / "pip"))["UV_CACHE_DIR"] == str(tmp_path / "pip" / "uv")
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
        assert pip_config.uv_environment({}, str(tmp_path / "pip"))["UV_NO_CACHE"] == "1"
