"""A person's path through the page at /, in headless Chromium: ask, watch, stop, mistype a key.

The models are tiny and random, so what is looked at is the page. Nothing but this machine is asked.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.security.key_file import add_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope
from tests.backend.factories import write_tiny_llama
from tests.e2e.server import Server, wait_until
from tests.suites import web_driver
from tests.suites.conftest import MODEL
from tests.suites.model import CHAT_TEMPLATE
from tests.suites.web_driver import (
    BACKSPACE,
    CONTROL,
    ENTER,
    ESCAPE,
    LIMIT_S,
    RELEASE,
    RIGHT,
    Browser,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        web_driver.BROWSER is None or web_driver.DRIVER is None, reason="no Chromium here"
    ),
]

LONG = 12_000  # tokens: more than anybody waits for
BUSY = "#view-chat .is-waiting, #view-chat .is-streaming"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a long context and a template."""
    path = write_tiny_llama(tmp_path_factory.mktemp("page") / MODEL, max_model_len=16_384)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path


@pytest.fixture(scope="module")
def page_server(model: Path) -> Iterator[Server]:
    with Server(model, "--kv-cache-bytes", str(64 << 20)) as server:
        yield server


@pytest.fixture(scope="module")
def driver() -> Iterator[str]:
    with web_driver.driver() as url:
        yield url


@pytest.fixture
def browser(driver: str, tmp_path: Path) -> Iterator[Browser]:
    with web_driver.browser(driver, tmp_path / "profile") as browser:
        yield browser


def visit(browser: Browser, server: Server) -> None:
    """Open the page and wait until it knows the model."""
    browser.open(f"{server.url}/")
    browser.wait_for(lambda: MODEL in browser.text(".welcome h2"), "the model's name")


def fill(browser: Browser, name: str, value: object) -> None:
    """Replace what stands in a field of the settings."""
    browser.type(f".settings [name={name}]", CONTROL + "a" + RELEASE + BACKSPACE + str(value))


def fill_length(browser: Browser, num_tokens: int) -> None:
    """Ask for so many tokens, no fewer: a random model may end anywhere."""
    fill(browser, "max_tokens", num_tokens)
    fill(browser, "min_tokens", num_tokens)


def ask(browser: Browser, words: str) -> None:
    browser.type("#view-chat textarea", words)
    browser.press(CONTROL, ENTER)


def finish(browser: Browser) -> None:
    browser.wait_for(lambda: bool(browser.text("#view-chat .numbers")), "figures")
    browser.wait_for(lambda: not browser.is_shown(BUSY), "the answer's end", 2 * LIMIT_S)


def check_quiet(browser: Browser, server: Server) -> None:
    """Nothing was refused by the policy, nothing failed, nobody else was asked."""
    assert browser.console() == []
    foreign = [
        url
        for url in browser.requests()
        if not url.startswith((server.url, "chrome:", "data:", "about:"))
    ]
    assert foreign == []


def num_running(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/readyz") as answer:
        groups = json.load(answer)["groups"]
    return sum(group["running"] + group["waiting"] for group in groups)


def test_question_is_answered_with_its_speed(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill_length(browser, 40)
    ask(browser, "Hello <b>there</b> & you")
    finish(browser)
    assert browser.text("#view-chat .question") == "Hello <b>there</b> & you"
    assert browser.run("return document.querySelectorAll('#view-chat b').length") == 2, "A and B"
    words = browser.text("#view-chat .numbers")
    assert words.startswith("40 tokens") and "tokens/s" in words and "first token" in words
    ask(browser, "And then?")
    finish(browser)
    browser.wait_for(lambda: browser.text("#announcer") != "", "it is announced")
    assert browser.run("return document.querySelectorAll('#view-chat .answer').length") == 2
    browser.click("#view-chat .turn:last-child .buttons button:nth-child(2)")
    code = browser.text("#code-text")
    assert code.startswith(f"curl -N {page_server.url}/v1/chat/completions")
    assert '"content": "And then?"' in code and '"role": "assistant"' in code
    check_quiet(browser, page_server)


def test_python_of_a_request_is_python(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    for name, value in (("max_tokens", 8), ("top_k", 20), ("stop", "it's\\n")):
        fill(browser, name, value)
    fill(browser, "schema", '{"type": "object", "additionalProperties": false}')
    ask(browser, 'It\'s \\ "quoted" ⁂')
    finish(browser)
    browser.click("#view-chat .buttons button:nth-child(2)")
    browser.click("#code-python")
    code = browser.text("#code-text")
    compile(code, "shown", "exec")
    assert 'extra_body={"top_k": 20}' in code and "False" in code
    assert '"It\'s \\\\ \\"quoted\\" ⁂"' in code and r'stop=["it\'s\n"]'.replace("\\'", "'") in code


def test_escape_stops_the_request_itself(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill_length(browser, LONG)
    ask(browser, "Go on and on")
    browser.wait_for(lambda: num_running(page_server) == 1, "it runs")
    browser.wait_for(lambda: len(browser.text("#view-chat .answer")) > 50, "some text")
    browser.press(ESCAPE)
    wait_until(lambda: num_running(page_server) == 0, 5, "the group runs nothing")
    finish(browser)
    assert "stopped" in browser.text("#view-chat .numbers")
    assert browser.is_shown("#view-chat .composer button.primary")


def test_probabilities_are_told_by_pointer_and_keys(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill_length(browser, 30)
    browser.click("[name=logprobs]")
    ask(browser, "Hello")
    finish(browser)
    script = "return document.querySelectorAll('#view-chat .token').length"
    assert browser.run(script) > 5
    tokens = "[...document.querySelectorAll('#view-chat .token')]"
    browser.run(f"{tokens}.find((token) => token.offsetWidth > 5).id = 'it'")
    browser.hover("#it")
    assert "log-probability" in browser.text(".token-card")
    browser.run("document.querySelector('#view-chat .answer [tabindex]').focus()")
    browser.press(RIGHT)
    assert browser.is_shown("#view-chat .token.is-current")
    check_quiet(browser, page_server)


def test_two_settings_answer_side_by_side(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill_length(browser, 10)
    browser.click(".settings .check input")
    fill_length(browser, 20)
    ask(browser, "Hello")
    finish(browser)
    counts = browser.run(
        "return [...document.querySelectorAll('#view-chat .numbers')].map((n) => n.innerText)"
    )
    assert [words.split()[0] for words in counts] == ["10", "20"]
    assert "max new tokens 20" in browser.text("#view-chat .lane:last-child .lane-head")


def test_compared_conversation_goes_on_from_the_first(
    browser: Browser, page_server: Server
) -> None:
    visit(browser, page_server)
    fill_length(browser, 10)
    ask(browser, "Hello")
    finish(browser)
    browser.click(".settings .check input")
    ask(browser, "And then?")
    browser.wait_for(lambda: bool(browser.text(".lane:last-child .numbers")), "figures of B")
    finish(browser)
    browser.click("#view-chat .lane:last-child .buttons button:nth-child(3)")
    browser.wait_for(lambda: "10 tokens" in browser.text(".lane:last-child .numbers"), "again")
    finish(browser)
    browser.click("#view-chat .lane:last-child .buttons button:nth-child(2)")
    code = browser.text("#code-text")
    assert code.count('"role": "user"') == 2 and code.count('"role": "assistant"') == 1
    assert '"content": "Hello"' in code


def test_two_groups_answer_side_by_side(browser: Browser, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "groups.toml"
    file.write_text('[[groups]]\nname = "quick"\n[[groups]]\nname = "other"\n')
    with Server(model, "--config", file, "--kv-cache-bytes", "64MiB") as server:
        visit(browser, server)
        fill_length(browser, 10)
        browser.wait_for(lambda: browser.is_shown("[name=group]"), "groups to choose from")
        browser.click(".settings .check input")
        browser.click("[name=group] option[value=other]")
        ask(browser, "Hello")
        finish(browser)
        assert "group other" in browser.text("#view-chat .lane:last-child .lane-head")
        browser.click("#view-chat .lane:last-child .buttons button:nth-child(2)")
        assert '"model": "other"' in browser.text("#code-text")


def test_refused_field_is_pointed_out(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill(browser, "temperature", 3)
    ask(browser, "Hello")
    assert browser.text(".field .error:not([hidden])") == "Temperature is from 0 to 2."
    fill(browser, "temperature", "")
    fill(browser, "max_tokens", 4)
    fill(browser, "min_tokens", 5)
    browser.press(CONTROL, ENTER)
    browser.wait_for(lambda: browser.is_shown(".notice.bad"), "the server's refusal")
    assert "'min_tokens': 5 is more than the 4" in browser.text(".field .error:not([hidden])")
    assert browser.run("return document.activeElement.name") == "min_tokens"


def test_completion_goes_on_with_the_text(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    browser.click("#tab-completion")
    fill_length(browser, 12)
    browser.type("#view-completion textarea", "Once upon")
    browser.press(CONTROL, ENTER)
    browser.wait_for(lambda: "12 tokens" in browser.text("#view-completion .numbers"), "the end")
    assert browser.text("#view-completion .text:not(.thought)").startswith("Once upon")


def test_groups_are_shown_live(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    fill_length(browser, LONG)
    ask(browser, "Hello")
    browser.click("#tab-live")
    browser.wait_for(lambda: "ready" in browser.text("#view-live tbody"), "the group's state")
    tiles = "#view-live .tile:nth-child(1) dd"
    browser.wait_for(lambda: not browser.text(tiles).startswith("0"), "its speed")
    assert browser.text("#view-live .tile:nth-child(3) dd").startswith("1")
    browser.click("#tab-chat")
    browser.press(ESCAPE)
    check_quiet(browser, page_server)


def test_key_without_a_right_to_figures_sees_loads(browser: Browser, page_server: Server) -> None:
    visit(browser, page_server)
    browser.run("""
        const real = window.fetch;
        const refusal = JSON.stringify({error: {message: "of scope 'admin'"}});
        window.fetch = (url, options) => String(url).endsWith("/metrics")
          ? Promise.resolve(new Response(refusal, {status: 403})) : real(url, options);
    """)
    browser.click("#tab-live")
    browser.wait_for(lambda: "ready" in browser.text("#view-live tbody"), "the group's load")
    assert "no scope admin" in browser.text("#view-live .sub")
    assert not browser.is_shown("#view-live .tile")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_switch(
    scheme: str, browser: Browser, page_server: Server
) -> None:
    def brightness() -> int:
        shown = browser.run("return getComputedStyle(document.body).backgroundColor")
        return int(shown.removeprefix("rgb(").split(",")[0])

    browser.prefer(scheme)
    visit(browser, page_server)
    assert (brightness() > 128) is (scheme == "light")
    browser.click("#theme-button")
    assert brightness() > 128, "light, whatever the system says"
    browser.click("#theme-button")
    assert brightness() < 128, "dark"
    browser.open(f"{page_server.url}/")
    assert brightness() < 128, "and it is kept"


@pytest.mark.parametrize("tab", ["chat", "completion", "live"])
def test_nothing_sticks_out_at_320_pixels(tab: str, browser: Browser, page_server: Server) -> None:
    browser.resize(320, 640)
    visit(browser, page_server)
    if tab == "chat":
        browser.click("#view-chat .settings-toggle")
        fill_length(browser, 60)
        browser.click(".settings .check input")
        ask(browser, "W" * 200)
        finish(browser)
    browser.click(f"#tab-{tab}")
    if tab == "live":
        browser.wait_for(lambda: "ready" in browser.text("#view-live tbody"), "the groups")
    assert browser.run("return document.documentElement.scrollWidth") == 320
    wide = browser.run(
        "return [...document.querySelectorAll('body *')].filter((e) => e.offsetWidth > 320)"
        ".map((e) => e.className || e.tagName)"
    )
    assert wide == []


def test_wrong_key_is_told_and_asked_for_again(
    browser: Browser, model: Path, tmp_path: Path
) -> None:
    key, kept = create_key("", [KeyScope.INFER])
    add_key(tmp_path / "keys.toml", kept)
    with Server(model, "--api-keys", tmp_path / "keys.toml", "--kv-cache-bytes", "64MiB") as server:
        browser.open(f"{server.url}/")
        browser.wait_for(lambda: browser.is_shown("#key-dialog"), "it asks for a key")
        browser.type("#key-field", f"sk-wrong{ENTER}")
        browser.wait_for(lambda: browser.is_shown("#key-error"), "it is not known")
        assert "not known" in browser.text("#key-error")
        browser.type("#key-field", key + ENTER)
        browser.wait_for(lambda: MODEL in browser.text(".welcome h2"), "the model's name")
        fill_length(browser, 5)
        ask(browser, "Hello")
        finish(browser)
        browser.click("#view-chat .buttons button:nth-child(2)")
        assert "$UNISONO_API_KEY" in browser.text("#code-text")
        assert key not in browser.run("return document.documentElement.outerHTML")
        urls = browser.requests()
        assert f"{server.url}/v1/chat/completions" in urls
        assert not [url for url in urls if key in url]
        assert browser.run("return sessionStorage.length + localStorage.length") == 1
        assert key not in server.stderr


def test_answer_goes_on_when_a_rank_dies(browser: Browser, model: Path) -> None:
    with Server(model, "--kv-cache-bytes", "64MiB") as server:
        visit(browser, server)
        fill_length(browser, 1000)
        ask(browser, "Hello")
        browser.wait_for(lambda: len(browser.text("#view-chat .answer")) > 50, "some text")
        os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
        waiting = "#view-chat .answer .notice"
        browser.wait_for(lambda: "No group is working" in browser.text(waiting), "it says so")
        finish(browser)
        assert browser.text("#view-chat .numbers").startswith("1000 tokens")
        assert not browser.is_shown("#view-chat .notice")


def test_answer_that_cannot_go_on_says_so(browser: Browser, model: Path) -> None:
    with Server(model, "--kv-cache-bytes", "64MiB") as server:
        visit(browser, server)
        fill_length(browser, LONG)
        ask(browser, "Hello")
        browser.wait_for(lambda: len(browser.text("#view-chat .answer")) > 50, "some text")
        os.kill(server.session, signal.SIGKILL)
        browser.wait_for(lambda: browser.is_shown("#view-chat .notice.bad"), "a message")
        assert "connection ended" in browser.text("#view-chat .notice.bad")
        browser.wait_for(lambda: browser.text("#status") == "Not reachable", "its state")
        browser.click("#view-chat .notice.bad button")
        browser.wait_for(
            lambda: "cannot be reached" in browser.text("#view-chat .notice.bad"), "trying again"
        )


# Answers to a chat as this server would, whatever was asked: pieces come one by one.
FAKE_ANSWER = """
const [pieces] = arguments, real = window.fetch;
window.fetch = (url, options) => {
  if (!String(url).endsWith("/chat/completions")) return real(url, options);
  const lines = pieces.map((delta) => `data: ${JSON.stringify({choices: [{delta}]})}\\n\\n`);
  const body = [...lines, "data: [DONE]\\n\\n"].map((line) => new TextEncoder().encode(line));
  return Promise.resolve(new Response(new ReadableStream({
    start(controller) { for (const part of body) controller.enqueue(part); controller.close(); },
  })));
};
"""


def answered(browser: Browser, server: Server, *pieces: dict[str, str]) -> None:
    """Open the page and have a question answered with these pieces."""
    visit(browser, server)
    browser.run(FAKE_ANSWER, pieces)
    ask(browser, "Hello")
    finish(browser)


def test_thoughts_are_folded(browser: Browser, page_server: Server) -> None:
    thought = [{"reasoning_content": "Let me "}, {"reasoning_content": "see."}]
    answered(browser, page_server, *thought, {"content": "Paris."})
    assert browser.text(".thoughts summary") == "Thoughts (3 words)"
    assert not browser.is_shown(".thoughts .text") and browser.text(".markdown") == "Paris."
    browser.click(".thoughts summary")
    assert browser.text(".thoughts .text") == "Let me see."


def test_text_of_a_model_is_never_code(browser: Browser, page_server: Server) -> None:
    evil = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
    thought, text = (
        {"reasoning_content": evil},
        {"content": f"{evil}\n\n- **{evil}**\n\n[a](javascript:1)"},
    )
    answered(browser, page_server, thought, text)
    script = "return document.querySelectorAll('main :is(img, script, iframe, a, object)').length"
    assert browser.run(script) == 0
    assert browser.run("return document.title") != "1"
    assert browser.text(".markdown p") == evil and browser.text(".markdown strong") == evil
    refused = "document.querySelector('.answer').innerHTML = '<i>a</i>'"
    script = f"try {{ {refused} }} catch (error) {{ return error.name }}"
    assert browser.run(script) == "TypeError", "Trusted Types hold whoever forgets"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_markup_is_the_same_however_it_comes(
    size: int, browser: Browser, page_server: Server
) -> None:
    text = (
        "# Rivers\nTwo *big* ones, 2 * 3 * 4:\n\n1. **Nile**\n   - long\n   - `old`\n2. Rhine\n\n"
        "> quoted\n\n```python\nprint(1 < 2)  # **not bold**\n\nx = 1\n```\nDone **but"
    )
    pieces = [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    answered(browser, page_server, *pieces)
    tags = browser.run(
        "return [...document.querySelectorAll('.markdown *')].map((e) => e.localName).join(' ')"
    )
    assert tags == "p p em ol li strong ul li li code li blockquote pre code p"
    assert browser.text(".markdown pre") == "print(1 < 2)  # **not bold**\n\nx = 1"
    assert browser.text(".markdown p:last-child") == "Done **but"
    assert "2 * 3 * 4" in browser.text(".markdown")
