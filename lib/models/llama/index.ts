// Decoders of the LLaMA family.

export { LlamaForCausalLM, type CausalInputs, type CausalOutput } from "./llama.js";
export type { LlamaConfig, LlamaModelType } from "./config.js";
export type { RopeScaling } from "./rope.js";
