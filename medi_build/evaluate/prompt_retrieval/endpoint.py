"""A language model behind an OpenAI-compatible endpoint: completions or chat, a few requests at a time."""

import http.client
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from medi_build.errors import EvaluationError, FetchError
from medi_build.evaluate.prompt_retrieval.complete import ESTIMATED, Asked, estimate
from medi_build.ingest.http import Patience, Stopped, Watch, is_passing, opener_to_web, retry_after
from medi_build.waiting import next_of

AT_ONCE = 4
TIMEOUT_SECONDS = 120.0
"""An answer that takes longer is asked for again."""
CHECK_SECONDS = 30.0
KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key, if the endpoint wants one."""


class Endpoint:
    """Answers prompts over HTTP. Satisfies `LanguageModel`.

    A prompt's answer is text; where a task has labels, the caller looks for one in it.
    """

    def __init__(self, url: str, llm: str, timeout: float = TIMEOUT_SECONDS) -> None:
        """Name an endpoint.

        Args:
            url: ``http://HOST/v1``, to which ``/completions`` is added, or a full address that ends in ``/completions``
                or ``/chat/completions``.
            llm: the model's name there.
            timeout: seconds that an answer may take.

        Raises:
            EvaluationError: the URL is none of http or https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise EvaluationError(
                f"--endpoint {url}: has to be an address such as http://localhost:8000/v1 or, for a chat model, "
                "https://HOST/v1/chat/completions"
            )
        path = parts.path.rstrip("/")
        if not path.endswith("/completions"):
            path = f"{path or '/v1'}/completions"
        self._url = parts._replace(path=path).geturl()
        self._chat = path.endswith("/chat/completions")
        self._timeout = timeout
        form = "chat" if self._chat else "completions"
        self.name = llm
        self.identity = f"{form} of {llm}"
        self.about: Mapping[str, Any] = {"model": llm, "endpoint": self._url, "form": form}
        self.tokens = ESTIMATED
        self.window: int | None = None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, estimated from its bytes."""
        return estimate(texts)

    def check(self) -> None:
        """Ask whether anybody is there; what is answered does not matter.

        Raises:
            EvaluationError: nobody answers.
        """
        opener, request = opener_to_web(follow=False), Request(self._url, method="HEAD")
        try:
            opener.open(request, timeout=CHECK_SECONDS).close()
        except HTTPError as error:
            error.close()
        except (URLError, http.client.HTTPException, OSError) as error:
            raise EvaluationError(
                f"--endpoint {self._url}: does not answer ({_reason(error)}); start the server, or name another"
            ) from error

    def answers(self, asked: Sequence[Asked]) -> Iterator[tuple[int, str]]:
        """The number of a prompt and its answer, as they come.

        Raises:
            EvaluationError: the endpoint refuses, does not answer however often it is asked, or answers nonsense.
        """
        jobs: SimpleQueue[int] = SimpleQueue()
        done: SimpleQueue[tuple[int, str | Exception]] = SimpleQueue()
        stop = threading.Event()
        for number in range(len(asked)):
            jobs.put(number)

        def work() -> None:
            while not stop.is_set():
                try:
                    number = jobs.get_nowait()
                except Empty:
                    return
                try:
                    done.put((number, self._ask(asked[number], _UntilStopped(stop))))
                except Stopped:
                    return
                except Exception as error:  # told where the answers are waited for
                    done.put((number, error))

        for _ in range(min(AT_ONCE, len(asked))):
            threading.Thread(target=work, daemon=True).start()  # one that waits for a silent server ends with us
        try:
            for _ in asked:
                number, answer = next_of(done)
                if isinstance(answer, Exception):
                    raise answer
                yield number, answer
        finally:
            stop.set()

    def _ask(self, asked: Asked, watch: Watch) -> str:
        """One answer, however often it takes to get it."""
        patience = Patience(watch)
        while True:
            wait = None
            try:
                return self._answer_in(self._post(asked))
            except HTTPError as error:
                with error:
                    told = error.read(400).decode(errors="replace").strip()
                if not is_passing(error.code):
                    raise EvaluationError(self._refused(error, told)) from error
                problem, wait = f"HTTP {error.code} {error.reason}", retry_after(error.headers.get("Retry-After"))
            except (URLError, http.client.HTTPException, OSError) as error:
                problem = _reason(error)
            try:
                patience.again(problem, False, wait)
            except FetchError as error:
                raise EvaluationError(
                    f"--endpoint {self._url}: {error}; answers so far are kept, the same command goes on from there"
                ) from error

    def _post(self, asked: Asked) -> bytes:
        """What the endpoint sends back."""
        text = {"messages": [{"role": "user", "content": asked.prompt}]} if self._chat else {"prompt": asked.prompt}
        body = {
            "model": self.name,
            **text,
            "max_tokens": asked.answer_tokens,
            "temperature": 0,
            "stop": list(asked.stop),
        }
        headers = {"Content-Type": "application/json", "User-Agent": "medi-build"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        opener = opener_to_web(follow=False)  # the key goes nowhere else
        request = Request(self._url, json.dumps(body).encode(), headers, method="POST")
        with opener.open(request, timeout=self._timeout) as response:
            data: bytes = response.read()
            return data

    def _answer_in(self, data: bytes) -> str:
        """The text of an answer.

        Raises:
            EvaluationError: it is not in the form of the API.
        """
        try:
            choice = json.loads(data)["choices"][0]
            text = choice["message"]["content"] if self._chat else choice["text"]
            if not isinstance(text, str):
                raise TypeError(f"the text is {text!r}")
        except (ValueError, LookupError, TypeError) as error:
            where = "choices[0].message.content" if self._chat else "choices[0].text"
            raise EvaluationError(
                f"--endpoint {self._url}: answered without a text in {where}: {data[:200].decode(errors='replace')!r}; "
                f"is it an OpenAI-compatible endpoint for {'chat' if self._chat else 'completions'}?"
            ) from error
        return text

    def _refused(self, error: HTTPError, told: str) -> str:
        advice = {
            401: f"set {KEY} to a key that it accepts",
            403: f"set {KEY} to a key that it accepts",
            404: "give the address of /completions or /chat/completions, and the model's name there as --llm",
        }.get(error.code, "see what it says; a prompt that is too long wants a smaller --budget")
        return f"--endpoint {self._url}: HTTP {error.code} {error.reason}: {told[:300]}; {advice}"


class _UntilStopped(Watch):
    """Waits until somebody stops it."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wait(self, seconds: float, why: str) -> None:
        """Let time pass, or raise `Stopped`."""
        if self._stop.wait(seconds):
            raise Stopped


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
