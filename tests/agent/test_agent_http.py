"""http_get and http_send against real servers on loopback: an allowed one, and an attacker's that nothing may reach."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.contract import Intent, Result, Tool, ToolFault
from thinksmith.agent.tools import fetching
from thinksmith.agent.tools import http as http_tools
from thinksmith.agent.tools.html_text import text_of
from thinksmith.agent.tools.http import open_toolset
from thinksmith.errors import UserError


@dataclass
class Site:
    """A server that answers by its path, and remembers what it was asked. `connections` counts all that came."""

    port: int = 0
    connections: int = 0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    sni: list[str | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ", 2)
            headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in head[1:] if line}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append((method, target, headers, body))
            await self.answer(target, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        path, _, query = target.partition("?")
        status, kind, extra, body = "200 OK", "text/plain", "", b"hello"
        if path == "/to":
            status, extra = "302 Found", f"Location: {unquote(query)}\r\n"
        elif path == "/to307":
            status, extra = "307 Temporary Redirect", f"Location: {unquote(query)}\r\n"
        elif path == "/loop":
            status, extra = "302 Found", f"Location: /loop?{query}x\r\n"
        elif path == "/cookie":
            extra = "Set-Cookie: a=b\r\n"
        elif path == "/missing":
            status, body = "404 Not Found", b"nothing here"
        elif path == "/broken":
            status, body = "500 Internal Server Error", b"it broke"
        elif path == "/page":
            kind = "text/html; charset=utf-8"
            body = b"<title>T</title><script>x=1</script><p>a &amp; b<p><a href='/x'>go</a>"
        elif path == "/utf8":
            body = b"ok \xff\xfe bad"
        elif path == "/binary":
            kind, body = "application/octet-stream", bytes(1000)
        elif path == "/bomb":
            extra, body = "Content-Encoding: gzip\r\n", gzip.compress(bytes(60_000_000), 9)
        elif path == "/deflate":
            extra, body = "Content-Encoding: deflate\r\n", zlib.compress(b"squeezed")
        elif path == "/br":
            extra = "Content-Encoding: br\r\n"
        elif path == "/charset":
            kind, body = "text/plain; charset=" + unquote(query), "Grüße".encode("latin-1")
        elif path == "/hang":
            await asyncio.sleep(30)
        elif path == "/die":
            return
        elif path in ("/endless", "/drip"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
            for _ in range(100_000):
                writer.write(b"x" * (100_000 if path == "/endless" else 1))
                await writer.drain()
                await asyncio.sleep(0 if path == "/endless" else 0.05)
            return
        elif path == "/headers":
            writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (at, b"y" * 1000) for at in range(5000)))
        elif path == "/garbage":
            writer.write(b"\x00\xff not http \r\n\r\n")
            return
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close"
        writer.write(head.encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()


@asynccontextmanager
async def site(host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    made = Site()
    server = await asyncio.start_server(made.serve, host, 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


Trial = Callable[[Site, Site, Tool, Tool], Awaitable[None]]


def attempt(trial: Trial, spec: str = "http://localhost:{good}") -> tuple[Site, Site]:
    """Run a trial with a good site, an attacker's, and the tools for the good one alone."""

    async def run() -> tuple[Site, Site]:
        async with asyncio.timeout(60), site() as good, site() as evil:
            toolset = await open_toolset(spec.format(good=good.port, evil=evil.port))
            get, send = toolset.tools
            await trial(good, evil, get, send)
            return good, evil

    return asyncio.run(run())


async def post(send: Tool, **arguments: Any) -> tuple[Intent, Result]:
    assert send.intend is not None
    intent = await send.intend(arguments)
    return intent, await send.call(arguments, intent)


def test_a_get_gives_text_and_what_came_with_it() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        result = await get.call({"url": f"http://localhost:{good.port}/a?b=c#d"}, None)
        assert result.ok
        assert result.text == "200 OK, text/plain, 5 bytes\n\nhello"
        method, target, headers, _ = good.asked[0]
        assert (method, target, headers["host"]) == ("GET", "/a?b=c", f"localhost:{good.port}")
        assert not {"cookie", "authorization", "referer"} & set(headers)
        page = await get.call({"url": f"http://localhost:{good.port}/page"}, None)
        assert page.text.endswith("T\na & b\ngo (/x)")
        missing = await get.call({"url": f"http://localhost:{good.port}/missing"}, None)
        assert not missing.ok
        assert "404 Not Found" in missing.text
        head = await get.call({"url": f"http://localhost:{good.port}/", "method": "HEAD"}, None)
        assert good.asked[-1][0] == "HEAD"
        assert "hello" not in head.text

    attempt(trial)


def test_a_redirect_is_followed_within_the_list() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        result = await get.call({"url": f"http://localhost:{good.port}/to?" + quote("/page?x=1")}, None)
        assert f"of http://localhost:{good.port}/page?x=1" in result.text
        relative = await get.call({"url": f"http://localhost:{good.port}/to?page"}, None)
        assert "a & b" in relative.text

    attempt(trial)


def _redirect(location: str) -> Callable[[int, int], str]:
    def url(good: int, evil: int) -> str:
        return f"http://localhost:{good}/to?" + quote(location.format(good=good, evil=evil), safe="")

    return url


ATTACKS: dict[str, Callable[[int, int], str]] = {
    "another port": lambda good, evil: f"http://localhost:{evil}/",
    "another spelling of the listed host": lambda good, evil: f"http://127.0.0.1:{good}/",
    "the attacker as an address": lambda good, evil: f"http://127.0.0.1:{evil}/",
    "the listed host as a user": lambda good, evil: f"http://localhost:{good}@127.0.0.1:{evil}/",
    "a backslash before an @": lambda good, evil: f"http://localhost:{good}\\@127.0.0.1:{evil}/",
    "a fragment before an @": lambda good, evil: f"http://127.0.0.1:{evil}#@localhost:{good}/",
    "a question before an @": lambda good, evil: f"http://127.0.0.1:{evil}?@localhost:{good}/",
    "a number": lambda good, evil: f"http://2130706433:{evil}/",
    "hex": lambda good, evil: f"http://0x7f.0.0.1:{evil}/",
    "octal": lambda good, evil: f"http://0177.0.0.1:{evil}/",
    "short": lambda good, evil: f"http://127.1:{evil}/",
    "mapped": lambda good, evil: f"http://[::ffff:127.0.0.1]:{evil}/",
    "zero": lambda good, evil: f"http://0.0.0.0:{evil}/",
    "a dot at the end": lambda good, evil: f"http://localhost.:{evil}/",
    "a line break": lambda good, evil: f"http://localhost:{good}\r\nHost: localhost:{evil}/",
    "wide digits": lambda good, evil: f"http://１２７.0.0.1:{evil}/",
    "a wide dot": lambda good, evil: f"http://127。0.0.1:{evil}/",
    "redirect: another port": _redirect("http://localhost:{evil}/"),
    "redirect: an address": _redirect("http://127.0.0.1:{evil}/"),
    "redirect: without a scheme": _redirect("//127.0.0.1:{evil}/"),
    "redirect: three slashes": _redirect("///127.0.0.1:{evil}/../../127.0.0.1:{evil}"),
    "redirect: a user": _redirect("http://localhost:{good}@127.0.0.1:{evil}/"),
    "redirect: backslashes": _redirect("\\\\127.0.0.1:{evil}\\"),
    "redirect: slash and backslash": _redirect("/\\127.0.0.1:{evil}/"),
    "redirect: a scheme without slashes": _redirect("http:127.0.0.1:{evil}"),
    "redirect: a number": _redirect("http://2130706433:{evil}/"),
    "redirect: a file": _redirect("file:///etc/passwd"),
    "redirect: gopher": _redirect("gopher://127.0.0.1:{evil}/_x"),
    "redirect: metadata": _redirect("http://169.254.169.254/latest/"),
    "redirect: to a redirect": lambda good, evil: _redirect("/to?" + quote(f"http://127.0.0.1:{evil}/", safe=""))(
        good, evil
    ),
    "redirect: 307": lambda good, evil: f"http://localhost:{good}/to307?" + quote(f"http://localhost:{evil}/", safe=""),
    "redirect: a header behind it": _redirect("http://localhost:{evil}/\r\nX: y"),
    "redirect: without end": lambda good, evil: f"http://localhost:{good}/loop?",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_reaches_another_place(name: str) -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = ATTACKS[name](good.port, evil.port)
        with suppress(ToolFault):  # two of the redirects lead back to the listed host, which is as good
            await get.call({"url": url}, None)
        for arguments in ({"method": "POST", "url": url, "body": "secret"}, {"method": "DELETE", "url": url}):
            try:
                await post(send, **arguments)
            except ToolFault:
                assert "redirect" not in name
            else:
                assert "redirect" in name  # sent to the listed host, and not followed

    good, evil = attempt(trial)
    assert evil.connections == 0
    assert all("evil" not in str(asked) for asked in good.asked)
    if name == "redirect: without end":
        assert sum(method == "GET" for method, *_ in good.asked) == 6


def test_a_name_that_stands_for_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS is the attacker's: a public name that resolves to this machine, or first elsewhere and then here."""
    asked: list[str] = []

    def resolver(answers: list[list[str]]) -> Callable[..., Any]:
        def getaddrinfo(host: str, port: int, *_: object) -> list[Any]:
            asked.append(host)
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        return getaddrinfo

    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = f"http://api.example.com:{evil.port}/"
        for answers in (
            [["127.0.0.1"]],
            [["93.184.216.34", "127.0.0.1"]],
            [["10.0.0.1"]],
            [["::1"]],
            [["169.254.169.254"]],
        ):
            monkeypatch.setattr(socket, "getaddrinfo", resolver([*answers]))
            with pytest.raises(ToolFault, match="not public"):
                await get.call({"url": url}, None)
            with pytest.raises(ToolFault, match="not public"):
                await post(send, url=url, method="POST", body="x")

    _, evil = attempt(trial, "http://api.example.com:{evil}")
    assert evil.connections == 0

    reached: list[str] = []

    async def connect(self: Any, host: str, port: int, **_: Any) -> Any:
        reached.append(host)
        raise fetching.httpcore.ConnectError("no network in tests")

    async def rebinding(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        asked.clear()
        monkeypatch.setattr(socket, "getaddrinfo", resolver([["93.184.216.34"], ["127.0.0.1"]]))
        monkeypatch.setattr(fetching.httpcore.AnyIOBackend, "connect_tcp", connect)
        with pytest.raises(ToolFault, match="cannot be reached"):
            await get.call({"url": f"http://api.example.com:{evil.port}/"}, None)

    attempt(rebinding, "http://api.example.com:{evil}")
    assert asked == ["api.example.com"]  # resolved once, and the connection went to what was checked
    assert reached == ["93.184.216.34"]


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no .netrc, and no cookie of an earlier answer."""

    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{evil.port}")
        (tmp_path / ".netrc").write_text("machine localhost login a password b\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        for path in ("/cookie", "/again"):
            await get.call({"url": f"http://localhost:{good.port}{path}"}, None)

    good, evil = attempt(trial)
    assert evil.connections == 0
    assert not any({"cookie", "authorization"} & set(headers) for _, _, headers, _ in good.asked)


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": "evil.example"}, {"Authorization": "Bearer x"}, {"Cookie": "a=b"}, {"X-Forwarded-For": "1.2.3.4"}),
        *(
            {"accept": "a\r\nX-Evil: 1"},
            {"accept": "a\nb"},
            {"accept": "a\0"},
            {"accept\r\nX: y": "z"},
            {"Content-Length": "5"},
        ),
        *(
            {"accept": "é"},
            {"accept": ""},
            {"Transfer-Encoding": "chunked"},
            {"Connection": "upgrade"},
            {"accept": "x" * 600},
        ),
        {"Proxy-Authorization": "x"},
    ],
)
def test_a_header_that_is_not_listed_is_refused(headers: dict[str, str]) -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = f"http://localhost:{good.port}/"
        with pytest.raises(ToolFault, match="header"):
            await get.call({"url": url, "headers": headers}, None)
        with pytest.raises(ToolFault, match="header"):
            await post(send, url=url, method="POST", headers=headers)

    good, _ = attempt(trial)
    assert good.connections == 0


def test_a_listed_header_is_sent() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        await get.call({"url": f"http://localhost:{good.port}/", "headers": {"Accept": "text/csv; q=0.5"}}, None)
        assert good.asked[0][2]["accept"] == "text/csv; q=0.5"

    attempt(trial)


def test_what_is_sent_is_told_before_and_has_a_key() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = f"http://localhost:{good.port}/orders"
        intent, result = await post(send, url=url, method="POST", body='{"n": 1}')
        assert result.ok
        assert intent.summary == f"POST {url}: 8 bytes"
        assert '{"n": 1}' in intent.details
        method, target, headers, body = good.asked[0]
        assert (method, target, body) == ("POST", "/orders", b'{"n": 1}')
        assert headers["content-type"] == "application/json"
        assert headers["idempotency-key"] == intent.record["key"]
        json.dumps(dict(intent.record))
        await post(send, url=url, method="PUT", body="plain", headers={"Content-Type": "text/csv", "If-Match": '"1"'})
        assert good.asked[1][2]["content-type"] == "text/csv"
        assert good.asked[1][2]["if-match"] == '"1"'
        await post(send, url=url, method="DELETE")
        assert good.asked[2][0] == "DELETE"
        assert send.kind == "send"
        assert send.settled is None
        assert not send.repeatable

    good, _ = attempt(trial)
    assert len({headers["idempotency-key"] for _, _, headers, _ in good.asked}) == 3


def test_only_looking_is_never_sending() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        assert send.intend is not None
        await send.intend({"url": f"http://localhost:{good.port}/", "method": "POST", "body": "x"})
        with pytest.raises(ToolFault):
            await send.intend({"url": f"http://localhost:{evil.port}/", "method": "POST", "body": "x"})
        with pytest.raises(ToolFault, match="surrogate"):
            await send.intend({"url": f"http://localhost:{good.port}/", "method": "POST", "body": "\ud800"})

    good, _ = attempt(trial)
    assert good.connections == 0


def test_whether_a_send_may_have_been_done_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ToolFault says that nothing was done; it is another exception once the request was on its way."""
    monkeypatch.setattr(http_tools, "_SECONDS", 4.0)

    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = f"http://localhost:{good.port}"
        for path, error in (("/die", ConnectionError), ("/garbage", ConnectionError), ("/hang", TimeoutError)):
            with pytest.raises(error):
                await post(send, url=url + path, method="POST", body="x")
        assert not (await post(send, url=url + "/broken", method="POST", body="x"))[1].ok

    attempt(trial)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def nobody(good: Site, evil: Site, get: Tool, send: Tool) -> None:
            with pytest.raises(ToolFault, match="cannot be reached"):
                await post(send, url=f"http://localhost:{port}/", method="POST", body="x")

        attempt(nobody, f"http://localhost:{port}")


def test_faults_of_a_server_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_tools, "_SECONDS", 5.0)

    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        for path in ("/die", "/garbage", "/hang", "/drip", "/headers", "/br"):
            began = time.monotonic()
            with pytest.raises(ToolFault) as told:
                await get.call({"url": f"http://localhost:{good.port}{path}"}, None)
            assert "\n" not in str(told.value)
            assert time.monotonic() - began < 20

    attempt(trial)


def test_what_is_read_is_bounded() -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        for path in ("/endless", "/bomb"):
            result = await get.call({"url": f"http://localhost:{good.port}{path}"}, None)
            assert "more than 2,000,000 bytes" in result.text
            assert len(result.text) <= fetching.LARGEST + 200
        assert (await get.call({"url": f"http://localhost:{good.port}/deflate"}, None)).text.endswith("\n\nsqueezed")

    attempt(trial)


@pytest.mark.parametrize(
    "charset", ["iso-8859-1", "latin-9x", "zip", "idna", "punycode", "rot13", "unicode_escape", "hex"]
)
def test_text_of_any_bytes(charset: str) -> None:
    async def trial(good: Site, evil: Site, get: Tool, send: Tool) -> None:
        url = f"http://localhost:{good.port}"
        text = (await get.call({"url": f"{url}/charset?{charset}"}, None)).text
        assert ("Grüße" if charset == "iso-8859-1" else "Gr\ufffd\ufffde") in text
        assert (await get.call({"url": f"{url}/utf8"}, None)).text.endswith("ok \ufffd\ufffd bad")
        assert "not text" in (await get.call({"url": f"{url}/binary"}, None)).text

    attempt(trial)


def test_a_certificate_is_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS goes to the checked address, and asks for the name: its certificate has to be of the name."""
    for name in ("shop.test", "other.test"):
        key, cert = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(cert)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    (tmp_path / "both.pem").write_bytes(
        b"".join((tmp_path / f"{name}.pem").read_bytes() for name in ("shop.test", "other.test"))
    )

    async def run() -> None:
        names: list[str | None] = []
        for name in ("shop.test", "other.test"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
            context.sni_callback = lambda _socket, asked, _context: names.append(asked)
            async with site(context=context) as secure:
                toolset = await open_toolset(f"shop.test:{secure.port}=127.0.0.1")
                asking = toolset.tools[0].call({"url": f"https://shop.test:{secure.port}/"}, None)
                if name == "shop.test":
                    assert (await asking).text.endswith("hello")
                    assert secure.asked[0][2]["host"] == f"shop.test:{secure.port}"
                else:
                    with pytest.raises(ToolFault, match=r"[Cc]ertificate|CERTIFICATE"):
                        await asking
                    assert not secure.asked
        assert names == ["shop.test", "shop.test"]

    asyncio.run(run())


def test_an_address_of_six_is_reached_by_itself_alone() -> None:
    async def run() -> None:
        async with site(host="::1") as good:
            toolset = await open_toolset(f"http://[::1]:{good.port}")
            result = await toolset.tools[0].call({"url": f"http://[0:0::1]:{good.port}/a"}, None)
            assert result.text.endswith("hello")
            assert good.asked[0][2]["host"] == f"[::1]:{good.port}"
            with pytest.raises(ToolFault):
                await toolset.tools[0].call({"url": f"http://[::ffff:127.0.0.1]:{good.port}/"}, None)

    try:
        asyncio.run(run())
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_a_list_without_hosts_is_a_mistake() -> None:
    with pytest.raises(UserError, match="needs a host"):
        asyncio.run(open_toolset(" "))


def test_opening_asks_nobody() -> None:
    toolset = asyncio.run(open_toolset("http://localhost:9+nowhere.invalid"))
    assert [tool.name for tool in toolset.tools] == ["http_get", "http_send"]
    assert "nowhere.invalid" in toolset.tools[0].description
    assert all(tool.parameters["additionalProperties"] is False for tool in toolset.tools)


# --- pages as text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a<p>b", "a\nb"),
        ("a<!-- <p>hidden -->b", "ab"),
        ("<script>if (a < b) '</p>'</script>x", "x"),
        ("<SCRIPT>x</SCRIPT >y", "y"),
        ("<style>p{}</style>z", "z"),
        ("<a href='https://x.example/?a=1&amp;b=2'>go</a>", "go (https://x.example/?a=1&b=2)"),
        ("<a href=javascript:alert(1)>no</a>", "no"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 | 2 |"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ('<p title="a > b">c</p>', "c"),
        ("&lt;b&gt; &eacute; &#x41;", "<b> é A"),
        ("<p>never ends <a href='", "never ends"),
        ("<!-- never ends", ""),
        ("a\n\n  b\tc", "a b c"),
    ],
)
def test_a_page_is_read_as_a_reader_sees_it(html: str, text: str) -> None:
    assert text_of(html) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "<a ",
        "<a href='",
        "<script>",
        "</",
        "<!",
        "<a \"'",
        "&",
        "<p",
        "<a href=x>",
        "<?",
        "<a/",
        "&#x",
        "< ",
    ],
)
def test_a_page_takes_linear_time(piece: str) -> None:
    def seconds(times: int) -> float:
        began = time.process_time()
        text_of(piece * times)
        return time.process_time() - began

    seconds(1000)
    assert seconds(2_000_000 // len(piece)) < 20  # quadratic: hours


@given(
    st.lists(
        st.sampled_from(["<", ">", "a", "p", "/", "!--", "-->", "script", "'", '"', " ", "=", "&amp;", "href", "é"])
    ).map("".join)
)
def test_any_page_becomes_text(html: str) -> None:
    assert "\n\n" not in text_of(html)
