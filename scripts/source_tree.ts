/**
 * The project's TypeScript files, and the text of one without comments and string contents.
 *
 * For the checking scripts.
 *
 * @module
 */

import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the checkout. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const TOP_FOLDERS = ["ffi", "schemas", "scripts", "src", "tests"];

/** Paths relative to the root of all TypeScript files of ours, sorted. */
export async function sourceFiles(): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(ROOT)) {
    if (entry.isFile && entry.name.endsWith(".ts")) found.push(entry.name);
  }
  for (const folder of TOP_FOLDERS) await walk(join(ROOT, folder), found);
  return found.sort();
}

async function walk(directory: string, found: string[]): Promise<void> {
  for await (const entry of Deno.readDir(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory) await walk(path, found);
    else if (entry.name.endsWith(".ts")) found.push(relative(ROOT, path));
  }
}

/** True for tests and for what only tests use: exempt from the rules about layers and system access. */
export function isTestCode(path: string): boolean {
  return path.endsWith("_test.ts") || path.startsWith("tests/") || path.split("/").includes("testing");
}

/**
 * The text with comments and the contents of string literals replaced by spaces; line breaks stay, so line numbers
 * do too. Expressions inside template literals are blanked with the rest. Regular expressions are not recognised: a
 * quote character in one hides the rest of its line at most.
 */
export function codeOnly(text: string): string {
  const pattern = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?/g;
  return text.replace(pattern, (match) => match.replace(/[^\n]/g, " "));
}

/** Prints the violations and ends the process: code 1 if there are any. */
export function report(check: string, violations: string[], summary: string): never {
  for (const violation of violations) console.error(violation);
  if (violations.length > 0) {
    console.error(`${check}: ${violations.length} violation${violations.length === 1 ? "" : "s"}`);
    Deno.exit(1);
  }
  console.log(`${check}: ${summary}`);
  Deno.exit(0);
}
