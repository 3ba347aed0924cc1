/**
 * Fails if a file breaks a rule of form: length, name, opening comment, default export, barrel, deep relative import.
 *
 * A check of `deno task ok`.
 *
 * @module
 */

import { basename, join } from "node:path";
import { codeOnly, isTestCode, report, ROOT, sourceFiles } from "./source_tree.ts";

const MAX_LINES = 600;
const MAX_TEST_LINES = 800;
/** Names that say nothing about what a file or folder holds. */
const BANNED_NAMES = ["util", "utils", "common", "helper", "helpers", "misc"];

if (import.meta.main) {
  const files = await sourceFiles();
  const violations: string[] = [];
  for (const path of files) violations.push(...checkFile(path, await Deno.readTextFile(join(ROOT, path))));
  report("limits", violations, `${files.length} files within the rules`);
}

/** The violations in one file, as `path: reason`. */
export function checkFile(path: string, text: string): string[] {
  const found: string[] = [];
  const lines = text.split("\n").length - 1;
  const limit = isTestCode(path) ? MAX_TEST_LINES : MAX_LINES;
  if (lines > limit) found.push(`${lines} lines, the limit is ${limit}`);
  if (!/^[a-z0-9_]+\.ts$/.test(basename(path))) found.push("the file name is not snake_case");
  const parts = path.replace(/(_test)?\.ts$/, "").split("/");
  const banned = parts.find((part) => BANNED_NAMES.includes(part));
  if (banned) found.push(`"${banned}" says nothing about the contents`);
  if (!path.endsWith("_test.ts") && !/^\s*\/\*\*/.test(text)) found.push("no opening /** … */ comment");
  const code = codeOnly(text);
  if (/^export\s+default\b/m.test(code)) found.push("default export");
  if (path !== "mod.ts" && /^export\s+\*\s/m.test(code)) found.push("re-exports everything (barrel file)");
  if (/^(import|export|\})[^"\n]*"(\.\.\/){2}/m.test(text)) {
    found.push("relative import across two folders: use an alias");
  }
  return found.map((reason) => `${path}: ${reason}`);
}
