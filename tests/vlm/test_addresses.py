"""Names of models, and which key goes where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from npcorrect.errors import SettingsError
from npcorrect.vlm import addresses
from npcorrect.vlm.redaction import Redactor, printable
from npcorrect.vlm.settings import read_table
from tests.timing import thread_seconds

KEY = "sk-planted-0123456789abcdef"


@pytest.mark.parametrize(
    "name",
    [
        "http://localhost:8000/v1#m",
        "http://localhost:8000/v1/#m",
        "http://localhost:8000//v1//#m",
        "HTTP://LocalHost:8000/v1#m",
        "http://127.0.0.1:8000/v1#m",
        "http://[::1]:8000/v1#m",
        "http://0.0.0.0:8000/v1#m",
        "http://[0:0:0:0:0:0:0:1]:8000/v1#m",
        "http://[::ffff:127.0.0.1]:8000/v1#m",
        "http://[::]:8000/v1#m",
        "http://127.1:08000/v1#m",
        "http://localhost.localdomain:8000/v1#m",
        "http://localhost:8000/./x/../v1/#m",
        "http://localhost:8000/%76%31?#m",
        "http://localhost.:8000/v1#m",
        "http://localhost:8000/v1/chat/completions#m",
    ],
)
def test_one_server_has_one_identity(name: str) -> None:
    assert addresses.identity(name) == "http://localhost:8000/v1#m"
    assert addresses.identity(addresses.identity(name)) == addresses.identity(name)


def test_the_usual_port_and_openais_own_name_do_not_count() -> None:
    assert addresses.identity("https://host:443/v1#m") == "https://host/v1#m"
    assert addresses.identity("http://host:80#m") == "http://host#m"
    spelled = [
        "openai:gpt-4.1",
        "https://api.openai.com/v1#gpt-4.1",
        "https://API.openai.com:443/v1/#gpt-4.1",
    ]
    assert len({addresses.identity(name) for name in spelled}) == 1
    assert all(addresses.server(name).is_openai for name in spelled)


def test_what_differs_stays_apart() -> None:
    names = [
        "http://localhost:8000/v1#m", "http://localhost:8001/v1#m", "https://localhost:8000/v1#m",
        "http://localhost:8000/v2#m", "http://localhost:8000/v1#M", "http://host:8000/v1#m",
        "local:m", "fake", "openai:m", "http://api.openai.com/v1#m",
    ]  # fmt: skip
    assert len({addresses.identity(name) for name in names}) == len(names)
    assert not addresses.server("http://api.openai.com/v1#m").is_openai


@pytest.mark.parametrize(
    "name",
    [
        "http://[::1:8000/v1#m", "http://host:port/v1#m", "http://host:99999/v1#m", "http://#m",
        "http:///v1#m", "http://ho st/v1#m", "http://host/v1\n#m", "http://host/v1", "http://host#",
        "http://host# ", "ftp://host#m", "openai:", "openai: ", "gpt", "", "#", "http://\u00fcber..x/v1#m",
        "http://host\x1b[2J/v1#m", "http://" + "a" * 300 + "/v1#m",
    ],
)  # fmt: skip
def test_what_is_no_name_is_one_sentence(name: str) -> None:
    with pytest.raises(SettingsError, match="is not understood") as caught:
        addresses.server(name)
    assert "\x1b" not in str(caught.value)
    assert addresses.identity(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "http://me:SECRET@host/v1#m", "http://SECRET@host/v1#m", "http://host/v1?key=SECRET#m",
        "http://me:SEC#RET@host/v1#m", "http://me:SECRET@host:port/v1#m", "http://:SECRET@host/#m",
        "http://host/v1?key=SECRET", "ftp://host/?key=SECRET#m", "http://host/v1#m?key=SECRET",
        "https://SECRET:@host/v1#m",
    ],
)  # fmt: skip
def test_an_address_with_a_key_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        addresses.server(name)
    assert "SEC" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "address", "model"),
    [
        ("http://127.0.0.1:7860", "http://127.0.0.1:7860", ""),
        ("http://127.0.0.1:7860/", "http://127.0.0.1:7860", ""),
        ("http://127.0.0.1:7860/sdapi/v1", "http://127.0.0.1:7860", ""),
        ("http://127.0.0.1:7860#dream", "http://127.0.0.1:7860", "dream"),
        ("http://host/v1/images/generations#m", "http://host/v1", "m"),
        ("HTTPS://host/v1/images/edits/#m", "HTTPS://host/v1", "m"),
        ("openai:gpt-image-1", addresses.OPENAI, "gpt-image-1"),
    ],
)
def test_servers_that_draw_have_names_too(name: str, address: str, model: str) -> None:
    server = addresses.image_server(name)
    assert (server.address, server.model) == (address, model)
    assert addresses.is_server(name)
    assert addresses.speaks_openai(server) == (not address.endswith("7860"))


@pytest.mark.parametrize("name", ["http://host/v1", "http://host:port", "openai:", "mini", "a/b"])
def test_what_names_no_server_that_draws_is_one_sentence(name: str) -> None:
    with pytest.raises(SettingsError, match="is not understood"):
        addresses.image_server(name)


def key_for(name: str, keys: dict[str, str] | None = None, named: str | None = None) -> str:
    secrets = {address: SecretStr(key) for address, key in (keys or {}).items()}
    return addresses.key_for(addresses.server(name), secrets, named)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("NPC_VLM_KEY", "sk-own")


def test_keys_go_to_their_own_server_alone() -> None:
    own = "http://localhost:8000/v1#m"
    assert key_for("openai:gpt-4.1", named="openai:gpt-4.1") == "sk-openai"
    assert key_for("https://api.openai.com/v1/#gpt-4.1") == "sk-openai"
    assert key_for(own, named=own) == "sk-own"
    assert key_for("http://127.0.0.1:8000/v1/#other", named=own) == "sk-own"
    assert key_for("http://elsewhere/v1#m", named=own) == ""
    assert key_for("http://elsewhere/v1#m") == ""
    assert key_for("http://api.openai.com/v1#m") == ""
    assert key_for("http://HOST/v1/#m", {"http://host/v1": "sk-host"}) == "sk-host"
    assert key_for("http://host2/v1#m", {"http://host/v1": "sk-host"}) == ""


def test_openais_key_may_stand_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert key_for("openai:m", {"openai": "sk-table"}) == "sk-table"
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        key_for("openai:m")


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "\ufeff{}", " {}\t", "{}\u00a0", "{}\u200b"])
def test_blanks_around_a_key_are_taken_off(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", around.format(KEY))
    assert key_for("openai:m") == KEY


@pytest.mark.parametrize(
    "key",
    [f"\u201c{KEY}\u201d", f"{KEY}\u00e9", f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}\x00y", "\u043a"],
)
def test_a_key_that_no_header_can_carry_is_refused_when_it_is_read(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for read in (lambda: read_table({"keys": {"openai": key}}), lambda: key_for("openai:m")):
        if "\x00" not in key:
            monkeypatch.setenv("OPENAI_API_KEY", key)
        else:
            monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
        with pytest.raises(SettingsError, match="cannot be sent") as caught:
            read()
        assert "planted" not in str(caught.value)


ESCAPED = [
    KEY,
    "".join(f"\\u{ord(c):04x}" for c in KEY),
    "".join(f"\\\\u{ord(c):04X}" for c in KEY),
    "".join(f"\\x{ord(c):02x}" for c in KEY),
    "".join(f"%{ord(c):02X}" for c in KEY),
    "".join(f"&#{ord(c)};" for c in KEY),
    "".join(f"&#x{ord(c):X};" for c in KEY),
    KEY.replace("-", "\\-"),
    KEY.replace("s", "\\u0073").replace("k", "%6b"),
]


@pytest.mark.parametrize("spelled", ESCAPED)
def test_a_key_is_redacted_however_it_is_escaped(spelled: str) -> None:
    redact = Redactor(KEY)
    assert redact(f"Bearer {spelled}!") == "Bearer [key]!"
    assert redact.raw("x" * 1990 + spelled) == ("x" * 1990 + "[key]")
    assert "planted" not in redact.line(f"no {spelled} here", 20)


@pytest.mark.parametrize("key", ["a.b*c(d)[e]{f}\\g", "k" * 300, "abc$^|?+xyz", '"quoted"key"'])
def test_keys_of_any_shape_are_redacted(key: str) -> None:
    assert Redactor(key)(f"it is {key}, yes") == "it is [key], yes"


@pytest.mark.parametrize("key", ["", "1", "a", "EMPTY", "none"])
def test_placeholders_are_no_secrets(key: str) -> None:
    assert Redactor(key)("1 a EMPTY none test") == "1 a EMPTY none test"


@pytest.mark.parametrize("unit", ["\\", "s", "sk-planted-0123456789abcde", "&#0", "%7", "\\u00"])
def test_redacting_takes_no_time(unit: str) -> None:
    text = unit * (2**20 // len(unit))
    assert thread_seconds(lambda: Redactor(KEY)(text)) < 4


def test_long_keys_are_no_trouble() -> None:
    key, redacted = "k" * 4000 + "z", list[str]()
    assert thread_seconds(lambda: redacted.append(Redactor(key)(f"{key}."))) < 4
    assert redacted == ["[key]."]


def test_what_is_shown_has_no_control_characters() -> None:
    assert printable("a\x1b[2Jb\x07c\u202ed\u0085e\nf\ud800g\x9bh") == "a[2Jbcd e f" + "gh"
    assert Redactor("").line("[/]\x1b]8;;http://x\x07 two\n lines") == "[/]]8;;http://x two lines"


def test_nothing_of_a_key_is_in_a_settings_record(tmp_path: Path) -> None:
    table: Any = read_table({"keys": {"openai": f"{KEY}\n"}})
    assert KEY not in repr(table)
    assert table.keys["openai"].get_secret_value() == KEY
