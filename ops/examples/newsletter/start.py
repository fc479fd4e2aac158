"""A Django site that sends a newsletter, with everything that it needs in one terminal.

    python start.py [PORT]

    curl -d email=ada@example.com localhost:8000/subscribe    # the link to confirm is in a file in mails/
    python manage.py createsuperuser                          # then write an issue at /admin/ and send it

A reader's row and the task that mails the link are one transaction (the outbox). An issue is sent in pages of
500 readers, at 50 mails a second over all workers. Each mail has a row that is written with it, so a task
that runs again sends nothing, unless its worker died between the mail and the COMMIT.
`python manage.py test` runs the tasks in the tests' own transactions. Rows go to site.sqlite.
"""

import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from streamq.embedded import EmbeddedServer

HERE = Path(__file__).parent


def manage(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(HERE / "manage.py"), *words])


def main(port: str = "8000") -> None:
    with ExitStack() as stack:
        if "STREAMQ_URL" not in os.environ:
            os.environ["STREAMQ_URL"] = stack.enter_context(EmbeddedServer()).url
        assert manage("migrate", "--run-syncdb", "--verbosity", "0").wait() == 0
        worker = manage("streamq", "worker", "--with-daemon", "--no-reload")
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        web = manage("runserver", "--noreload", port)
        stack.callback(web.wait)
        stack.callback(web.terminate)
        with suppress(KeyboardInterrupt):
            web.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
