// Repositories on the Hugging Face hub, and the cache that is shared with its own libraries.

export { HubRepo, openRepo } from "./repo.js";
export { defaultCacheDirectory, HUB_OPTIONS } from "./settings.js";
export type { HubOptions, HubProgress } from "./settings.js";
export { checkInside, isInside, isRepoName } from "./names.js";
