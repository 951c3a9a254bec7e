// Models with Hugging Face's weight names.

export { AutoModelForSequenceClassification } from "./auto.js";
export type { AnySequenceClassifier } from "./auto.js";
export { BertForSequenceClassification, BertModel } from "./bert.js";
export type { EncoderInputs, EncoderOutput } from "./bert.js";
export type { BertConfig } from "./bert-config.js";
export { SequenceClassifier } from "./classifier.js";
export type { ClassificationInputs, ClassificationOutput } from "./classifier.js";
export type { ClassifierConfig, ProblemType } from "./classifier-config.js";
export { DistilBertForSequenceClassification, DistilBertModel } from "./distilbert.js";
export { DISTILBERT_BASE } from "./distilbert-config.js";
export type { DistilBertConfig } from "./distilbert-config.js";
export type { EncoderFacts } from "./encoder.js";
export { LlamaForCausalLM } from "./llama/index.js";
export type { CausalInputs, CausalOutput, LlamaConfig, RopeScaling } from "./llama/index.js";
export { resolvePretrained } from "./model-files.js";
export type { ModelFiles } from "./model-files.js";
export type { BodyOptions, LoadReport, Mismatch, PretrainedOptions } from "./pretrained.js";
export { RobertaForSequenceClassification, RobertaModel } from "./roberta.js";
export type { SaveOptions } from "./save-pretrained.js";
