/**
 * Fails if documentation is out of step with the tree: dead links, missing or long folder READMEs, a long ARCHITECTURE,
 * things `mod.ts` exports without a word about them.
 *
 * A check of `deno task ok`. Only links within the project are looked at.
 *
 * @module
 */

import { dirname, join, normalize, relative } from "node:path";
import { report, ROOT } from "./source_tree.ts";

const MAX_ARCHITECTURE_LINES = 200;
const MAX_FOLDER_README_LINES = 10;
/** Folders whose README may be longer: it is their manual. */
const MANUALS = ["scripts/guest"];
/** The page whose tables name test files and parts of tests' names. */
const TEST_TABLES = "docs/upstream-tests.md";
/** What users of the library see. */
const LIBRARY = "mod.ts";
const DOCUMENT_FOLDERS = ["docs", "scripts", "tests", "src", "ffi", "schemas"];

if (import.meta.main) {
  const documents = await findDocuments();
  const violations: string[] = [];
  for (const path of documents) {
    const text = await Deno.readTextFile(join(ROOT, path));
    violations.push(...await checkDocument(path, text));
    if (path === TEST_TABLES) violations.push(...await checkTestTables(path, text));
  }
  for (const folder of await foldersThatNeedReadme()) {
    if (!documents.includes(`${folder}/README.md`)) violations.push(`${folder}: no README.md`);
  }
  violations.push(...undocumented(await lintLibrary()));
  report("docs", violations, `${documents.length} documents, links and lengths fine`);
}

/** The violations in one document. */
export async function checkDocument(path: string, text: string): Promise<string[]> {
  const found: string[] = [];
  const lines = text.trimEnd().split("\n").length;
  if (path === "ARCHITECTURE.md" && lines > MAX_ARCHITECTURE_LINES) {
    found.push(`${path}: ${lines} lines, the limit is ${MAX_ARCHITECTURE_LINES}`);
  }
  const folder = dirname(path);
  const isFolderReadme = path.endsWith("/README.md") && !path.startsWith("docs/") &&
    !MANUALS.includes(folder);
  if (isFolderReadme && lines > MAX_FOLDER_README_LINES) {
    found.push(`${path}: ${lines} lines, the limit for a folder's README is ${MAX_FOLDER_README_LINES}`);
  }
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^([a-z]+:|#)/.test(target)) continue;
    const file = normalize(join(folder, target.split("#")[0]));
    await Deno.stat(join(ROOT, file)).catch(() => found.push(`${path}: dead link to ${target}`));
  }
  return found;
}

/**
 * Tests that a page names and that are not there. Behind a file in backquotes come parts of names of tests in it, in double
 * quotes, up to the next file.
 */
export async function checkTestTables(path: string, text: string): Promise<string[]> {
  const found: string[] = [];
  for (const line of text.split("\n").filter((line) => line.startsWith("|"))) {
    let source: string | undefined;
    for (const [, file, name] of line.matchAll(/`([^`]+\.ts)`|"([^"]+)"/g)) {
      if (file !== undefined) {
        source = await Deno.readTextFile(join(ROOT, file)).catch(() => undefined);
        if (source === undefined) found.push(`${path}: no file ${file}`);
      } else if (source !== undefined && !source.includes(name)) {
        found.push(`${path}: no test "${name}" in the file named before it`);
      }
    }
  }
  return found;
}

/** What `deno doc --lint` says about the library. */
async function lintLibrary(): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--lint", join(ROOT, LIBRARY)],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const text = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("");
  // Types inferred from schemas refer to those, which are nobody's business: so there is always something to say.
  if (!text.includes("private-type-ref")) throw new Error(`deno doc: ${text}`);
  return text;
}

/** Places of what has no documentation, out of the text of `deno doc --lint`. */
export function undocumented(lint: string): string[] {
  return Array.from(
    lint.matchAll(/^error\[missing-jsdoc\].*\n *--> (.*)$/gm),
    ([, place]) => `${place}: exported by ${LIBRARY}, without documentation`,
  );
}

async function findDocuments(): Promise<string[]> {
  const found: string[] = [];
  const walk = async (directory: string): Promise<void> => {
    for await (const entry of Deno.readDir(directory)) {
      const path = join(directory, entry.name);
      if (entry.isDirectory) await walk(path);
      else if (entry.name.endsWith(".md")) found.push(relative(ROOT, path));
    }
  };
  for await (const entry of Deno.readDir(ROOT)) if (entry.name.endsWith(".md")) found.push(entry.name);
  for (const folder of DOCUMENT_FOLDERS) await walk(join(ROOT, folder));
  return found.sort();
}

/** The top folders with sources, and the folders directly in `src/`. */
async function foldersThatNeedReadme(): Promise<string[]> {
  const folders = ["ffi", "schemas", "scripts", "tests", "docs"];
  for await (const entry of Deno.readDir(join(ROOT, "src"))) {
    if (entry.isDirectory) folders.push(`src/${entry.name}`);
  }
  return folders.sort();
}
