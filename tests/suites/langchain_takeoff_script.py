"""LangChain's classes for Takeoff: TitanTakeoff and TitanTakeoffPro, or TitanTakeoffEmbed.

Run in LangChain's own venv with a server's port, its management port and a model's name, and with
`embed` for a server of vectors. Prints how many of its steps passed.
"""

import sys
import warnings

warnings.simplefilter("ignore")  # LangChain says that these classes will move

from langchain_community.embeddings import (  # type: ignore[import-not-found]  # noqa: E402
    TitanTakeoffEmbed,
)
from langchain_community.llms import (  # type: ignore[import-not-found]  # noqa: E402
    TitanTakeoff,
    TitanTakeoffPro,
)
from takeoff_client import TakeoffClient  # type: ignore[import-not-found]  # noqa: E402

TEXT = "List 3 things to do in London"
URL = "http://127.0.0.1"


def texts(port: int, management_port: int, model: str) -> int:
    """Ask for text, whole, streamed and of a reader that the class itself starts."""
    llm = TitanTakeoff(URL, port, management_port)
    length = {"max_new_tokens": 8, "min_new_tokens": 8}
    answer = llm.invoke(TEXT, **length)
    client = TakeoffClient(URL, port, management_port)
    assert answer == client.generate(TEXT, **length)["text"] != ""
    assert "".join(llm.stream(TEXT, **length)) == answer
    assert llm.batch([TEXT, TEXT], **length) == [answer, answer]
    assert llm.generate([TEXT], **length).generations[0][0].text == answer
    reader = {"model_name": model, "device": "cpu", "consumer_group": "langchain"}
    streaming = TitanTakeoffPro(URL, port, management_port, streaming=True, models=[reader])
    assert streaming.invoke(TEXT)
    assert llm.invoke(TEXT, consumer_group="langchain", **length) == answer
    [made] = client.get_readers()["langchain"]
    client.delete_reader(made["reader_id"])
    return 6


def vectors(port: int, management_port: int, model: str) -> int:
    """Ask for vectors of one text and of several."""
    embed = TitanTakeoffEmbed(URL, port, management_port)
    one = embed.embed_query("hello", consumer_group="primary")
    two = embed.embed_documents(["hello", "abc"], consumer_group="primary")
    assert len(one) == len(two[1]) > 1
    assert max(abs(a - b) for a, b in zip(one, two[0], strict=True)) < 1e-5
    return 2


if __name__ == "__main__":
    ask = vectors if sys.argv[4:] == ["embed"] else texts
    print(ask(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
