"""What models of each family write, as their own published chat templates show it.

Recorded by rendering an assistant's message with calls, and cutting off the prompt and the end
token; the last ones are written by hand after their model cards. tests/suites/test_notations.py
does the same anew with every template that it finds.
"""

# ruff: noqa: RUF001, since DeepSeek's marks have letters of their own.

from tests.gateway.notations.more_recorded_outputs import MORE_RECORDED
from tests.gateway.notations.recording import OTHER, THOUGHT, WEATHER, Recorded

FIRST_RECORDED = (
    Recorded(
        "qwen2.5",
        "hermes",
        "",
        "<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>\\n {a}", "day'
        's": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}}\n'
        "</tool_call>\n"
        "<tool_call>\n"
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}\n'
        "</tool_call>",
    ),
    Recorded(
        "qwen3",
        "hermes",
        "think",
        "<think>\n"
        "I think.\n"
        "Yes\n"
        "</think>\n"
        "\n"
        "<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>\\n {a}", "day'
        's": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}}\n'
        "</tool_call>\n"
        "<tool_call>\n"
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}\n'
        "</tool_call>",
        thought=THOUGHT,
    ),
    Recorded(
        "qwen3-coder",
        "qwen3-coder",
        "",
        "<tool_call>\n"
        "<function=get_weather>\n"
        "<parameter=city>\n"
        'Zürich "ZH" </x>\n'
        " {a}\n"
        "</parameter>\n"
        "<parameter=days>\n"
        "[1, 2]\n"
        "</parameter>\n"
        "<parameter=deep>\n"
        '{"a": "b", "c": [true]}\n'
        "</parameter>\n"
        "<parameter=metric>\n"
        "True\n"
        "</parameter>\n"
        "<parameter=n>\n"
        "2.5\n"
        "</parameter>\n"
        "</function>\n"
        "</tool_call>\n"
        "<tool_call>\n"
        "<function=other_tool>\n"
        "<parameter=city>\n"
        "Bern\n"
        "</parameter>\n"
        "<parameter=days>\n"
        "[]\n"
        "</parameter>\n"
        "</function>\n"
        "</tool_call>",
    ),
    Recorded(
        "qwen3.5",
        "qwen3-coder",
        "think",
        "I think.\n"
        "Yes\n"
        "</think>\n"
        "\n"
        "<tool_call>\n"
        "<function=get_weather>\n"
        "<parameter=city>\n"
        'Zürich "ZH" </x>\n'
        " {a}\n"
        "</parameter>\n"
        "<parameter=days>\n"
        "[1, 2]\n"
        "</parameter>\n"
        "<parameter=deep>\n"
        '{"a": "b", "c": [true]}\n'
        "</parameter>\n"
        "<parameter=metric>\n"
        "True\n"
        "</parameter>\n"
        "<parameter=n>\n"
        "2.5\n"
        "</parameter>\n"
        "</function>\n"
        "</tool_call>\n"
        "<tool_call>\n"
        "<function=other_tool>\n"
        "<parameter=city>\n"
        "Bern\n"
        "</parameter>\n"
        "<parameter=days>\n"
        "[]\n"
        "</parameter>\n"
        "</function>\n"
        "</tool_call>",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "glm-4.6",
        "glm",
        "think",
        "\n"
        "<think>I think.\n"
        "Yes</think>\n"
        "<tool_call>get_weather\n"
        "<arg_key>city</arg_key>\n"
        '<arg_value>Zürich "ZH" </x>\n'
        " {a}</arg_value>\n"
        "<arg_key>days</arg_key>\n"
        "<arg_value>[1, 2]</arg_value>\n"
        "<arg_key>deep</arg_key>\n"
        '<arg_value>{"a": "b", "c": [true]}</arg_value>\n'
        "<arg_key>metric</arg_key>\n"
        "<arg_value>true</arg_value>\n"
        "<arg_key>n</arg_key>\n"
        "<arg_value>2.5</arg_value>\n"
        "</tool_call>\n"
        "<tool_call>other_tool\n"
        "<arg_key>city</arg_key>\n"
        "<arg_value>Bern</arg_value>\n"
        "<arg_key>days</arg_key>\n"
        "<arg_value>[]</arg_value>\n"
        "</tool_call>",
        thought=THOUGHT,
    ),
    Recorded(
        "gemma-4",
        "gemma4",
        "gemma4",
        "<|channel>thought\n"
        "I think.\n"
        "Yes\n"
        '<channel|><|tool_call>call:get_weather{city:<|"|>Zürich "ZH" </x>\n'
        ' {a}<|"|>,days:[1,2],deep:{a:<|"|>b<|"|>,c:[true]},metric:true,n:2.5}<tool_cal'
        'l|><|tool_call>call:other_tool{city:<|"|>Bern<|"|>,days:[]}<tool_call|>',
        thought=THOUGHT,
    ),
    Recorded(
        "gpt-oss",
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>I think.\n"
        "Yes<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary jso"
        'n<|message|>{"city": "Zürich \\"ZH\\" </x>\\n {a}", "days": [1, 2], "deep": {"a":'
        ' "b", "c": [true]}, "metric": true, "n": 2.5}',
        thought=THOUGHT,
        called=(WEATHER,),
    ),
    Recorded(
        "deepseek-v3.1",
        "deepseek-v3.1",
        "think",
        '</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city":'
        ' "Zürich \\"ZH\\" </x>\\n {a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, '
        '"metric": true, "n": 2.5}<｜tool▁call▁end｜><｜tool▁call▁begin｜>other_tool<｜tool▁'
        'sep｜>{"city": "Bern", "days": []}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        is_thinking=True,
    ),
    Recorded(
        "mistral-small-3.2",
        "mistral",
        "",
        '[TOOL_CALLS]get_weather[CALL_ID]call00001[ARGS]{"city": "Zürich \\"ZH\\" </x>\\n '
        '{a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.'
        '5}[TOOL_CALLS]other_tool[CALL_ID]call00002[ARGS]{"city": "Bern", "days": []}',
    ),
    Recorded(
        "ministral-3",
        "mistral",
        "mistral-think",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Zürich \\"ZH\\" </x>\\n {a}", "days": [1, '
        '2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}[TOOL_CALLS]othe'
        'r_tool[ARGS]{"city": "Bern", "days": []}',
    ),
    Recorded(
        "mistral-nemo",
        "mistral-array",
        "",
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>'
        '\\n {a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n":'
        ' 2.5}, "id": "call00001"}, {"name": "other_tool", "arguments": {"city": "Bern"'
        ', "days": []}, "id": "call00002"}]',
    ),
    Recorded(
        "llama-3.1",
        "llama3-json",
        "",
        '{"name": "get_weather", "parameters": {"city": "Zürich \\"ZH\\" </x>\\n {a}", "da'
        'ys": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}}',
        called=(WEATHER,),
    ),
    Recorded(
        "granite-4.0",
        "hermes",
        "",
        "<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>\\n {a}", "day'
        's": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}}\n'
        "</tool_call>\n"
        "<tool_call>\n"
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}\n'
        "</tool_call>",
    ),
    Recorded(
        "deepseek-r1",
        "deepseek-r1",
        "think",
        "I think.\nYes</think>\n\nLet me look.\n"
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>other_tool\n"
        '```json\n{"city": "Bern", "days": []}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>other_tool\n"
        '```json\n{"city": "Bern", "days": []}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        told="Let me look.",
        thought=THOUGHT,
        called=(OTHER, OTHER),
        is_thinking=True,
    ),
    Recorded(
        "llama-3.2-pythonic",
        "pythonic",
        "",
        "[get_weather(city='Zürich \"ZH\" </x>\\n {a}', days=[1, 2], deep={'a': 'b', 'c': [True]},"
        ' metric=True, n=2.5), other_tool(city="Bern", days=[])]',
    ),
    Recorded(
        "llama-4",
        "pythonic",
        "",
        "Let me look.<|python_start|>[other_tool(city='Bern', days=())]<|python_end|>",
        told="Let me look.",
        called=(OTHER,),
    ),
    Recorded(
        "llama-3.1-two",
        "llama3-json",
        "",
        '<|python_tag|>{"name": "other_tool", "parameters": {"city": "Bern", "days": []}}; '
        '{"name": "other_tool", "parameters": {"city": "Bern", "days": []}}',
        called=(OTHER, OTHER),
    ),
    Recorded(
        "granite-3.3",
        "granite",
        "granite",
        "<think>I think.\nYes</think><response>Well.</response>"
        '<|tool_call|>[{"name": "other_tool", "arguments": {"city": "Bern", "days": []}},'
        ' {"arguments": {"city": "Bern", "days": []}, "name": "other_tool"}]',
        told="Well.",
        thought=THOUGHT,
        called=(OTHER, OTHER),
    ),
    Recorded(
        "phi-4-mini",
        "phi-4-mini",
        "",
        '<|tool_call|>[{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}]'
        "<|/tool_call|>",
        called=(OTHER,),
    ),
    Recorded(
        "phi-4",
        "phi-4",
        "",
        'functools[{"name": "other_tool", "arguments": {"city": "Bern", "days": []}},\n'
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}]',
        called=(OTHER, OTHER),
    ),
    Recorded(
        "mistral-0.3",
        "mistral-array",
        "",
        '[TOOL_CALLS] [{"name": "other_tool", "arguments": {"city": "Bern", "days": []}, '
        '"id": "a1B2c3D4e"}]',
        called=(OTHER,),
    ),
    Recorded(
        "qwen3-coder-bare",
        "qwen3-coder",
        "",
        "Let me look.\n\n<function=other_tool>\n<parameter=city>\nBern\n</parameter>\n"
        "<parameter=days>\n[]\n</parameter>\n</function>\n</tool_call>",
        told="Let me look.",
        called=(OTHER,),
    ),
    Recorded(
        "gpt-oss-preamble",
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>I think.\nYes<|end|><|start|>assistant<|channel|>commentary"
        "<|message|>Let me look.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.other_tool <|constrain|>json<|message|>{"city":"Bern","days":[]}',
        told="Let me look.",
        thought=THOUGHT,
        called=(OTHER,),
    ),
    Recorded(
        "gpt-oss-answer",
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>I think.\nYes<|end|><|start|>assistant<|channel|>final"
        "<|message|>Well.\n",
        told="Well.\n",
        thought=THOUGHT,
        called=(),
    ),
    Recorded(
        "qwen3-call-in-a-thought",
        "hermes",
        "think",
        "<think>I think.\nYes\n"
        '<tool_call>\n{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}'
        "\n</tool_call>",
        thought=THOUGHT,
        called=(OTHER,),
    ),
    Recorded(
        "qwen3-text-around",
        "hermes",
        "think",
        "<think>\n\n</think>\n\nLet me look.\n\n"
        '<tool_call>\n{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}'
        "\n</tool_call>"
        "\nDone.",
        told="Let me look.\nDone.",
        called=(OTHER,),
    ),
    Recorded(
        "gemma-4-answer",
        "gemma4",
        "gemma4",
        "<|channel>thought\nI think.\nYes\n<channel|>Well: <b>1 < 2</b>.",
        told="Well: <b>1 < 2</b>.",
        thought=THOUGHT,
        called=(),
    ),
)
RECORDED = FIRST_RECORDED + MORE_RECORDED
