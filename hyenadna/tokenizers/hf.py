"""The nucleotide tokenizer behind transformers' interface (extra ``transformers``, version 5).

Importing this module makes ``AutoTokenizer.from_pretrained(folder)`` work for every folder that hyenadna writes, without remote code.
Ids, case and ambiguity policy are those of `hyenadna.tokenizers.CharacterTokenizer`, which does the work. For bulk encoding use that
class itself: transformers handles each letter as a Python object.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizer

from hyenadna.tokenizers.character import Ambiguous, CharacterTokenizer

__all__ = ["HyenaDNATokenizer", "HyenaDNATransformersConfig"]


class HyenaDNATransformersConfig(PreTrainedConfig):  # type: ignore[misc]
    """Tells transformers which tokenizer belongs to ``"model_type": "hyenadna"``; holds whatever config.json has."""

    model_type = "hyenadna"


class HyenaDNATokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Single-nucleotide tokenizer with the interface of transformers.

    Parameters
    ----------
    case_sensitive, ambiguous
        As for `CharacterTokenizer`.
    append_sep
        Put [SEP] behind every sequence when special tokens are asked for, as the published ``-hf`` tokenizers do. Off by
        default: hyenadna's models see sequences without special tokens.
    settings
        Further settings of `transformers.PreTrainedTokenizer`. Padding is on the right, where it changes no other position.

    Examples
    --------
    >>> HyenaDNATokenizer()("ACGTn")["input_ids"]
    [7, 8, 9, 10, 11]
    """

    model_input_names = ("input_ids", "attention_mask")
    vocab_files_names: dict[str, str] = {}  # noqa: RUF012 - transformers' own class attribute
    padding_side = "right"

    def __init__(
        self,
        *,
        case_sensitive: bool = False,
        ambiguous: Ambiguous = "n",
        append_sep: bool = False,
        **settings: Any,
    ) -> None:
        self._characters = CharacterTokenizer(case_sensitive=case_sensitive, ambiguous=ambiguous)
        self._id_of_token = {token: i for i, token in enumerate(self._characters.tokens)}
        for role, token in (
            ("cls_token", "[CLS]"), ("sep_token", "[SEP]"), ("eos_token", "[SEP]"), ("bos_token", "[BOS]"),
            ("mask_token", "[MASK]"), ("pad_token", "[PAD]"), ("unk_token", "[UNK]"),
        ):  # fmt: skip
            settings.setdefault(role, token)
        settings["special_tokens_pattern"] = "eos" if append_sep else "none"
        super().__init__(
            case_sensitive=case_sensitive, ambiguous=ambiguous, append_sep=append_sep, **settings
        )

    @property
    def vocab_size(self) -> int:
        """Number of token ids, 12."""
        return self._characters.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token."""
        return dict(self._id_of_token)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        if token in self._id_of_token and len(token) > 1:
            return self._id_of_token[token]
        return int(self._characters.encode(token)[0])

    def _convert_id_to_token(self, index: int) -> str:
        return self._characters.tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens to a sequence; [UNK] reads as N."""
        return "".join("N" if token == "[UNK]" else token for token in tokens)

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write nothing: the vocabulary is fixed."""
        return ()


AutoConfig.register("hyenadna", HyenaDNATransformersConfig, exist_ok=True)
AutoTokenizer.register(HyenaDNATransformersConfig, tokenizer_class=HyenaDNATokenizer, exist_ok=True)
