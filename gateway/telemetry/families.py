"""What is measured: every family of figures, its name, kind, labels and words, declared once.

Names follow vLLM's where they mean the same, with `unisono_` for `vllm:`. Knows no values.
"""

from dataclasses import dataclass

PREFIX = "unisono_"

# Seconds: they reach from a token in a batch of one on a GPU to a prompt that waits minutes.
_TOKEN_S = tuple(
    milliseconds / 1000
    for milliseconds in (
        *(1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 100),
        *(150, 200, 300, 400, 600, 800, 1000, 2500, 5000, 10_000),
    )
)
_REQUEST_S = (
    *(0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0),
    *(1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0),
)
_TOKENS = tuple(float(2**power) for power in range(18))


@dataclass(frozen=True, slots=True)
class Family:
    """A counter, a gauge, or, with bounds, a histogram."""

    stem: str
    words: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return PREFIX + self.stem


# Each worker counts these; they are added up over all workers.

HTTP_REQUESTS = Family("http_requests", "HTTP exchanges.", ("method", "route", "status"))
HTTP_DURATION = Family(
    "http_request_duration_seconds", "From request line to end of answer.", ("route",), _REQUEST_S
)
FINISHED = Family("request_success", "Sequences that have ended.", ("finished_reason",))
PROMPT_TOKENS = Family("prompt_tokens", "Prompt tokens of requests that have ended.")
CACHED_TOKENS = Family("prompt_tokens_cached", "Those of them found in the prefix cache.")
OUTPUT_TOKENS = Family("generation_tokens", "Tokens generated for requests that have ended.")
RESUMPTIONS = Family("resumptions", "Sequences continued elsewhere after their group died.")
RESUME_WAIT = Family(
    "resumption_wait_seconds", "From a group's death to the next group.", bounds=_REQUEST_S
)

TTFT = Family("time_to_first_token_seconds", "From request to first token.", bounds=_REQUEST_S)
ITL = Family("inter_token_latency_seconds", "Between two tokens of a sequence.", bounds=_TOKEN_S)
TPOT = Family(
    "request_time_per_output_token_seconds",
    "Mean time between tokens of a request.",
    bounds=_TOKEN_S,
)
E2E = Family("e2e_request_latency_seconds", "From request to last token.", bounds=_REQUEST_S)
QUEUE_TIME = Family(
    "request_queue_time_seconds", "From submission to a group.", bounds=(0.001, *_REQUEST_S)
)
PREFILL_TIME = Family(
    "request_prefill_time_seconds", "From a group to the first token.", bounds=_REQUEST_S
)
DECODE_TIME = Family(
    "request_decode_time_seconds", "From the first token to the last.", bounds=_REQUEST_S
)
PROMPT_LENGTH = Family("request_prompt_tokens", "Prompt tokens of a request.", bounds=_TOKENS)
OUTPUT_LENGTH = Family("request_generation_tokens", "Tokens made for a request.", bounds=_TOKENS)

RECORDED = (
    *(HTTP_REQUESTS, HTTP_DURATION, FINISHED, PROMPT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS),
    *(RESUMPTIONS, RESUME_WAIT, TTFT, ITL, TPOT, E2E, QUEUE_TIME, PREFILL_TIME, DECODE_TIME),
    *(PROMPT_LENGTH, OUTPUT_LENGTH),
)

# These are each worker's, as they are now.

QUEUED = Family("num_requests_queued", "Sequences waiting in the gateway for a group.", ("worker",))
# What an autoscaler goes by: more groups are of use while it stays above what clients would wait.
QUEUE_SECONDS = Family(
    "queue_seconds", "How long what waits will take, by the groups' pace of late.", ("worker",)
)

# These are each group's, whatever worker it works for.

_GROUP = ("group",)
GROUP_READY = Family("group_ready", "1 while a group takes work.", _GROUP)
GROUP_STATE = Family(
    "group_state",
    "1 for the state that a group is in, as the supervisor sees it.",
    ("group", "state"),
)
GROUP_NODE = Family("group_node", "1 for the node that a group runs on.", ("group", "node"))
RUNNING = Family("num_requests_running", "Sequences in a group's batch.", _GROUP)
WAITING = Family("num_requests_waiting", "Sequences a group has taken but not begun.", _GROUP)
KV_USAGE = Family("kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", _GROUP)
STEPS = Family("engine_steps", "Forward passes.", _GROUP)
STEP_TIME = Family("engine_step_seconds", "Time of steps by phase.", ("group", "phase"))
ENGINE_PROMPT = Family("engine_prompt_tokens", "Prompt tokens computed.", _GROUP)
ENGINE_OUTPUT = Family("engine_generation_tokens", "Tokens sampled.", _GROUP)
PREEMPTIONS = Family("num_preemptions", "Sequences sent back for want of KV blocks.", _GROUP)
PREFIX_QUERIES = Family("prefix_cache_queries", "Tokens looked up in the prefix cache.", _GROUP)
PREFIX_HITS = Family("prefix_cache_hits", "Tokens found in the prefix cache.", _GROUP)
STATE_SLOTS = Family("state_slots", "Slots of states that running sequences have.", _GROUP)
STATE_SNAPSHOTS = Family("state_snapshots", "States kept for the prefix cache.", _GROUP)
STATE_HITS = Family("state_hits", "Sequences that went on from a kept state.", _GROUP)
STATE_EVICTIONS = Family("state_evictions", "Kept states that were overwritten.", _GROUP)
FULL_GATHERS = Family("full_gathers", "Rows whose logits all had to be gathered.", _GROUP)

# These are each process's, as the supervisor tells.

REFUSED = Family(
    "group_connections_refused",
    "Connections to a group, or of nodes' agents where none is named, that came to nothing.",
    ("group", "reason"),
)
GROUP_RESTARTS = Family("group_restarts", "Times a group was started again.", _GROUP)
WORKER_RESTARTS = Family("worker_restarts", "Times a worker was started again.", ("worker",))
_PROCESS = ("process", "group", "rank")
CPU_TIME = Family("process_cpu_seconds", "User and system time of a process.", _PROCESS)
MEMORY = Family("process_resident_memory_bytes", "Resident memory of a process.", _PROCESS)
START_TIME = Family("start_time_seconds", "When the supervisor started, Unix time.")
INFO = Family("build_info", "The release, and what it serves.", ("version", "model"))
