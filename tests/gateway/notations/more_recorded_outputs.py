"""What models of more families write: see recorded_outputs.py.

The last ones are written by hand, of families whose templates show no calls.
"""

# ruff: noqa: RUF001, since DeepSeek's marks have letters of their own.

from tests.gateway.notations.recording import OTHER, THOUGHT, WEATHER, Recorded

MORE_RECORDED = (
    Recorded(
        "kimi-k2",
        "kimi-k2",
        "",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Zürich \\"ZH\\" </x>\\n {a}", "days'
        '": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}<'
        "|tool_call_end|><|tool_call_begin|>functions.other_tool:1<|tool_call_a"
        'rgument_begin|>{"city": "Bern", "days": []}<|tool_call_end|><|tool_cal'
        "ls_section_end|>",
    ),
    Recorded(
        "kimi-k3",
        "kimi-k3",
        "kimi-k3",
        "I think.\n"
        "Yes<|close|>think<|sep|><|open|>response<|sep|><|close|>response<|sep|"
        '><|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><'
        '|open|>argument key="city" type="string"<|sep|>Zürich "ZH" </x>\n'
        ' {a}<|close|>argument<|sep|><|open|>argument key="days" type="array"<|'
        'sep|>[1, 2]<|close|>argument<|sep|><|open|>argument key="deep" type="o'
        'bject"<|sep|>{"a": "b", "c": [true]}<|close|>argument<|sep|><|open|>ar'
        'gument key="metric" type="boolean"<|sep|>true<|close|>argument<|sep|><'
        '|open|>argument key="n" type="number"<|sep|>2.5<|close|>argument<|sep|'
        '><|close|>call<|sep|><|open|>call tool="other_tool" index="2"<|sep|><|'
        'open|>argument key="city" type="string"<|sep|>Bern<|close|>argument<|s'
        'ep|><|open|>argument key="days" type="array"<|sep|>[]<|close|>argument'
        "<|sep|><|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|"
        ">",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "minimax-m1",
        "minimax-m1",
        "",
        "<tool_calls>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>\\n {a'
        '}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "'
        'n": 2.5}}\n'
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}\n'
        "</tool_calls>",
    ),
    Recorded(
        "minimax-m2",
        "minimax-m2",
        "think",
        "I think.\n"
        "Yes\n"
        "</think>\n"
        "\n"
        "\n"
        "<minimax:tool_call>\n"
        '<invoke name="get_weather">\n'
        '<parameter name="city">Zürich "ZH" </x>\n'
        " {a}</parameter>\n"
        '<parameter name="days">[1, 2]</parameter>\n'
        '<parameter name="deep">{"a": "b", "c": [true]}</parameter>\n'
        '<parameter name="metric">true</parameter>\n'
        '<parameter name="n">2.5</parameter>\n'
        "</invoke>\n"
        '<invoke name="other_tool">\n'
        '<parameter name="city">Bern</parameter>\n'
        '<parameter name="days">[]</parameter>\n'
        "</invoke>\n"
        "</minimax:tool_call>",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "minimax-m3",
        "minimax-m3",
        "minimax-m3",
        "<mm:think>I think.\n"
        "Yes</mm:think>]<]minimax[>[<tool_call>\n"
        ']<]minimax[>[<invoke name="get_weather">]<]minimax[>[<city>Z'
        'ürich "ZH" </x>\n'
        " {a}]<]minimax[>[</city>]<]minimax[>[<days>]<]minimax[>[<ite"
        "m>1]<]minimax[>[</item>]<]minimax[>[<item>2]<]minimax[>[</it"
        "em>]<]minimax[>[</days>]<]minimax[>[<deep>]<]minimax[>[<a>b]"
        "<]minimax[>[</a>]<]minimax[>[<c>]<]minimax[>[<item>true]<]mi"
        "nimax[>[</item>]<]minimax[>[</c>]<]minimax[>[</deep>]<]minim"
        "ax[>[<metric>true]<]minimax[>[</metric>]<]minimax[>[<n>2.5]<"
        "]minimax[>[</n>]<]minimax[>[</invoke>\n"
        ']<]minimax[>[<invoke name="other_tool">]<]minimax[>[<city>Be'
        "rn]<]minimax[>[</city>]<]minimax[>[<days>]<]minimax[>[</days"
        ">]<]minimax[>[</invoke>\n"
        "]<]minimax[>[</tool_call>",
        thought=THOUGHT,
    ),
    Recorded(
        "minimax-m3-text",
        "minimax-m3",
        "minimax-m3",
        "</mm:think>Hello,\n]] world <item>!",
        told="Hello,\n]] world <item>!",
        called=(),
    ),
    Recorded(
        "apriel-1.6-15b-thinker-fixed",
        "apriel",
        "apriel",
        "I think.\n"
        "Yes\n"
        "[BEGIN FINAL RESPONSE]\n"
        "\n"
        '<tool_calls>[{"name": "get_weather", "arguments": {"city": "Zürich \\"Z'
        'H\\" </x>\\n {a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "met'
        'ric": true, "n": 2.5}}, {"name": "other_tool", "arguments": {"city": "'
        'Bern", "days": []}}]</tool_calls>',
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "command-r7b-12-2024-tool_use",
        "command-a",
        "command-a",
        "<|START_THINKING|>I think.\n"
        "Yes<|END_THINKING|><|START_ACTION|>[\n"
        '    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"'
        'city": "Zürich \\"ZH\\" </x>\\n {a}", "days": [1, 2], "deep": {"a": "b", '
        '"c": [true]}, "metric": true, "n": 2.5}},\n'
        '    {"tool_call_id": "1", "tool_name": "other_tool", "parameters": {"c'
        'ity": "Bern", "days": []}}\n'
        "]<|END_ACTION|>",
        thought=THOUGHT,
    ),
    Recorded(
        "apertus-8b-instruct",
        "apertus",
        "apertus",
        '<|tools_prefix|>[{"get_weather": {"city": "Zürich \\"ZH\\" </x>\\n {a}", '
        '"days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": '
        '2.5}}, {"other_tool": {"city": "Bern", "days": []}}]<|tools_suffix|>',
    ),
    Recorded(
        "seed-oss",
        "seed-oss",
        "seed-oss",
        "<seed:think>I think.\n"
        "Yes</seed:think>\n"
        "<seed:tool_call>\n"
        "<function=get_weather>\n"
        '<parameter=city>Zürich "ZH" </x>\n'
        " {a}</parameter>\n"
        "<parameter=days>[1, 2]</parameter>\n"
        "<parameter=deep>{'a': 'b', 'c': [True]}</parameter>\n"
        "<parameter=metric>True</parameter>\n"
        "<parameter=n>2.5</parameter>\n"
        "</function>\n"
        "</seed:tool_call>\n"
        "<seed:tool_call>\n"
        "<function=other_tool>\n"
        "<parameter=city>Bern</parameter>\n"
        "<parameter=days>[]</parameter>\n"
        "</function>\n"
        "</seed:tool_call>",
        thought=THOUGHT,
    ),
    Recorded(
        "deepseek-v3.2",
        "deepseek-v3.2",
        "think",
        "I think.\n"
        "Yes</think>\n"
        "\n"
        "<｜DSML｜function_calls>\n"
        '<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Zürich "ZH" </x>\n'
        " {a}</｜DSML｜parameter>\n"
        '<｜DSML｜parameter name="days" string="false">[1, 2]</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="deep" string="false">{"a": "b", "c": [true]}</｜'
        "DSML｜parameter>\n"
        '<｜DSML｜parameter name="metric" string="false">true</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="n" string="false">2.5</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        '<｜DSML｜invoke name="other_tool">\n'
        '<｜DSML｜parameter name="city" string="true">Bern</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">[]</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        "</｜DSML｜function_calls>",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "deepseek-v4",
        "deepseek-v4",
        "think",
        "I think.\n"
        "Yes</think>\n"
        "\n"
        "<｜DSML｜tool_calls>\n"
        '<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Zürich "ZH" </x>\n'
        " {a}</｜DSML｜parameter>\n"
        '<｜DSML｜parameter name="days" string="false">[1, 2]</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="deep" string="false">{"a": "b", "c": [true]}</｜'
        "DSML｜parameter>\n"
        '<｜DSML｜parameter name="metric" string="false">true</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="n" string="false">2.5</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        '<｜DSML｜invoke name="other_tool">\n'
        '<｜DSML｜parameter name="city" string="true">Bern</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">[]</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        "</｜DSML｜tool_calls>",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "lfm2.5-8b-a1b",
        "lfm2",
        "think",
        "<think>I think.\n"
        'Yes</think><|tool_call_start|>[get_weather(city=\'Zürich "ZH" </x>\n'
        ' {a}\', days=[1, 2], deep={"a": "b", "c": [true]}, metric=True, n=2.5),'
        " other_tool(city='Bern', days=[])]<|tool_call_end|>",
        thought=THOUGHT,
    ),
    Recorded(
        "hy3",
        "hunyuan",
        "hunyuan",
        "I think.\n"
        "Yes</think:opensource><tool_calls:opensource>\n"
        "<tool_call:opensource>get_weather<tool_sep:opensource>\n"
        "<arg_key:opensource>city</arg_key:opensource>\n"
        '<arg_value:opensource>Zürich "ZH" </x>\n'
        " {a}</arg_value:opensource>\n"
        "<arg_key:opensource>days</arg_key:opensource>\n"
        "<arg_value:opensource>[1, 2]</arg_value:opensource>\n"
        "<arg_key:opensource>deep</arg_key:opensource>\n"
        '<arg_value:opensource>{"a": "b", "c": [true]}</arg_value:opensource>\n'
        "<arg_key:opensource>metric</arg_key:opensource>\n"
        "<arg_value:opensource>true</arg_value:opensource>\n"
        "<arg_key:opensource>n</arg_key:opensource>\n"
        "<arg_value:opensource>2.5</arg_value:opensource>\n"
        "</tool_call:opensource>\n"
        "<tool_call:opensource>other_tool<tool_sep:opensource>\n"
        "<arg_key:opensource>city</arg_key:opensource>\n"
        "<arg_value:opensource>Bern</arg_value:opensource>\n"
        "<arg_key:opensource>days</arg_key:opensource>\n"
        "<arg_value:opensource>[]</arg_value:opensource>\n"
        "</tool_call:opensource>\n"
        "</tool_calls:opensource>",
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "solar-open-100b",
        "solar",
        "solar",
        "<|think|>I think.\n"
        "Yes<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>call00000"
        '<|tool_call:name|>get_weather<|tool_call:args|>{"city": "Zürich \\"ZH\\"'
        ' </x>\\n {a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric'
        '": true, "n": 2.5}<|tool_call:end|><|tool_call:begin|>call00001<|tool_'
        'call:name|>other_tool<|tool_call:args|>{"city": "Bern", "days": []}<|t'
        "ool_call:end|>",
        thought=THOUGHT,
    ),
    Recorded(
        "gigachat3-10b-a1.8b",
        "gigachat3",
        "",
        "<|message_sep|>\n"
        "\n"
        "function call<|role_sep|>\n"
        '{"name": "get_weather", "arguments": {"city": "Zürich \\"ZH\\" </x>\\n {a'
        '}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, "metric": true, "'
        'n": 2.5}}',
        called=(WEATHER,),
    ),
    Recorded(
        "gigachat3.1-10b-a1.8b",
        "gigachat3.1",
        "",
        '<|function_call|>{"name": "get_weather", "arguments": {"city": "Zürich'
        ' \\"ZH\\" </x>\\n {a}", "days": [1, 2], "deep": {"a": "b", "c": [true]}, '
        '"metric": true, "n": 2.5}}',
        called=(WEATHER,),
    ),
    Recorded(
        "functionary-medium-v3.1",
        "functionary-v3.1",
        "",
        '<function=get_weather>{"city": "Zürich \\"ZH\\" </x>\\n {a}", "days": [1,'
        ' 2], "deep": {"a": "b", "c": [true]}, "metric": true, "n": 2.5}</funct'
        'ion><function=other_tool>{"city": "Bern", "days": []}</function>',
    ),
    Recorded(
        "minicpm5-1b",
        "minicpm5",
        "think",
        "I think.\n"
        "Yes\n"
        "</think>\n"
        "\n"
        '<function name="get_weather"><param name="city"><![CDATA[Zürich "ZH" <'
        "/x>\n"
        ' {a}]]></param><param name="days">[1, 2]</param><param name="deep">{\'a'
        "': 'b', 'c': [True]}</param><param name=\"metric\">True</param><param na"
        'me="n">2.5</param></function>\n'
        '<function name="other_tool"><param name="city">Bern</param><param name'
        '="days">[]</param></function>',
        thought=THOUGHT,
        is_thinking=True,
    ),
    Recorded(
        "command-r-plus",
        "command-r",
        "",
        'I will look.\nAction:\n```json\n[\n    {\n        "tool_name": "other_tool",\n'
        '        "parameters": {\n            "city": "Bern",\n            "days": []\n'
        '        }\n    },\n    {\n        "tool_name": "other_tool",\n'
        '        "parameters": {"city": "Bern", "days": []}\n    }\n]```',
        told="I will look.",
        called=(OTHER, OTHER),
    ),
    Recorded(
        "lfm2",
        "lfm2",
        "",
        '<|tool_call_start|>[other_tool(city="Bern", days=[])]<|tool_call_end|>Let me look.',
        told="Let me look.",
        called=(OTHER,),
    ),
    Recorded(
        "nemotron-nano-v2",
        "nemotron-nano-v2",
        "think",
        "I think.\nYes</think>\n\n"
        '<TOOLCALL>[{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}, '
        '{"name": "other_tool", "arguments": {"city": "Bern", "days": []}}]</TOOLCALL>',
        thought=THOUGHT,
        called=(OTHER, OTHER),
        is_thinking=True,
    ),
    Recorded(
        "command-a-answer",
        "command-a",
        "command-a",
        "<|START_THINKING|>I think.\nYes<|END_THINKING|><|START_RESPONSE|>Well.<|END_RESPONSE|>",
        told="Well.",
        thought=THOUGHT,
        called=(),
    ),
    Recorded(
        "kimi-k3-answer",
        "kimi-k3",
        "kimi-k3",
        "I think.\nYes<|close|>think<|sep|><|open|>response<|sep|>Well.<|close|>response<|sep|>"
        "<|close|>message<|sep|>",
        told="Well.",
        thought=THOUGHT,
        called=(),
        is_thinking=True,
    ),
    Recorded(
        "apriel-answer",
        "apriel",
        "apriel",
        "I think.\nYes\n[BEGIN FINAL RESPONSE]\nWell.\n[END FINAL RESPONSE]",
        told="Well.\n",
        thought=THOUGHT,
        called=(),
        is_thinking=True,
    ),
    Recorded(
        "kimi-k2-calls-in-a-thought",
        "kimi-k2",
        "think",
        "I think.\nYes<|tool_calls_section_begin|><|tool_call_begin|>functions.other_tool:3"
        '<|tool_call_argument_begin|>{"city": "Bern", "days": []}<|tool_call_end|>'
        "<|tool_calls_section_end|>",
        thought=THOUGHT,
        called=(OTHER,),
        is_thinking=True,
    ),
    Recorded(
        "qwen3.5-call-in-the-middle-of-a-thought",
        "qwen3-coder",
        "think",
        "I think.\n<tool_call>\n<function=other_tool>\n<parameter=city>\nBern\n</parameter>\n"
        "<parameter=days>\n[]\n</parameter>\n</function>\n</tool_call>\nYes</think>\n\nWell.",
        told="Well.",
        thought=THOUGHT,
        called=(OTHER,),
        is_thinking=True,
    ),
    Recorded(
        "lfm2.5-call-in-a-thought",
        "lfm2",
        "think",
        "<think>I think.\nYes<|tool_call_start|>[other_tool(city='Bern', days=[])]"
        "<|tool_call_end|></think>Well.",
        told="Well.",
        thought=THOUGHT,
        called=(OTHER,),
    ),
    Recorded(
        "minimax-m2-unknown-call-in-a-thought",
        "minimax-m2",
        "think",
        '<think>I write <minimax:tool_call>\n<invoke name="tool">.</think>Well.',
        told="Well.",
        thought='I write <minimax:tool_call>\n<invoke name="tool">.',
        called=(),
    ),
    Recorded(
        "muse",
        "muse",
        "muse",
        " to=self<|message|>I think.\n"
        "Yes<|eom|><|start|>assistant to=get_weather<|message|><atem:function_calls>\n"
        '<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Zürich "ZH" </x>\n'
        " {a}</atem:parameter>\n"
        '<atem:parameter name="days">[1, 2]</atem:parameter>\n'
        '<atem:parameter name="deep">{"a": "b", "c": [true]}</atem:parameter>\n'
        '<atem:parameter name="metric">true</atem:parameter>\n'
        '<atem:parameter name="n">2.5</atem:parameter>\n'
        "</atem:invoke>\n"
        "</atem:function_calls><|eom|><|start|>assistant to=other_tool<|message|>"
        "<atem:function_calls>\n"
        '<atem:invoke name="other_tool">\n'
        '<atem:parameter name="city">Bern</atem:parameter>\n'
        '<atem:parameter name="days">[]</atem:parameter>\n'
        "</atem:invoke>\n"
        "</atem:function_calls>",
        thought=THOUGHT,
    ),
    Recorded(
        "functionary-v3.2",
        "functionary-v3.2",
        "",
        'get_weather\n{"city": "Z\\u00fcrich \\"ZH\\" </x>\\n {a}", "days": [1, 2], "deep": '
        '{"a": "b", "c": [true]}, "metric": true, "n": 2.5}>>>other_tool\n'
        '{"city": "Bern", "days": []}',
    ),
    Recorded(
        "functionary-v3.2-text",
        "functionary-v3.2",
        "",
        'all\nI look.>>>other_tool\n{"city": "Bern", "days": []}',
        told="I look.",
        called=(OTHER,),
    ),
)
