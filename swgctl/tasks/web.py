"""HTTP for downloads: http and https alone, wherever a server redirects to, and no password in any message."""

import base64
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

SCHEMES = ("http", "https")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Refuses a redirect to another scheme, such as ftp or file; what was asked by HEAD is asked by HEAD there."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in SCHEMES:
            raise urllib.error.HTTPError(shown(req.full_url), code, f"it redirects to {scheme}", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request and req.get_method() == "HEAD":  # urllib makes it a GET
            request.method = "HEAD"
        return request


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # an empty one: `build_opener` adds file, ftp and data
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def open(url: str, timeout: float, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
    """The response to a request.  A user and a password in the URL are sent to its host alone, as Basic credentials.

    Raises urllib.error.HTTPError and URLError, OSError, http.client.HTTPException, and ValueError for a malformed URL.
    """
    credentials, bare = _split(url)
    request = urllib.request.Request(bare, headers=headers or {}, method=method)
    if credentials:
        token = base64.b64encode(urllib.parse.unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return _opener().open(request, timeout=timeout)


def shown(url: str) -> str:
    """A URL as it may be printed and kept: without user and password, also where it is malformed."""
    return re.sub(r"^([A-Za-z][\w+.-]*:)?(//)?.*@", r"\1\2", url, flags=re.DOTALL)


def _split(url: str) -> tuple[str, str]:
    """`user:password`, or an empty string, and the URL without it.  Raises ValueError where an @ is elsewhere."""
    parts = urllib.parse.urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=host).geturl() if at else url
    if "@" in bare:
        raise ValueError("an @ in a URL that does not end its user and password is written %40, and a / in those %2F")
    return credentials, bare
