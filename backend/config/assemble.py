"""Makes a ModelConfig of a family and a file's fields."""

from backend.config.classifier_fields import add_classifier
from backend.config.errors import ModelError, UnknownChoice
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.model_config import ModelConfig
from backend.config.rope_fields import context_length
from backend.config.sizes import check_heads, head_dim
from backend.config.spec import DecoderSpec, EncoderSpec

# Fields that say nothing about what a model computes: how it was trained, where it came from, how
# another program runs it; and those that are read elsewhere.
HARMLESS = frozenset(
    """
    architectures model_type _name_or_path transformers_version torch_dtype dtype use_cache auto_map
    initializer_range attention_dropout hidden_dropout pretraining_tp output_attentions
    output_hidden_states output_router_logits return_dict return_dict_in_generate is_decoder
    is_encoder_decoder add_cross_attention cross_attention_hidden_size chunk_size_feed_forward
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id unk_token_id
    bad_words_ids begin_suppress_tokens suppress_tokens forced_bos_token_id forced_eos_token_id
    task_specific_params problem_type finetuning_task id2label label2id num_labels tokenizer_class
    prefix pruned_heads torchscript tf_legacy_loss use_bfloat16 typical_p temperature top_k top_p
    do_sample max_length min_length num_beams num_beam_groups num_return_sequences
    no_repeat_ngram_size encoder_no_repeat_ngram_size repetition_penalty length_penalty
    early_stopping diversity_penalty exponential_decay_length_penalty output_scores
    remove_invalid_values tie_encoder_decoder gradient_checkpointing router_aux_loss_coef
    _attn_implementation _attn_implementation_autoset attn_implementation unsloth_version
    unsloth_fixed use_mambapy rope_parameters_type quantization_config language_model
    text_config_dtype base_model_tp_plan ignore_index name_or_path license transformers.js_config
    model_max_length max_sequence_length
    """.split()
)

_ENCODER_NOTE = "an encoder reads the prompt, which the decoder answers and does not continue"
_DRAFT_NOTE = "served without its layers for multi-token prediction: they are left out"


def make_config(
    family: Family,
    fields: Fields,
    *,
    name: str,
    vocab_size: int,
    tie_word_embeddings: bool,
    eos_token_ids: tuple[int, ...],
    bos_token_id: int | None,
    stored_dtype: str,
    notes: tuple[str, ...] = (),
) -> ModelConfig:
    """Return the model's configuration.

    Raises ModelError for a field that is wrong, and for one that the family does not know.
    """
    # First: what other absent fields mean may depend on what a family finds.
    try:
        spec = family.spec(fields)
    except UnknownChoice as exc:
        raise ModelError(f"{exc}{_other_code(fields)}") from None
    if isinstance(spec, DecoderSpec):
        spec = add_classifier(spec, fields)
    check_heads(fields)
    num_heads = fields.integer("num_attention_heads")
    if isinstance(spec, DecoderSpec) and spec.encoder:
        notes = (*notes, _ENCODER_NOTE)
    if isinstance(spec, DecoderSpec) and spec.draft_layers:
        notes = (*notes, _DRAFT_NOTE)
    config = ModelConfig(
        family=family.name,
        name=name,
        vocab_size=vocab_size,
        hidden_size=fields.integer("hidden_size"),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=head_dim(fields),
        max_model_len=_max_len(spec, fields),
        spec=spec,
        tie_word_embeddings=tie_word_embeddings and isinstance(spec, DecoderSpec),
        eos_token_ids=eos_token_ids,
        bos_token_id=bos_token_id,
        stored_dtype=stored_dtype,
        notes=notes,
    )
    if astray := fields.astray():
        raise ModelError(
            f"{astray[0]} stands beside text_config, and none in it, where it would count\n"
            "move it into text_config, or remove it"
        )
    fields.harmless(HARMLESS | family.harmless)
    if left := fields.left():
        raise ModelError(
            f"{left[0]} is not known for {family.name} models, and may change what they compute\n"
            "remove it if it changes nothing, or try --model-impl transformers"
        )
    return config


def _other_code(fields: Fields) -> str:
    """Return what may serve a decoder's config.json that ours does not; "" for other files."""
    names = [str(name) for name in fields.raw("architectures", []) or []]
    if fields.kind == "gguf" or not any(name.endswith("ForCausalLM") for name in names):
        return ""
    return "\nperhaps --model-impl transformers serves it"


def _max_len(spec: DecoderSpec | EncoderSpec, fields: Fields) -> int:
    """Return how many tokens a model was trained for: what an encoder has positions for."""
    if isinstance(spec, EncoderSpec) and spec.positions:
        return spec.positions.rows - spec.positions.offset
    if isinstance(spec, DecoderSpec) and spec.encoder:
        return spec.encoder.max_model_len
    return context_length(fields)
