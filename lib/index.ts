// The public names of the library; docs: the modules they come from.

export * from "./errors.js";
export { finfo, promoteTypes, DTYPES } from "./dtype.js";
export type { Device, DType, FloatDType, FloatInfo, TypedArray } from "./dtype.js";
export type { Shape } from "./shape.js";
export { getNumThreads, setNumThreads } from "./native.js";

export { Tensor } from "./core/tensor.js";
export type { BackwardOptions } from "./core/tensor.js";
export { grad } from "./core/tape.js";
export type { GradOptions } from "./core/tape.js";
export { checkpoint } from "./core/checkpoint.js";
export { customOp } from "./core/custom-op.js";
export type { BackwardContext, CustomOpDefinition, OutputsAndSaved } from "./core/custom-op.js";
export { tidy } from "./core/scope.js";
export {
  enableGrad,
  getDefaultDtype,
  getFloat32MatmulPrecision,
  getRandomState,
  isGradEnabled,
  manualSeed,
  noGrad,
  setDefaultDtype,
  setFloat32MatmulPrecision,
  setRandomState,
  withDefaultDtype,
  withFloat32MatmulPrecision,
} from "./core/context.js";
export type { MatmulPrecision } from "./core/context.js";
export { policyOf } from "./core/policy.js";
export type { CastPolicy } from "./core/policy.js";
export { CudaGraph } from "./core/graph.js";
export type { GraphOptions } from "./core/graph.js";
export { cuda, memory } from "./core/memory.js";
export type { DeviceProperties, MemoryStatistics } from "./core/memory.js";

export * from "./ops/index.js";

export * as nn from "./nn/index.js";

export * as optim from "./optim/index.js";
export {
  Adam,
  AdamW,
  clipGradNorm,
  clipGradValue,
  LRScheduler,
  lrScheduler,
  Optimizer,
  SGD,
} from "./optim/index.js";
export * as hub from "./io/hub/index.js";
export type { HubOptions, HubProgress } from "./io/hub/index.js";
export {
  inspectSafetensors,
  loadCheckpoint,
  loadSafetensors,
  saveCheckpoint,
  saveSafetensors,
} from "./io/index.js";
export type {
  CheckpointValue,
  LoadSafetensorsOptions,
  NamedTensors,
  SafetensorsSummary,
  SaveSafetensorsOptions,
  Stateful,
} from "./io/index.js";

export {
  AutoModelForSequenceClassification,
  BertForSequenceClassification,
  BertModel,
  DistilBertForSequenceClassification,
  DistilBertModel,
  LlamaForCausalLM,
  resolvePretrained,
  RobertaForSequenceClassification,
  RobertaModel,
  SequenceClassifier,
} from "./models/index.js";
export type {
  AnySequenceClassifier,
  BertConfig,
  BodyOptions,
  CausalInputs,
  CausalOutput,
  ClassificationInputs,
  ClassificationOutput,
  ClassifierConfig,
  DistilBertConfig,
  EncoderFacts,
  EncoderInputs,
  EncoderOutput,
  LlamaConfig,
  LoadReport,
  Mismatch,
  ModelFiles,
  PretrainedOptions,
  ProblemType,
  RopeScaling,
  SaveOptions,
} from "./models/index.js";
export {
  batchTensors,
  collateTexts,
  collateTokens,
  DataLoader,
  encodeDataset,
  encodeFile,
  findDataFiles,
  loadTextDataset,
  loadTextSplits,
  padBatch,
  splitDataset,
  stratifiedSplit,
  streamTexts,
  TextTokenizer,
  TokenDataset,
} from "./data/index.js";
export type {
  BadRow,
  BadRowPolicy,
  BadRowReport,
  BatchTensors,
  CollateTextsOptions,
  DataFile,
  DataFiles,
  DataLoaderOptions,
  DataLoaderState,
  Dataset,
  EncodedDataset,
  EncodeDatasetOptions,
  EncodedFile,
  EncodeFileOptions,
  LabelledBatch,
  LoadedTextDataset,
  LoadedTextSplits,
  Shuffle,
  Split,
  SplitOptions,
  TextDataset,
  TextDatasetOptions,
  TextRow,
  TextSample,
  TextSplitsOptions,
  TextStreamOptions,
  TokenBatch,
  TokenSample,
  TokenStore,
  WorkerTask,
} from "./data/index.js";
export { autocast, getAutocastDtype, GradScaler, isAutocastEnabled } from "./amp/index.js";
export type {
  AutocastOptions,
  GradScalerOptions,
  GradScalerState,
  RepeatedSkips,
  ScalableOptimizer,
  ScalerStage,
  SkipAlarm,
  StepResult,
} from "./amp/index.js";

export {
  CSVLogger,
  Fabric,
  FABRIC_STATE,
  formatWatchReport,
  parsePrecision,
  PRECISIONS,
  seedEverything,
} from "./fabric/index.js";
export type {
  ClipOptions,
  CSVLoggerOptions,
  FabricBackwardOptions,
  FabricModule,
  FabricOptimizer,
  FabricOptions,
  LayerHealth,
  Logger,
  PrecisionInput,
  PrecisionMode,
  PrecisionName,
  SetupOptions,
  TensorHealth,
  Watch,
  WatchOptions,
  WatchReport,
} from "./fabric/index.js";

export { pipeline } from "./pipelines/index.js";
export type {
  Classification,
  ClassifyOptions,
  PipelineTask,
  ScoreFunction,
  TextClassificationOptions,
  TextClassificationPipeline,
} from "./pipelines/index.js";
