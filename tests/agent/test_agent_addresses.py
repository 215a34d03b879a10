"""Whom the agent may talk to: one reading of a URL, and no address in disguise."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools.addresses import checked, entry_for, is_public, parse_entries, parse_url
from thinksmith.errors import UserError

ENTRIES = parse_entries("api.example.com+*.docs.example.com:8080+http://localhost:8000+intranet=10.0.0.5+192.168.1.7")

ALLOWED = [
    "https://api.example.com",
    "https://api.example.com/",
    "https://API.Example.COM:443/a/b?c=d#e",
    "https://a.docs.example.com:8080/x",
    "https://a.b.docs.example.com:8080",
    "http://localhost:8000/v1?x=%0a",
    "https://intranet/",
    "https://192.168.1.7/admin",
]

REFUSED = {
    "another host": "https://evil.example/",
    "another port": "https://api.example.com:8443/",
    "another scheme": "http://api.example.com/",
    "the listed host as a user name": "https://api.example.com@evil.example/",
    "with a password": "https://api.example.com:x@evil.example/",
    "an encoded @": "https://api.example.com%40evil.example/",
    "a backslash": "https://api.example.com\\@evil.example/",
    "a backslash as slash": "https:\\\\api.example.com/",
    "listed as a prefix": "https://api.example.com.evil.example/",
    "listed as a suffix": "https://evilapi.example.com/",
    "below a name that has no star": "https://x.api.example.com/",
    "the name of a star itself": "https://docs.example.com:8080/",
    "a star taken as an end": "https://evildocs.example.com:8080/",
    "a dot at the end": "https://api.example.com./",
    "a dot in IDNA": "https://api。example.com/",
    "letters that fold": "https://api.exampｌe.com/",
    "a soft hyphen": "https://api.exam\u00adple.com/",
    "a file": "file:///etc/passwd",
    "gopher": "gopher://api.example.com:70/_x",
    "data": "data:text/plain,hello",
    "no scheme": "//api.example.com/",
    "no slashes": "https:api.example.com/",
    "loopback": "http://127.0.0.1:8000/",
    "loopback, shortened": "http://127.1:8000/",
    "loopback as a number": "http://2130706433:8000/",
    "loopback in hex": "http://0x7f000001:8000/",
    "loopback in octal": "http://0177.0.0.1:8000/",
    "loopback in IPv6": "http://[::1]:8000/",
    "loopback, mapped": "http://[::ffff:127.0.0.1]:8000/",
    "zero": "http://0:8000/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "a scope": "http://[fe80::1%25eth0]/",
    "a line break in the host": "https://api.example.com\r\nHost: evil.example/",
    "a line break in the path": "https://api.example.com/\r\nX: y",
    "a tab": "https://api.exam\tple.com/",
    "a blank": "https://api.example.com /",
    "a NUL": "https://api.example.com\0.evil.example/",
    "port 0": "https://api.example.com:0/",
    "a port too big": "https://api.example.com:65979/",
    "a port of other digits": "https://api.example.com:４43/",
    "two ports": "https://api.example.com:443:80/",
    "an empty port": "https://api.example.com:/",
    "very long": "https://api.example.com/" + "a" * 9000,
    "nothing": "",
}


@pytest.mark.parametrize("url", ALLOWED)
def test_a_listed_place_is_allowed(url: str) -> None:
    entry_for(parse_url(url), ENTRIES)


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_any_other_is_refused(url: str) -> None:
    with pytest.raises(ToolFault):
        entry_for(parse_url(url), ENTRIES)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "+",
            "ftp://a.example",
            "a.example/path",
            "http://",
            "*.",
            "*.com",
            "*",
            "a..example",
            "user@a.example",
            "a b",
        ),
        *(
            "a.example:99999",
            "0x7f.1",
            "127.1",
            "ä.example",
            "a.example=",
            "a.example=b.example",
            "*.a.example=10.0.0.1",
        ),
        *("0.0.0.0", "224.0.0.1", "[::]", "[ff02::1]", "a.example?x", "255.255.255.255"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        parse_entries(text)
    assert "\n" not in str(told.value)


PRIVATE = [
    *(
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
    ),
    *(
        "192.0.0.1",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
    ),
    *(
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
    ),
    *("::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
    *("5f00::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:10::1", "2001:20::1"),
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_no_ordinary_address_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(ToolFault):
        checked(ENTRIES[0], "api.example.com", ["93.184.216.34", text])


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:2800:220:1:248:1893:25c8:1946", "100.128.0.1"]
)
def test_an_ordinary_address_is_not(text: str) -> None:
    assert checked(ENTRIES[0], "api.example.com", [text]) == (text,)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_whatever_the_standard_library_calls_private_is_refused(address: ipaddress.IPv4Address) -> None:
    if (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    ):
        assert not is_public(address)
    if not address.is_global:
        assert not is_public(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "::{}", "64:ff9b::{}"]))
def test_no_ipv4_address_hides_in_ipv6(address: ipaddress.IPv4Address, form: str) -> None:
    assert not is_public(ipaddress.ip_address(form.format(address)))


@given(st.ip_addresses(v=4))
def test_6to4_and_teredo_are_refused(address: ipaddress.IPv4Address) -> None:
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))
    assert not is_public(ipaddress.IPv6Address((0x20010000 << 96) | int(address)))


@given(st.ip_addresses(v=4), st.sampled_from(["dec", "hex", "octal", "short", "padded", "upper"]))
def test_an_address_has_one_spelling(address: ipaddress.IPv4Address, form: str) -> None:
    parts = [int(part) for part in str(address).split(".")]
    spelled = {
        "dec": str(int(address)),
        "hex": hex(int(address)),
        "octal": ".".join(f"0{part:o}" for part in parts),
        "short": f"{parts[0]}.{(parts[1] << 16) + (parts[2] << 8) + parts[3]}",
        "padded": ".".join(f"{part:04d}" for part in parts),
        "upper": "0X" + hex(int(address))[2:].upper(),
    }[form]
    with pytest.raises(ToolFault):
        parse_url(f"http://{spelled}/")
    assert parse_url(f"http://{address}/").host == str(address)


_PIECES = st.sampled_from(
    [
        *(
            "https",
            "http",
            ":",
            "//",
            "/",
            "\\",
            "@",
            "api.example.com",
            "evil.example",
            "#",
            "?",
            "%40",
            "%2f",
            ".",
            "[",
            "]",
        ),
        *(" ", "\t", "\r\n", "\0", "443", "127.0.0.1", "::1", "。", "é", "-", "_", "&", "=", "*"),
    ]
)


@given(st.lists(_PIECES, max_size=8).map("".join) | st.text(max_size=30))
def test_what_is_accepted_is_read_alike_by_others(rest: str) -> None:
    """Differential: where we see a host, the standard library sees the same one, and httpx too."""
    import httpx

    text = f"https://{rest}"
    try:
        url = parse_url(text)
    except ToolFault:
        return
    other = urlsplit(text)
    assert (other.hostname or "").lower() == url.host
    assert (other.port or 443) == url.port
    assert other.username is None
    assert httpx.URL(text).host == url.host
    assert parse_url(url.text) == url


def test_what_a_private_entry_stands_for() -> None:
    localhost, pinned, literal = ENTRIES[2], ENTRIES[3], ENTRIES[4]
    assert checked(localhost, "localhost", ["127.0.0.1", "::1"]) == ("127.0.0.1", "::1")
    assert checked(pinned, "intranet", ["10.0.0.5"]) == ("10.0.0.5",)
    assert checked(literal, "192.168.1.7", ["192.168.1.7"]) == ("192.168.1.7",)
    for entry, other in (
        (localhost, "10.0.0.5"),
        (pinned, "10.0.0.6"),
        (pinned, "127.0.0.1"),
        (literal, "192.168.1.8"),
    ):
        with pytest.raises(ToolFault):
            checked(entry, "x", [other])
    with pytest.raises(ToolFault):
        checked(localhost, "x", [])


def test_entries_are_told_as_they_are_written() -> None:
    assert [entry.text for entry in ENTRIES] == [
        *("api.example.com", "*.docs.example.com:8080", "http://localhost:8000", "intranet", "192.168.1.7"),
    ]
