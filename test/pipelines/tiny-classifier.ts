// A saved classifier so small that it is made and loaded in no time.

import * as mp from "../../lib/index.js";

export const TEXTS = [
  "the food was great",
  "the service was terrible and the food was cold and nobody cared at all",
  "great",
  "not great but not terrible",
  "cold",
];

/** Writes a classifier with new weights, large enough for answers to differ, and its tokenizer. */
export async function saveTinyClassifier(
  directory: string,
  config: Partial<mp.DistilBertConfig> = {},
): Promise<void> {
  const tokenizer = mp.TextTokenizer.train(TEXTS, { vocabSize: 80, minFrequency: 1 });
  mp.manualSeed(7);
  const model = new mp.DistilBertForSequenceClassification({
    vocabSize: tokenizer.vocabSize,
    padTokenId: tokenizer.padId,
    maxPositionEmbeddings: 24,
    dim: 16,
    nLayers: 1,
    nHeads: 2,
    hiddenDim: 32,
    initializerRange: 0.5,
    numLabels: 3,
    labelNames: ["bad", "fair", "good"],
    ...config,
  });
  await model.saveAs(directory, { tokenizer });
  model.dispose();
}
