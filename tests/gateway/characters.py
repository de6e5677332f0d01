"""The characters that the default model can express.

Its vocabulary has no token for six control characters and for bytes that only unassigned planes
need; those vanish in encoding, in llama.cpp as here (llama_cpp_ids.json.gz has some).
"""

from hypothesis import strategies as st

REPRESENTABLE = st.characters(
    codec="utf-8", exclude_characters="\x04\x06\x13\x14\x16\x1d", max_codepoint=0x3FFFF
)
