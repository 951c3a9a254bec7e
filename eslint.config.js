import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

const nodeGlobals = ["Buffer", "URL", "console", "performance", "process", "setTimeout"];

export default defineConfig(
  {
    ignores: ["build/", "coverage/", "dist/", "out/", "prebuilds/", "**/golden/", "**/generated/"],
  },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-console": "error",
      "object-shorthand": "error",
      "prefer-template": "off",
      "@typescript-eslint/consistent-type-exports": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/no-import-type-side-effects": "error",
      "@typescript-eslint/no-unnecessary-condition": [
        "error",
        { allowConstantLoopConditions: true },
      ],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/only-throw-error": "error",
      "@typescript-eslint/prefer-readonly": "error",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/return-await": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      // Index access is checked by the compiler (noUncheckedIndexedAccess); in a loop over a shape
      // the assertion says what the loop's bounds already do.
      "@typescript-eslint/no-non-null-assertion": "off",
      // Numeric code counts; for-of would hide the index that the next line needs.
      "@typescript-eslint/prefer-for-of": "off",
    },
  },
  {
    // Command-line programs talk to the terminal, tests and benchmarks reach into what they test.
    files: ["lib/cli/**", "bench/**", "examples/**", "scripts/**", "test/**"],
    rules: { "no-console": "off" },
  },
  {
    files: ["bench/**", "examples/**", "test/**"],
    rules: {
      "@typescript-eslint/explicit-module-boundary-types": "off",
      "@typescript-eslint/no-empty-function": "off",
    },
  },
  {
    files: ["**/*.{js,mjs}"],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: {
      ...tseslint.configs.disableTypeChecked.languageOptions,
      globals: Object.fromEntries(nodeGlobals.map((name) => [name, "readonly"])),
    },
  },
  {
    files: ["**/*.{js,mjs}"],
    rules: { "@typescript-eslint/explicit-module-boundary-types": "off" },
  },
);
