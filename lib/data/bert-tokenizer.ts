// The tokenizer of BERT's uncased models as tokenizer.json and tokenizer_config.json say it.

type Json = Record<string, unknown>;

/** First entries of a vocabulary. */
export const SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;
/** A longer word is unknown. */
export const MAX_WORD_CHARACTERS = 100;

/** tokenizer.json of BERT's uncased tokenizer, with this vocabulary; it begins with the special tokens. */
export function bertTokenizerJson(vocabulary: readonly string[]): Json {
  const special = (id: string, typeId: number): Json => ({ SpecialToken: { id, type_id: typeId } });
  const sequence = (id: string, typeId: number): Json => ({ Sequence: { id, type_id: typeId } });
  const template = (token: string): Json => ({
    id: token,
    ids: [vocabulary.indexOf(token)],
    tokens: [token],
  });
  const single = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single,
      pair: [...single, sequence("B", 1), special("[SEP]", 1)],
      special_tokens: { "[CLS]": template("[CLS]"), "[SEP]": template("[SEP]") },
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: MAX_WORD_CHARACTERS,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
    },
  };
}

/** tokenizer_config.json beside it. */
export function bertTokenizerConfig(modelMaxLength: number): Json {
  return {
    tokenizer_class: "DistilBertTokenizer",
    do_lower_case: true,
    model_max_length: modelMaxLength,
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
    mask_token: "[MASK]",
  };
}
