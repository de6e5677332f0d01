"""What settings of other servers are called here: by meaning, since no spelling leads there.

From the flags of vLLM 0.33, SGLang 0.5, llama.cpp's server and TGI. Knows no values: those may be
written differently. Called by options.py and by the command line.
"""

from collections.abc import Collection

MODEL = "MODEL, the first argument"

# Flags without their dashes, dashes inside as underscores -> the setting here, or MODEL.
_SAME: dict[str, str] = {
    name: ours
    for ours, names in {
        MODEL: "model model_path model_id model_url m hf_repo hf hfr hf_file hff tokenizer",
        "host": "hostname",
        "port": "http_port",
        "workers": "api_server_count",
        "api_keys": "api_key api_key_file",
        "tls_cert": "ssl_certfile ssl_cert_file",
        "tls_key": "ssl_keyfile ssl_key_file",
        "cors_origins": "allowed_origins cors_allow_origin cors",
        "allowed_hosts": "trusted_hosts",
        "drain_seconds": "shutdown_timeout",
        "queue_seconds": "queue_timeout",
        "max_waiting": "max_concurrent_requests max_queued_requests",
        "send_timeout_s": "timeout to",
        "ping_seconds": "sse_ping_interval",
        "log_level": "uvicorn_log_level log_verbosity lv verbosity",
        "log_format": "json_output",
        "otel_endpoint": "otlp_traces_endpoint otlp_endpoint",
        "access_log": "disable_log_requests disable_uvicorn_access_log log_requests log_disable",
        "served_model_name": "alias a",
        "chat_template": "chat_template_file",
        "default_chat_template_kwargs": "chat_template_kwargs",
        "tool_notation": "tool_call_parser",
        "reasoning_notation": "reasoning_parser reasoning_format",
        "thinking_token_budget": "reasoning_budget",
        "hf_token": "hft",
        "revision": "tokenizer_revision code_revision",
        "task": "runner convert embedding embeddings reranking rerank is_embedding",
        "tp": "tensor_parallel_size tensor_parallel tp_size num_shard",
        "dp": "data_parallel_size data_parallel dp_size",
        "expert_parallel": "enable_expert_parallel ep_size",
        "device": "n_gpu_layers gpu_layers ngl dev",
        "devices": "tensor_split ts main_gpu mg split_mode sm",
        "max_model_len": "ctx_size c context_length max_total_tokens max_context_len",
        "max_num_seqs": "parallel np max_running_requests max_batch_size cont_batching",
        "max_num_batched_tokens": "batch_size b ubatch_size ub chunked_prefill_size "
        "max_batch_prefill_tokens max_prefill_tokens",
        "kv_cache_bytes": "gpu_memory_utilization kv_cache_memory_bytes mem_fraction_static "
        "cuda_memory_fraction num_gpu_blocks_override max_total_num_tokens cache_ram",
        "kv_cache_dtype": "cache_type_k ctk cache_type_v ctv",
        "prefix_caching": "enable_prefix_caching disable_radix_cache cache_reuse",
        "block_size": "page_size",
        "quantization": "load_in_4bit quantize",
        "threads": "t threads_batch tb",
        "exact": "enable_deterministic_inference batch_invariant",
        "enforce_eager": "disable_cuda_graph",
        "generation_config": "sampling_defaults",
    }.items()
    for name in names.split()
}

# What is so without being asked for.
_NEEDLESS = {
    "enable_auto_tool_choice": "calls are always found",
    "enable_reasoning": "thoughts are always found",
    "jinja": "a model's own chat template is always used",
    "flash_attn": "attention needs no switch",
    "fa": "attention needs no switch",
    "enable_chunked_prefill": "prompts are always cut to the step's budget",
    "metrics": "/metrics is always there",
    "enable_metrics": "/metrics is always there",
    "trust_remote_code": "no code of a model is ever run",
    "mlock": "weights stay in memory",
    "no_mmap": "weights are read, not mapped",
    "no_webui": "there is no page but /docs",
}


def meant_instead(name: str, known: Collection[str], prefix: str = "") -> str:
    """Say what another server's setting is here, as an end of a sentence; nothing if not known.

    name, known: without the prefix that all settings have where they are written.
    """
    plain = name.lower().strip("-").replace("-", "_")
    if plain in _NEEDLESS:
        return f": {_NEEDLESS[plain]}"
    ours = _SAME.get(plain) or _SAME.get(plain.removeprefix("no_"), "")
    if ours == MODEL:
        return f"; here it is {MODEL}"
    written = next((each for each in known if each.lower().replace("-", "_") == ours), "")
    return f"; here it is {prefix}{written}" if written else ""
