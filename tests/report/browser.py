"""A headless Chromium, driven through a pipe: no driver, no port, no network."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
# The browser reads from descriptor 3 and writes to 4; first both move out of the way.
LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(place), fcntl.F_DUPFD, 10) for place in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page of a browser; ``told`` holds what it said of console, network and errors."""

    def __init__(self, send, receive):
        self._send, self._receive = send, receive
        self._numbers = itertools.count(1)
        self._session, self.told = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.told.append(answer)

    def _next(self):
        letters = bytearray()
        while (letter := self._receive.read(1)) != b"\0":
            assert letter, "the browser ended"
            letters += letter
        return json.loads(letters)

    def open(self, path, width=1280, height=900, code=True):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Emulation.setScriptExecutionDisabled", value=not code)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.told):
            self.told.append(self._next())

    def wait(self, expression):
        """Until an expression holds, checked before every frame; at most 20 s."""
        code = f"""new Promise((done, fail) => {{
          const end = Date.now() + 20000;
          const look = () => ({expression}) ? done(true)
            : Date.now() > end ? fail(new Error("waited in vain")) : setTimeout(look, 20);
          look();
        }})"""
        self.value(code)

    def value(self, expression):
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def drag(self, x, y, dx, dy):
        """With the left button, from (x, y) on the screen."""
        end = x + dx, y + dy
        self._mouse("mousePressed", x, y)
        self._mouse("mouseMoved", *end)
        self._mouse("mouseReleased", *end)

    def hover(self, x, y):
        self._mouse("mouseMoved", x, y, button="none", buttons=0)

    def _mouse(self, kind, x, y, button="left", buttons=1):
        self.call(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1,
        )  # fmt: skip

    def screenshot(self, path, whole=True):
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path):
        found = self.call("Page.printToPDF", printBackground=False)
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self):
        """Errors of code, refused content, and requests for anything but the page itself."""
        found = []
        for event in self.told:
            method, about = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent":
                url = about["request"]["url"]
                found += [] if url.startswith(("file:", "data:")) else [url]
            elif method in ("Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(str(about))
            elif method == "Runtime.consoleAPICalled":
                found.append(str(about))
        return found


@contextlib.contextmanager
def open_browser(folder):
    """A page of a fresh browser, whose profile lies in ``folder``."""
    to_browser, ours = os.pipe()
    theirs, from_browser = os.pipe()
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking",
               "--remote-debugging-pipe", f"--user-data-dir={folder}")  # fmt: skip
    command = [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser)]
    process = subprocess.Popen(
        [*command, PROGRAM, *options],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    with os.fdopen(ours, "wb") as send, os.fdopen(theirs, "rb") as receive:
        try:
            yield Page(send, receive)
        finally:
            process.terminate()
            process.wait(20)
