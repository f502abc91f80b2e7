#!/usr/bin/env python3
"""What does a package mirror answer, and if it does not, what should the person do about it?

  mirror.py offers URL [--proxy URL]    exit 0: the file is there; 1: it is not; 2: no answer, and standard error says what to do
  mirror.py show URL [--proxy URL]      the same, with the file on standard output

Only small files are asked for (signed indexes), with a bound on their size and on the time they may take. Runs with every
Python from 3.6 on, because it is used before anything was installed.
"""

import argparse
import email.utils
import http.client
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Callable, Dict, List, Optional, Tuple

# A server that says nothing for this long is taken for one that will not answer.
SECONDS_TO_WAIT = 8.0
# A whole small file has to be here after this long, also from a server that drips.
SECONDS_IN_ALL = 15.0
# Indexes that are fetched here have some ten kilobytes, Debian's InRelease some 200; anything above this is no index.
MAX_BYTES = 8 << 20
# Signatures and certificates are judged by the clock; further off than this, they are judged wrongly.
MAX_SKEW_SECONDS = 24 * 3600


class Absent(Exception):
    """The server answered, and the file is not there."""


class NoAnswer(Exception):
    """Nothing was learned about the file. The text says why and what to do."""


def skew_sentence(date_header: Optional[str], now: float) -> Optional[str]:
    """A sentence if the server's Date header and this machine's clock are more than a day apart. `now` is in Unix seconds."""
    parsed = email.utils.parsedate_tz(date_header) if date_header else None
    if parsed is None:
        return None
    theirs = email.utils.mktime_tz(parsed)
    if abs(theirs - now) <= MAX_SKEW_SECONDS:
        return None
    here = time.strftime("%Y-%m-%d %H:%M", time.gmtime(now))
    there = time.strftime("%Y-%m-%d %H:%M", time.gmtime(theirs))
    return ("the clock of this machine says %s UTC, the mirror's says %s: set the right time (date --utc --set '%s'), because "
            "signatures and certificates are judged by it" % (here, there, there))


def why(host: str, error: BaseException, proxies: Dict[str, str]) -> str:
    """Names the cause of a failed request in words that say what to do."""
    reason = getattr(error, "reason", error)
    via = sorted(set(proxies.values()))
    how = "through the proxy %s" % ", ".join(via) if via else "directly"
    if via:
        # Whatever happened on the way, happened between here and the proxy.
        host = "the proxy %s" % ", ".join(via)
        how = "for the mirror"
    proxy_hint = ("look whether that proxy is right (http_proxy, https_proxy, apt's Acquire::http::Proxy)" if via else
                  "if this network needs a proxy, set http_proxy and https_proxy and start again")
    if isinstance(reason, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(reason):
        return "%s does not speak TLS on that port: http:// in place of https://?" % host
    if isinstance(reason, ssl.SSLError):
        return ("the certificate of %s is not accepted (%s): is this machine's clock right, are its ca-certificates current?"
                % (host, getattr(reason, "verify_message", "") or reason.reason or reason))
    if isinstance(reason, socket.gaierror):
        return "the name %s cannot be resolved (asked %s): is the network up, is the name right? %s" % (host, how, proxy_hint)
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return "%s does not answer within %d s (asked %s): is the network up? %s" % (host, SECONDS_TO_WAIT, how, proxy_hint)
    if isinstance(reason, ConnectionRefusedError):
        return "%s refuses the connection (asked %s): is the address right? %s" % (host, how, proxy_hint)
    if isinstance(reason, OSError):
        return "%s cannot be reached (asked %s): %s; %s" % (host, how, reason.strerror or reason, proxy_hint)
    return "%s cannot be asked (%s): %s" % (host, how, reason)


def _read(response: "http.client.HTTPResponse", deadline: float, clock: Callable[[], float]) -> bytes:
    parts: List[bytes] = []
    size = 0
    while True:
        part = response.read1(1 << 16) if hasattr(response, "read1") else response.read(1 << 16)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > MAX_BYTES:
            raise NoAnswer("%s sends more than %d MiB where a small index should be: is this a package mirror?"
                           % (response.geturl(), MAX_BYTES >> 20))
        if clock() > deadline:
            raise socket.timeout("timed out")
        parts.append(part)


def fetch(url: str, proxy: Optional[str] = None) -> Tuple[bytes, Optional[str]]:
    """The file at `url` and the server's Date header.

    Raises Absent (404, 410: the server has no such file) or NoAnswer with a sentence.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        raise NoAnswer("%s is no address of a mirror: those begin with http://HOST/, https://HOST/ or file:///" % url)
    handlers = [urllib.request.ProxyHandler({"http": proxy, "https": proxy})] if proxy else []
    proxies = {parts.scheme: proxy} if proxy else {
        k: v for k, v in urllib.request.getproxies().items() if k == parts.scheme and not urllib.request.proxy_bypass(parts.hostname or "")}
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers={"User-Agent": "recon-build", "Cache-Control": "no-cache"})
    begin = time.monotonic()
    try:
        with opener.open(request, timeout=SECONDS_TO_WAIT) as response:
            return _read(response, begin + SECONDS_IN_ALL, time.monotonic), response.headers.get("Date")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise Absent("%s: %d %s" % (url, error.code, error.reason)) from error
        if error.code in (401, 403):
            raise NoAnswer("%s answers %d %s: this machine may not read that mirror; look at its access rules" % (url, error.code, error.reason)) from error
        hint = "the proxy wants a name and a password: http_proxy=http://NAME:PASSWORD@PROXY" if error.code == 407 else "try again later or name another mirror"
        raise NoAnswer("%s answers %d %s: %s" % (url, error.code, error.reason, hint)) from error
    except NoAnswer:
        raise
    except urllib.error.URLError as error:
        if parts.scheme == "file":
            raise Absent("%s: %s" % (url, error.reason)) from error
        raise NoAnswer(why(parts.hostname or url, error, proxies)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(why(parts.hostname or url, error, proxies)) from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["offers", "show"])
    parser.add_argument("url")
    parser.add_argument("--proxy")
    args = parser.parse_args()
    try:
        data, date = fetch(args.url, args.proxy)
    except Absent as absent:
        print(absent, file=sys.stderr)
        return 1
    except NoAnswer as silence:
        print(silence, file=sys.stderr)
        return 2
    skew = skew_sentence(date, time.time())
    if skew:
        print(skew, file=sys.stderr)
        return 2
    if args.command == "show":
        sys.stdout.buffer.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
