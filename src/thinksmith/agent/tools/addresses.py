"""Whom the agent may talk to: hosts by name, and the addresses that a name may stand for.

The list is the owner's: `api.example.com+*.docs.example.com:8080+http://localhost:8000`. An entry is
`[https://|http://]HOST[:PORT][=ADDRESS]`: a name is meant exactly, `*.` before it any name below it (not itself), the
scheme is https unless written, the port the scheme's. A name stands for public addresses only, wherever its owner
points it: an address at home or in this machine is reached by an entry of that very address, as `localhost`, or by
`=ADDRESS`, which says what the name stands for.

Two lists of networks decide, and not `ipaddress.is_private`, whose meaning depends on Python's version. Source: IANA
IPv4 and IPv6 special-purpose address registries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from thinksmith.agent.contract import ToolFault
from thinksmith.errors import UserError

Address = IPv4Address | IPv6Address

PORTS = {"https": 443, "http": 80}
_LONGEST = 8_000  # characters of a URL
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(#.*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)", re.IGNORECASE)

_REFUSED_4 = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")  # all that is assigned; mapped, translated, local and multicast lie outside
_REFUSED_6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NEVER = ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")


@dataclass(frozen=True, slots=True)
class Entry:
    """A host of the list. `host` is lower-case, an address in its canonical form, or begins with `*.`; `pinned` is the
    one address that it stands for."""

    scheme: str
    host: str
    port: int
    pinned: Address | None = None

    def fits(self, url: Url) -> bool:
        """Is this URL's place meant?"""
        if (self.scheme, self.port) != (url.scheme, url.port):
            return False
        return url.host.endswith(self.host[1:]) if self.host.startswith("*.") else url.host == self.host

    def allows(self, address: Address) -> bool:
        """May it stand for this address?"""
        if self.pinned is not None:
            return address == self.pinned
        if self.host == "localhost":
            return address.is_loopback
        return is_public(address)

    @property
    def text(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'' if self.scheme == 'https' else 'http://'}{host}{port}"


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that was taken apart: `host` without brackets, `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def is_public(address: Address) -> bool:
    """Is it an ordinary address of the internet, and no other one in disguise (IPv4-mapped, NAT64, 6to4, Teredo)?"""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    return not address.scope_id and address in _PUBLIC_6 and not any(address in network for network in _REFUSED_6)


def parse_entries(text: str) -> tuple[Entry, ...]:
    """The list of the owner. Raises UserError."""
    entries = tuple(_entry(part.strip()) for part in text.split("+") if part.strip())
    if not entries:
        raise UserError(
            "http: needs a host: http:api.example.com, or several: http:api.example.com+docs.example.com:8080"
        )
    return entries


def _entry(text: str) -> Entry:
    place, _, pin = text.partition("=")
    scheme, found, rest = place.partition("://")
    scheme, rest = (scheme.lower(), rest) if found else ("https", place)
    wrong = f"http:{text} is no host: write HOST, HOST:PORT, *.HOST, http://HOST:PORT or HOST=ADDRESS"
    if scheme not in PORTS:
        raise UserError(f"http:{text}: only https:// and http:// are known")
    below = rest.startswith("*.")
    try:
        url = parse_url(f"{scheme}://{rest.removeprefix('*.')}")
        pinned = ip_address(pin.strip("[]")) if pin else _literal(url.host)
    except (ToolFault, ValueError) as fault:
        raise UserError(f"{wrong} ({fault})") from None
    if (
        url.target != "/"
        or rest.endswith("/")
        or (below and (pinned or "." not in url.host))
        or ("=" in text and not pin)
    ):
        raise UserError(wrong)
    if pinned is not None and any(pinned.version == net.version and pinned in net for net in map(_network, _NEVER)):
        raise UserError(f"http:{text}: {pinned} is no address of one machine")
    return Entry(scheme, ("*." if below else "") + url.host, url.port, pinned)


def _network(text: str) -> IPv4Network | IPv6Network:
    return IPv6Network(text) if ":" in text else IPv4Network(text)


def parse_url(text: str) -> Url:
    """Take apart a URL as it stands there, without repairing anything. Raises ToolFault.

    What one reader of URLs takes for the host and another does not (user names, backslashes, spaces, percent signs,
    letters beyond ASCII, a dot at the end, numbers in other forms) is refused, so there is one reading.
    """
    if len(text) > _LONGEST:
        raise ToolFault(f"the URL is longer than {_LONGEST:,} characters")
    if not text.isascii() or not text.isprintable() or re.search(r"[\s\\<>\"^`{}|]", text):
        raise ToolFault("the URL holds characters that have to be written as %XX (in a host name: its xn-- form)")
    found = _URL.fullmatch(text)
    if not found:
        raise ToolFault("this is no URL: write https://host/path")
    scheme = found["scheme"].lower()
    if scheme not in PORTS:
        raise ToolFault(f"{scheme[:20]}: is refused: only https:// and http:// are known")
    if "@" in found["authority"]:
        raise ToolFault("a user name in the URL is refused")
    authority = _AUTHORITY.fullmatch(found["authority"])
    if not authority:
        raise ToolFault(f"{found['authority'][:100]!r} is no host")
    port = int(authority["port"]) if authority["port"] else PORTS[scheme]
    if not 0 < port < 65536:
        raise ToolFault(f"{port} is no port")
    return Url(scheme, _host(authority["host"]), port, (found["path"] or "/") + (found["query"] or ""))


def _host(written: str) -> str:
    """A host's one form. An address has to be written in it."""
    host = written.lower()
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1]))
        except ValueError:
            raise ToolFault(f"{host[:60]!r} is no address") from None
    if _NUMBER.fullmatch(host):
        try:
            if str(IPv4Address(host)) == host:
                return host
        except ValueError:
            pass
        raise ToolFault(f"{host[:60]!r} is no address: write it as 192.0.2.1")
    if not _NAME.fullmatch(host):
        raise ToolFault(f"{host[:100]!r} is no host")
    return host


def _literal(host: str) -> Address | None:
    """The address that a host is, if it is none by name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def entry_for(url: Url, entries: Sequence[Entry]) -> Entry:
    """The entry that allows this URL. Raises ToolFault, which names those that there are."""
    for entry in entries:
        if entry.fits(url):
            return entry
    known = ", ".join(entry.text for entry in entries[:20])
    raise ToolFault(f"{url.scheme}://{url.authority[:100]} is not among the hosts that may be asked: {known}")


def checked(entry: Entry, host: str, found: Sequence[str]) -> tuple[str, ...]:
    """Of the addresses that a name resolved to, those to connect to. Raises ToolFault if any of them may not be: a name
    that stands for a public and a private address is a trick."""
    addresses = [ip_address(text) for text in found]
    for address in addresses:
        if not entry.allows(address):
            raise ToolFault(f"{host[:100]} stands for {address}, which is not public: it is refused")
    if not addresses:
        raise ToolFault(f"there is no address for {host[:100]}")
    return tuple(map(str, addresses))
