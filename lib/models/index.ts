// Models with Hugging Face's weight names.

export { DistilBertForSequenceClassification, DistilBertModel } from "./distilbert.js";
export type { ClassificationInputs, ClassificationOutput } from "./distilbert.js";
export { DISTILBERT_BASE } from "./distilbert-config.js";
export type { DistilBertConfig } from "./distilbert-config.js";
export type { PretrainedOptions } from "./pretrained.js";
