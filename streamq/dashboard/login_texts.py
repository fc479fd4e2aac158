"""What is told to who is not logged in.

Owns these texts and the page on which a login link's token is entered. Decides nothing.
"""

from __future__ import annotations

from typing import Final

TOKEN: Final = "token"  # noqa: S105 - a name
"""The query parameter of a login link."""
DENIED: Final = (
    "403: the request is not authenticated. Log in at the proxy or application in front, or start the "
    "dashboard with `auth=` (on the command line --auth), such as basic:ada:PASSWORD.\n"
)
USE_LINK: Final = (
    "401: login required. Open the login link that the program has printed on its terminal (it ends in "
    "?token=…). It works once; then the program prints a new one. For a login with a password start the "
    "dashboard with `auth=` (on the command line --auth), such as basic:ada:@FILE.\n"
)
LOGIN: Final = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Log in · streamq</title><main><h1>Log in</h1>
<p>The program has printed a login link on its terminal; it ends in ?token=… and works once. Open it, or enter its token:</p>
<form method="get"><label>Token <input name="{TOKEN}" autocomplete="off" required autofocus size="48"></label>
<button>Log in</button></form></main></html>
"""  # noqa: E501 - a page
