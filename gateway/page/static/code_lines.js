// A request as a line of curl and as a few lines of Python. The key is never in them.

// What openai-python knows as arguments; the rest goes into extra_body.
const OPENAI = new Set([
  "model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "logprobs",
  "top_logprobs", "response_format",
]);

export function curlLine(url, path, body, hasKey) {
  const key = hasKey ? ` \\\n  -H "Authorization: Bearer $UNISONO_API_KEY"` : "";
  const json = JSON.stringify({...body, stream: true}, null, 2).replaceAll("'", "'\\''");
  return `curl -N ${url}${path} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${json}'\n`;
}

export function pythonLines(url, body, hasKey) {
  const isChat = "messages" in body;
  const key = hasKey ? 'os.environ["UNISONO_API_KEY"]' : '"none"';
  const entries = Object.entries(body);
  const own = entries.filter(([name]) => OPENAI.has(name));
  const extra = Object.fromEntries(entries.filter(([name]) => !OPENAI.has(name)));
  const lines = own.map(([name, value]) => `    ${name}=${literal(value, "    ")},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${literal(extra, "    ")},`);
  const text = isChat ? "chunk.choices[0].delta.content or \"\"" : "chunk.choices[0].text";
  return [
    ...(hasKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${url}/v1", api_key=${key})`,
    `stream = client.${isChat ? "chat.completions" : "completions"}.create(`,
    ...lines,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    `        print(${text}, end="", flush=True)`,
    "",
  ].join("\n");
}

/** JSON as Python spells it. Its strings are Python's, but for halves of a surrogate pair. */
function literal(value, indent) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const inner = `${indent}    `;
  const parts = isList
    ? value.map((item) => literal(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, inner)}`);
  if (!parts.length) return open + close;
  const line = open + parts.join(", ") + close;
  if (line.length + indent.length <= 88 && !line.includes("\n")) return line;
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent}${close}`;
}
